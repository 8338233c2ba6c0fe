"""What every request passes first: an id, the body limit, and a last net for errors.

Plain ASGI, as it wraps the whole application, other people's routes too.
"""

import re
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import Problem, log_failure, problem, respond

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

# A refused body is read and thrown away up to this many times the limit: a client that is still
# sending would otherwise see a broken connection in place of the answer.
_DRAINED = 8


class Edge:
    """Wraps `app`; a body longer than `max_body_bytes` is refused while it arrives and never kept."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or "request_id" in state:  # a mounted application has an edge of its own
            await self._app(scope, receive, send)
            return
        request_id, declared = uuid4().hex, 0
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE_ID.fullmatch(value):
                request_id = value.decode()
            elif name == b"content-length":
                declared = int(value) if value.isdigit() else 0
        state["request_id"] = request_id
        out = [(b"x-request-id", request_id.encode()), (b"cache-control", b"private, no-store")]
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
                message["headers"] = [*message.get("headers", ()), *out]
            await send(message)

        async def sent(message: Message) -> None:
            if not too_large:  # else it is the application's own reaction to the refused body
                await finished(message)

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


class _TooLarge(Exception):
    pass
