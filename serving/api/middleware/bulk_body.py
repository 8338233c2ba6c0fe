"""Bodies of the bulk endpoint, held to the rules of every other path before BentoML reads them.

BentoML chooses a parser by Content-Type: a form or an upload ends in a server error, a text is read as JSON although
any page may send one without asking. What is no JSON, or has another shape, is logged by BentoML with a traceback.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.json_io import read_json, validate_message
from serving.api.middleware.telemetry import BULK_ROUTE
from serving.schemas.problems import ProblemError, respond

MAX_BULK_REQUESTS = 256


class _BulkEnvelope(BaseModel):
    """The body with its requests unchecked: each is checked alone, where it is answered."""

    model_config = ConfigDict(strict=True)

    requests: list[Any] = Field(max_length=MAX_BULK_REQUESTS)


class BulkBodyMiddleware:
    """Wraps BentoML's application, inside the gateway; answers wrong bodies of `BULK_ROUTE` with problems.

    Answers do not say by which software they are made.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != BULK_ROUTE or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            validate_message(await read_json(request), _BulkEnvelope)
        except ProblemError as error:
            await respond(error.problem, request.state.request_id)(scope, receive, send)
            return
        body: bytes | None = await request.body()  # read already

        async def receive_again() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        async def send_unsigned(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message["headers"] if header[0].lower() != b"server"]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive_again, send_unsigned)
