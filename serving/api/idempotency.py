"""`Idempotency-Key`: a write that is sent again is not done again, and gets the answer it got before.

What was answered is kept in the event store with what was written, in one transaction, for a day. Of the key
and the body digests are kept: the body's is made with the key, so that it says nothing to who has not got that.
"""

import hashlib
import re
from collections.abc import Callable

from fastapi import Request, Response

from serving.api.store_writes import written
from serving.event_store import EventStore, Once
from serving.event_store.protocol import Connection
from serving.schemas.problems import ProblemError, problem

HEADER, REPLAYED = "idempotency-key", "idempotency-replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def answered_once(request: Request, store: EventStore | None, write: Callable[[Connection], bytes]) -> Response:
    """The answer, JSON, that `write` gives from the store's connection; the earlier one where the key was sent before.

    Raises ProblemError: for a key that is none, that came with another request before, and as `written`.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return _json(await written(store, lambda s: s.write(write)))
    if not _KEY.fullmatch(key):
        detail = "Idempotency-Key has 1 to 255 visible ASCII characters; a UUID will do"
        raise ProblemError(problem("bad_idempotency_key", detail))
    once = _digests(key.encode(), request.method, request.url.path, await request.body())
    outcome = await written(store, lambda s: s.once(once, write))
    if outcome.answer is None:
        detail = "This Idempotency-Key came with another request before; send a new key with a new request"
        raise ProblemError(problem("idempotency_conflict", detail))
    return _json(outcome.answer, {REPLAYED: "true"} if outcome.replayed else None)


def _digests(key: bytes, method: str, path: str, body: bytes) -> Once:
    secret = hashlib.sha256(key).digest()
    asked = hashlib.blake2b(f"{method} {path}\n".encode() + body, digest_size=16, key=secret)
    return Once(hashlib.blake2b(key, digest_size=16, person=b"idempotency").digest(), asked.digest())


def _json(answer: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(answer, headers=headers, media_type="application/json")
