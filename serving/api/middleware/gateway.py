"""What every request passes first: an id, the key, the body limit, and a last net for errors.

Plain ASGI, as it wraps the whole application, other people's routes too.
"""

import re
from typing import Any
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.common.errors import InputError
from serving.api.middleware.api_keys import Guard
from serving.api.middleware.cors import Cors
from serving.api.middleware.rate_limits import rate
from serving.schemas.problems import Problem, log_failure, problem, respond
from serving.settings import Settings

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

# A refused body is read and thrown away up to this many times the limit: a client that is still
# sending would otherwise see a broken connection in place of the answer.
_DRAINED = 8

# What an answer says where its route says nothing else: pages for everybody may be kept.
_UNLESS_GIVEN = [(b"cache-control", b"private, no-store"), (b"x-content-type-options", b"nosniff")]


def options(settings: Settings) -> dict[str, Any]:
    """The arguments of `Edge` that belong to `settings`. Raises InputError where nothing says who may ask."""
    guard = Guard(
        settings.publishable_keys,
        settings.secret_keys,
        settings.open,
        rate(settings.rate_publishable, settings.rate_burst_s),
        rate(settings.rate_secret, settings.rate_burst_s),
    )
    if settings.open and "*" in settings.cors_origins:
        raise InputError("USUAL_CORS_ORIGINS=* with USUAL_OPEN would let any web page write; name the origins")
    cors = Cors(settings.cors_origins) if settings.cors_origins else None
    return {"max_body_bytes": settings.max_body_bytes, "guard": guard, "cors": cors}


class Edge:
    """Wraps `app`: who has no key that will do gets no further, and neither does a page of another origin.

    A body longer than `max_body_bytes` is refused while it arrives and never kept.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, guard: Guard, cors: Cors | None = None) -> None:
        self._app = app
        self._limit = max_body_bytes
        self._guard = guard
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or "request_id" in state:  # a mounted application has an edge of its own
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        sent_id = headers.get(b"x-request-id")
        request_id = sent_id.decode() if sent_id and _SANE_ID.fullmatch(sent_id) else uuid4().hex
        length = headers.get(b"content-length", b"")
        declared = int(length) if length.isdigit() else 0
        state["request_id"] = request_id
        out = [(b"x-request-id", request_id.encode())]
        received, started, too_large = 0, False, False

        async def counted() -> Message:
            nonlocal received, too_large
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit:
                    too_large = True
                    raise _TooLarge
            return message

        async def finished(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                message["headers"] = given + out + [header for header in _UNLESS_GIVEN if header[0] not in names]
            await send(message)

        async def sent(message: Message) -> None:
            if not too_large:  # else it is the application's own reaction to the refused body
                await finished(message)

        if (early := self._early(scope, headers, request_id, out)) is not None:
            await early(scope, receive, finished)
            return
        what: Problem | None = None
        try:
            if declared > self._limit:
                too_large = True
            else:
                await self._app(scope, counted, sent)
        except (_TooLarge, ClientDisconnect):
            pass
        except Exception as error:
            log_failure("unexpected error", request_id, error)
            what = problem("internal_error", "An unexpected error occurred")
        if too_large:
            what = problem("body_too_large", f"A request body may have {self._limit:,} bytes")
        if what is None or started:
            return
        answer = respond(what, request_id)
        if not too_large:
            await answer(scope, receive, finished)
            return
        await finished({"type": "http.response.start", "status": what.status, "headers": answer.raw_headers})
        await finished({"type": "http.response.body", "body": answer.body, "more_body": True})
        while received <= _DRAINED * self._limit:
            message = await receive()
            received += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await finished({"type": "http.response.body"})

    def _early(
        self, scope: Scope, headers: dict[bytes, bytes], request_id: str, out: list[tuple[bytes, bytes]]
    ) -> Response | None:
        """The answer to a request that gets no further; what any answer to it says is added to `out`."""
        if self._cors is not None:
            told, granted = self._cors.headers(headers.get(b"origin"))
            out += told
            if granted and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                out += self._cors.preflight()
                return Response(status_code=204)
        server = scope.get("server")
        refusal = self._guard.check(scope["path"], headers.get(b"authorization"), server and server[0], out)
        return None if refusal is None else respond(refusal.problem, request_id, refusal.headers)


class _TooLarge(Exception):
    pass
