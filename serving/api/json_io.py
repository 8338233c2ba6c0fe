"""JSON in and out: request bodies as validated messages, responses as JSON, problems for what is wrong."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from serving.schemas.problems import ProblemError, field_errors, problem

Message = TypeVar("Message", bound=BaseModel)

# Seconds. A body comes in one piece, or from someone who keeps connections open on purpose.
BODY_TIMEOUT_S = 1.0


async def read_json(request: Request) -> object:
    """Read and parse the request's body. Raises ProblemError."""
    return parse_json(await read_content(request))


async def read_content(request: Request) -> bytes:
    """Read the request's body, which says that it is JSON. Raises ProblemError."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != "application/json":
        raise ProblemError(problem("unsupported_media_type", "Send Content-Type: application/json"))
    if any(coding.strip().lower() not in ("", "identity") for coding in request.headers.getlist("content-encoding")):
        raise ProblemError(problem("unsupported_media_type", "Send the body as it is, without Content-Encoding"))
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.body()
    except TimeoutError:
        detail = f"The body did not arrive within {BODY_TIMEOUT_S:g} s"
        raise ProblemError(problem("slow_body", detail)) from None


def parse_json(content: bytes) -> object:
    """Parse JSON. Raises ProblemError."""
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError(problem("malformed_json", f"The body is not JSON: {error}")) from None


async def read_message(request: Request, message: type[Message]) -> Message:
    """Read the request's body as a `message`. Raises ProblemError."""
    return validate_message(await read_json(request), message)


def parse_message(content: bytes, message: type[Message]) -> Message:
    """Parse and validate a body as a `message`. Raises ProblemError."""
    return validate_message(parse_json(content), message)


def validate_message(body: object, message: type[Message]) -> Message:
    """Validate `body` as a `message`. Raises ProblemError with a pointer to each field that is wrong."""
    try:
        return message.model_validate(body)
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False))
        raise ProblemError(problem("invalid_request", "The body is wrong; `errors` says where", errors)) from None


def json_response(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Respond with `value` as JSON; NaN and infinities become null."""
    return Response(to_json(value, inf_nan_mode="null"), status, headers, media_type="application/json")
