"""`Idempotency-Key`: a write that is sent again is not repeated, and gets the response of the first time.

The event store keeps the response with the write, in one transaction, for a day. It keeps digests of the key and of
the body; the body's is keyed with the key, so that it reveals nothing without it.
"""

import hashlib
import re
from collections.abc import Callable

from fastapi import Request, Response

from serving.api.store_writes import await_write
from serving.event_store import EventStore, IdempotencyKey
from serving.event_store.protocol import Connection
from serving.schemas.problems import ProblemError, problem

KEY_HEADER, REPLAYED_HEADER = "idempotency-key", "idempotency-replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def write_once(request: Request, store: EventStore | None, write: Callable[[Connection], bytes]) -> Response:
    """Run `write`, which returns JSON, unless the request's key was sent before: then repeat the earlier response.

    Raises ProblemError for a malformed key, for one that came with another request before, and as `await_write`.
    """
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return _json(await await_write(store, lambda s: s.write(write)))
    if not _KEY.fullmatch(key):
        detail = "Idempotency-Key has 1 to 255 visible ASCII characters; a UUID will do"
        raise ProblemError(problem("bad_idempotency_key", detail))
    once = _digests(key.encode(), request.method, request.url.path, await request.body())
    outcome = await await_write(store, lambda s: s.write_once(once, write))
    if outcome.answer is None:
        detail = "This Idempotency-Key came with another request before; send a new key with a new request"
        raise ProblemError(problem("idempotency_conflict", detail))
    return _json(outcome.answer, {REPLAYED_HEADER: "true"} if outcome.replayed else None)


def _digests(key: bytes, method: str, path: str, body: bytes) -> IdempotencyKey:
    secret = hashlib.sha256(key).digest()
    request = hashlib.blake2b(f"{method} {path}\n".encode() + body, digest_size=16, key=secret)
    return IdempotencyKey(hashlib.blake2b(key, digest_size=16, person=b"idempotency").digest(), request.digest())


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, headers=headers, media_type="application/json")
