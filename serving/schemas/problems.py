"""Problems: the body of every error response, RFC 9457 `application/problem+json`.

Nothing here repeats what a caller sent, apart from names of fields: responses and logs hold no ids.
"""

import logging
import traceback
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import ErrorDetails, to_json
from starlette.responses import Response

log = logging.getLogger("usual.serving")

MEDIA_TYPE = "application/problem+json"

ProblemCode = Literal[
    "malformed_json",
    "bad_idempotency_key",
    "repeated_header",
    "unauthorized",
    "forbidden",
    "not_found",
    "unknown_placement",
    "method_not_allowed",
    "slow_body",
    "idempotency_conflict",
    "not_following",
    "body_too_large",
    "unsupported_media_type",
    "invalid_request",
    "headers_too_large",
    "slow_headers",
    "too_many_connections",
    "rate_limited",
    "overloaded",
    "internal_error",
    "unavailable",
    "store_unavailable",
    "http_error",
]

_STATUS: dict[ProblemCode, int] = {
    "malformed_json": 400,
    "bad_idempotency_key": 400,
    "repeated_header": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_placement": 404,
    "method_not_allowed": 405,
    "slow_body": 408,
    "idempotency_conflict": 409,
    "not_following": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_request": 422,
    "slow_headers": 408,
    "headers_too_large": 431,
    "too_many_connections": 429,
    "rate_limited": 429,
    "overloaded": 429,
    "internal_error": 500,
    "unavailable": 503,
    "store_unavailable": 503,
}

# Seconds after which to try again: a queue drains within its deadline, a restart takes longer.
_RETRY_AFTER = {429: "1", 503: "5"}

# The rest of such a body is not read.
_CLOSES = {408, 413}

# A body may be wrong in thousands of places; the first ones are enough to mend it.
MAX_ERRORS = 50


class FieldError(BaseModel):
    """One thing that is wrong, and where: a JSON pointer into the request body."""

    pointer: str
    detail: str
    code: str | None = None


class Problem(BaseModel):
    """What went wrong. `type` is about:blank, as `title` is the status's own; `code` is for programs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: ProblemCode
    instance: str | None = None
    """`#` and the answer's X-Request-Id: quote it to find the log line."""
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """Raised to answer with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def problem(code: ProblemCode, detail: str, errors: list[FieldError] | None = None, status: int = 500) -> Problem:
    """Build a problem with the status of its `code` (`http_error` has none: `status` counts)."""
    status = _STATUS.get(code, status)
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code, errors=errors)


def respond(problem: Problem, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Build the HTTP response of a problem.

    Where the status calls for them it has Retry-After, unless `headers` does, and Connection: close.
    """
    all_headers = dict(headers or {})
    if retry := _RETRY_AFTER.get(problem.status):
        all_headers.setdefault("retry-after", retry)
    if problem.status in _CLOSES:
        all_headers["connection"] = "close"
    body = as_dict(problem) | {"instance": f"#{request_id}"}
    return Response(to_json(body), problem.status, all_headers, MEDIA_TYPE)


def as_dict(problem: Problem) -> dict[str, object]:
    """The problem's members that are set."""
    return problem.model_dump(exclude_none=True)


def pointer_to(location: Sequence[int | str]) -> str:
    """The JSON pointer of a location in the body."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in location)


def field_errors(errors: Sequence[ErrorDetails], prefix: str = "") -> list[FieldError]:
    """Convert pydantic's errors, each with the JSON pointer of its location below `prefix`."""
    return [
        FieldError(
            pointer=prefix + pointer_to(error["loc"]),
            detail="This field is not supported" if error["type"] == "extra_forbidden" else error["msg"],
        )
        for error in errors[:MAX_ERRORS]
    ]


def log_failure(event: str, request_id: str, error: BaseException) -> None:
    """Log where `error` came from. Its message may name a customer or an item, so it is left out."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s, request %s\n%s", event, type(error).__name__, request_id, frames)
