"""The OpenAPI document: handlers read and write bytes themselves, so their messages are named here."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.event_messages import (
    EraseRequest,
    EraseResponse,
    EventsRequest,
    EventsResponse,
    MergeRequest,
    MergeResponse,
)
from serving.problems import MEDIA_TYPE, Problem
from serving.schemas import RecommendationsRequest, RecommendationsResponse
from serving.segment_calls import SegmentCall

_REF = "#/components/schemas/"

_PROBLEMS = {
    400: "The body is not JSON",
    408: "The body did not arrive in time",
    413: "The body is too long",
    415: "The body is not declared as application/json",
    422: "The body, or every request in it, is wrong",
    429: "Too many requests are waiting",
    500: "The ranking failed",
    503: "The server is starting or shutting down",
    504: "The ranking was not ready in time",
}


def _content(media_type: str, schema: str) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REF + schema}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _content(MEDIA_TYPE, "Problem")}


def _route(
    asked: str, answered: str, done: str, status: int = 200, other: dict[int, str] | None = None
) -> dict[str, Any]:
    """Keyword arguments of a route: names of its messages, what its success means, statuses with other meanings."""
    problems = _PROBLEMS | (other or {})
    success = {"description": done, "content": _content("application/json", answered)}
    return {
        "response_model": None,
        "responses": {status: success} | {code: _problem(text) for code, text in problems.items() if text},
        "openapi_extra": {"requestBody": {"required": True, "content": _content("application/json", asked)}},
    }


_WRITES = {429: "", 504: "", 500: "An unexpected error", 503: "The event store is not available"}  # "": not given

RECOMMENDATIONS = _route("RecommendationsRequest", "RecommendationsResponse", "One result per request, in order")
EVENTS = _route("EventsRequest", "EventsResponse", "What was accepted is on disk", 202, _WRITES)
SEGMENT = _route("SegmentCall", "EventsResponse", "What was accepted is on disk", 202, _WRITES)
MERGE = _route("MergeRequest", "MergeResponse", "The two belong together", other=_WRITES)
ERASE = _route("EraseRequest", "EraseResponse", "What was removed", other=_WRITES)

_ASKED: tuple[type[BaseModel], ...] = (RecommendationsRequest, EventsRequest, SegmentCall, MergeRequest, EraseRequest)
_ANSWERED: tuple[type[BaseModel], ...] = (
    RecommendationsResponse,
    EventsResponse,
    MergeResponse,
    EraseResponse,
    Problem,
)


def describe(app: FastAPI) -> None:
    """Give `app` an OpenAPI document that has the schemas its handlers only refer to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            _, models = models_json_schema(
                [*((m, "validation") for m in _ASKED), *((m, "serialization") for m in _ANSWERED)],
                ref_template=_REF + "{model}",
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(models["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
