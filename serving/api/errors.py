"""Exception handlers: every error of the API is a problem document (RFC 9457)."""

from http import HTTPStatus

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from serving.schemas.problems import ProblemCode, ProblemError, problem, respond

_CODES: dict[int, ProblemCode] = {404: "not_found", 405: "method_not_allowed"}
_DETAILS = {404: "There is no such path", 405: "The path exists, but not with this method; see Allow"}


def handle_problem(request: Request, error: Exception) -> Response:
    """Respond with the problem of a `ProblemError`."""
    assert isinstance(error, ProblemError)  # noqa: S101
    return respond(error.problem, request.state.request_id)


def handle_http_error(request: Request, error: Exception) -> Response:
    """Respond to a Starlette `HTTPException`, such as an unknown path, as a problem."""
    assert isinstance(error, HTTPException)  # noqa: S101
    status = error.status_code
    body = problem(_CODES.get(status, "http_error"), _DETAILS.get(status, HTTPStatus(status).phrase), status=status)
    return respond(body, request.state.request_id, dict(error.headers or {}))


async def raise_to_gateway(_: Request, error: Exception) -> Response:
    """Leave an unexpected error to the gateway; Starlette would respond to it in plain text."""
    raise error
