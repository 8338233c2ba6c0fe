"""The OpenAPI document: handlers read and write bytes themselves, so their messages are named here."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.api.idempotency import HEADER, REPLAYED
from serving.api.middleware.api_keys import FREE, PUBLISHABLE
from serving.events.segment import SegmentCall
from serving.schemas.events import (
    EraseRequest,
    EraseResponse,
    EventsRequest,
    EventsResponse,
    MergeRequest,
    MergeResponse,
)
from serving.schemas.items import ItemsRequest, ItemsResponse
from serving.schemas.problems import MEDIA_TYPE, Problem
from serving.schemas.recommendations import (
    ExplainRequest,
    Explanation,
    RecommendationsRequest,
    RecommendationsResponse,
    RefreshResponse,
    ReloadResponse,
    RerankRequest,
)

_REF = "#/components/schemas/"

_PROBLEMS = {
    400: "The body is not JSON",
    408: "The body did not arrive in time",
    413: "The body is too long",
    415: "The body is not declared as application/json, or has a Content-Encoding",
    422: "The body, or every request in it, is wrong",
    429: "Too many requests are waiting",
    500: "The ranking failed",
    503: "The server is starting or shutting down",
}


def _content(media_type: str, schema: str) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REF + schema}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _content(MEDIA_TYPE, "Problem")}


def _answers(answered: str, done: str, status: int, problems: dict[int, str]) -> dict[str, Any]:
    """Keyword arguments of a route: what its success means, and its problems; those without a text are not given."""
    success = {"description": done, "content": _content("application/json", answered)}
    responses = {status: success} | {code: _problem(text) for code, text in problems.items() if text}
    return {"response_model": None, "responses": responses}


def _route(
    asked: str, answered: str, done: str, status: int = 200, other: dict[int, str] | None = None
) -> dict[str, Any]:
    """As `_answers`, with a body: names of the messages, and statuses that mean something else here."""
    body = {"requestBody": {"required": True, "content": _content("application/json", asked)}}
    return {**_answers(answered, done, status, _PROBLEMS | (other or {})), "openapi_extra": body}


def _once(route: dict[str, Any]) -> dict[str, Any]:
    """The same route, as one that takes an Idempotency-Key."""
    text = {"type": "string", "minLength": 1, "maxLength": 255}
    taken = "Unique for each request, such as a UUID: sent again with it within 24 hours, a request is not done again"
    route["openapi_extra"]["parameters"] = [
        {"name": HEADER.title(), "in": "header", "required": False, "description": taken, "schema": text}
    ]
    route["responses"][200]["headers"] = {
        REPLAYED.title(): {"description": "true: this is the answer of before", "schema": {"type": "string"}}
    }
    route["responses"][409] = _problem("The Idempotency-Key came with another request before")
    return route


_WRITES = {429: "", 500: "An unexpected error", 503: "The event store is not available"}  # "": not given

RECOMMENDATIONS = _route(
    "RecommendationsRequest",
    "RecommendationsResponse",
    "One result per request, in order",
    other={404: "There is no such placement"},
)
RERANK = _route("RerankRequest", "Recommendation", "The products in the visitor's order")
EXPLAIN = _route("ExplainRequest", "Explanation", "The ranking and why", other={429: ""})
_SWAPS = {409: "This server follows no directory", 500: "An unexpected error", 503: "The model cannot be served"}
RELOAD = _answers("ReloadResponse", "What is published is served", 200, _SWAPS)
REFRESH = _answers("RefreshResponse", "A snapshot is being made", 202, _SWAPS)
EVENTS = _route("EventsRequest", "EventsResponse", "What was accepted is on disk", 202, _WRITES)
SEGMENT = _route("SegmentCall", "EventsResponse", "What was accepted is on disk", 202, _WRITES)
MERGE = _once(_route("MergeRequest", "MergeResponse", "The two belong together", other=_WRITES))
ERASE = _once(_route("EraseRequest", "EraseResponse", "What was removed", other=_WRITES))
ITEMS = _once(_route("ItemsRequest", "ItemsResponse", "On disk, and in effect", other=_WRITES))

_ASKED: tuple[type[BaseModel], ...] = (
    RecommendationsRequest,
    RerankRequest,
    ExplainRequest,
    EventsRequest,
    SegmentCall,
    MergeRequest,
    EraseRequest,
    ItemsRequest,
)
_ANSWERED: tuple[type[BaseModel], ...] = (
    RecommendationsResponse,
    Explanation,
    EventsResponse,
    MergeResponse,
    EraseResponse,
    ItemsResponse,
    ReloadResponse,
    RefreshResponse,
    Problem,
)

_SCHEMES = {
    "secret": {"type": "http", "scheme": "bearer", "description": "A secret key: everything. Servers only."},
    "publishable": {"type": "http", "scheme": "bearer", "description": "A publishable key: pages may hold it."},
}
_KEYED = {401: "No key, or one that is not known", 429: "The key is used more often than it may be"}
_SECRET_ONLY = {403: "The key is publishable; this needs a secret one"}


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
            _secure(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _secure(document: dict[str, Any]) -> None:
    """Say of each operation which keys will do, as the edge decides it: by the path."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in FREE:
                operation["security"] = []
                continue
            kinds = ("publishable", "secret") if path in PUBLISHABLE else ("secret",)
            operation["security"] = [{kind: []} for kind in kinds]
            refused = _KEYED if path in PUBLISHABLE else _KEYED | _SECRET_ONLY
            for status, description in refused.items():
                operation["responses"].setdefault(str(status), _problem(description))
