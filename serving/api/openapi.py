"""The OpenAPI document: request and response schemas of routes that read and write JSON themselves.

FastAPI derives schemas from endpoint signatures; ours take a plain `Request`, so their messages are named here. Each
constant has the keyword arguments of one route.
"""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.api.idempotency import KEY_HEADER, REPLAYED_HEADER
from serving.api.middleware.api_keys import PUBLIC_PATHS, PUBLISHABLE_KEY_PATHS
from serving.events.segment import SegmentCall
from serving.identity.tokens import MAX_LENGTH, TOKEN_STATUSES
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
    ClientResponse,
    ExplainRequest,
    Explanation,
    RecommendationsRequest,
    RecommendationsResponse,
    RefreshResponse,
    ReloadResponse,
    RerankRequest,
)
from serving.schemas.rules import RulesPreviewRequest, RulesPreviewResponse

_REF = "#/components/schemas/"

# Models that the document publishes under the name that clients were generated from.
_PUBLISHED_NAMES = {"EventItem": "Item-Input", "RecommendedItem": "Item-Output"}

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


def _responses(schema: str, success_text: str, status: int, problems: dict[int, str]) -> dict[str, Any]:
    """Build the keyword arguments that describe a route's responses; a problem with an empty text is left out."""
    success = {"description": success_text, "content": _content("application/json", schema)}
    responses = {status: success} | {code: _problem(text) for code, text in problems.items() if text}
    return {"response_model": None, "responses": responses}


def _operation(
    request: str, response: str, success_text: str, status: int = 200, problems: dict[int, str] | None = None
) -> dict[str, Any]:
    """As `_responses`, with a request body. `problems` overrides texts of `_PROBLEMS`, by status."""
    body = {"requestBody": {"required": True, "content": _content("application/json", request)}}
    return {**_responses(response, success_text, status, _PROBLEMS | (problems or {})), "openapi_extra": body}


def _idempotent(route: dict[str, Any]) -> dict[str, Any]:
    """Add the Idempotency-Key, its response header and its conflict to a route."""
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    description = (
        "Unique for each request, such as a UUID: sent again with it within 24 hours, a request is not done again"
    )
    route["openapi_extra"]["parameters"] = [
        {"name": KEY_HEADER.title(), "in": "header", "required": False, "description": description, "schema": schema}
    ]
    route["responses"][200]["headers"] = {
        REPLAYED_HEADER.title(): {"description": "true: this is the answer of before", "schema": {"type": "string"}}
    }
    route["responses"][409] = _problem("The Idempotency-Key came with another request before")
    return route


def _with_token(route: dict[str, Any]) -> dict[str, Any]:
    """Add the visitor token, and the response header that says how it stands with it, to a route."""
    description = "A JWT of the shop's server: with a publishable key, the only proof of a customer"
    token = {"type": "string", "maxLength": MAX_LENGTH}
    route["openapi_extra"].setdefault("parameters", []).append(
        {"name": "X-Visitor-Token", "in": "header", "required": False, "description": description, "schema": token}
    )
    status = {"type": "string", "enum": list(TOKEN_STATUSES)}
    header = {"description": "What the token is, where one came; none but `valid` proves anything", "schema": status}
    success = next(response for code, response in route["responses"].items() if code < 300)
    success.setdefault("headers", {})["X-Visitor-Token-Status"] = header
    return route


_WRITE_PROBLEMS = {429: "", 500: "An unexpected error", 503: "The event store is not available"}  # "": left out

RECOMMENDATIONS = _with_token(
    _operation(
        "RecommendationsRequest",
        "RecommendationsResponse",
        "One result per request, in order",
        problems={404: "There is no such placement"},
    )
)
RERANK = _with_token(_operation("RerankRequest", "Recommendation", "The products in the visitor's order"))
CLIENTS = _responses("ClientResponse", "The device's id", 201, {503: _PROBLEMS[503]})
EXPLAIN = _operation("ExplainRequest", "Explanation", "The ranking and why", problems={429: ""})
_SWAP_PROBLEMS = {
    409: "This server follows no directory",
    500: "An unexpected error",
    503: "The model cannot be served",
}
RELOAD = _responses("ReloadResponse", "What is published is served", 200, _SWAP_PROBLEMS)
REFRESH = _responses("RefreshResponse", "A snapshot is being made", 202, _SWAP_PROBLEMS)
READYZ: dict[str, Any] = {
    "responses": {
        200: {"description": "Requests are answered, and what was published last is not what answers them"},
        503: _problem("The bundle is not warm yet, or every answer is empty"),
    }
}
RULES_PREVIEW = _operation(
    "RulesPreviewRequest", "RulesPreviewResponse", "Both lists, and every rule", problems={404: "No such placement"}
)
EVENTS = _with_token(
    _operation("EventsRequest", "EventsResponse", "What was accepted is on disk", 202, _WRITE_PROBLEMS)
)
SEGMENT = _with_token(_operation("SegmentCall", "EventsResponse", "What was accepted is on disk", 202, _WRITE_PROBLEMS))
MERGE = _idempotent(_operation("MergeRequest", "MergeResponse", "The two belong together", problems=_WRITE_PROBLEMS))
ERASE = _idempotent(_operation("EraseRequest", "EraseResponse", "What was removed", problems=_WRITE_PROBLEMS))
ITEMS = _idempotent(_operation("ItemsRequest", "ItemsResponse", "On disk, and in effect", problems=_WRITE_PROBLEMS))

_REQUEST_MODELS: tuple[type[BaseModel], ...] = (
    RecommendationsRequest,
    RerankRequest,
    ExplainRequest,
    RulesPreviewRequest,
    EventsRequest,
    SegmentCall,
    MergeRequest,
    EraseRequest,
    ItemsRequest,
)
_RESPONSE_MODELS: tuple[type[BaseModel], ...] = (
    RecommendationsResponse,
    ClientResponse,
    Explanation,
    RulesPreviewResponse,
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
_KEY_PROBLEMS = {401: "No key, or one that is not known", 429: "The key is used more often than it may be"}
_SECRET_KEY_PROBLEMS = {403: "The key is publishable; this needs a secret one"}


def install_openapi(app: FastAPI) -> None:
    """Give `app` an OpenAPI document with the schemas that its routes only refer to, and its security schemes."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            _, models = models_json_schema(
                [*((m, "validation") for m in _REQUEST_MODELS), *((m, "serialization") for m in _RESPONSE_MODELS)],
                ref_template=_REF + "{model}",
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(_with_published_names(models["$defs"]))
            _secure(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _with_published_names(definitions: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(definitions)
    for name, published in _PUBLISHED_NAMES.items():
        text = text.replace(f'"{_REF}{name}"', f'"{_REF}{published}"')
    return dict(sorted((_PUBLISHED_NAMES.get(name, name), schema) for name, schema in json.loads(text).items()))


def _secure(document: dict[str, Any]) -> None:
    """Declare for each operation which kinds of key may call it; as in the gateway, the path decides."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in PUBLIC_PATHS:
                operation["security"] = []
                continue
            kinds = ("publishable", "secret") if path in PUBLISHABLE_KEY_PATHS else ("secret",)
            operation["security"] = [{kind: []} for kind in kinds]
            refusals = _KEY_PROBLEMS if path in PUBLISHABLE_KEY_PATHS else _KEY_PROBLEMS | _SECRET_KEY_PROBLEMS
            for status, description in refusals.items():
                operation["responses"].setdefault(str(status), _problem(description))
