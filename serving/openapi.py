"""The OpenAPI document: handlers read and write bytes themselves, so their messages are named here."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from serving.problems import MEDIA_TYPE, Problem
from serving.schemas import RecommendationsRequest, RecommendationsResponse

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


# Keyword arguments of the route.
RECOMMENDATIONS: dict[str, Any] = {
    "response_model": None,
    "responses": {
        200: {
            "description": "One result per request, in order",
            "content": _content("application/json", "RecommendationsResponse"),
        },
        **{status: _problem(description) for status, description in _PROBLEMS.items()},
    },
    "openapi_extra": {
        "requestBody": {"required": True, "content": _content("application/json", "RecommendationsRequest")}
    },
}


def describe(app: FastAPI) -> None:
    """Give `app` an OpenAPI document that has the schemas its handlers only refer to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            _, models = models_json_schema(
                [
                    (RecommendationsRequest, "validation"),
                    (RecommendationsResponse, "serialization"),
                    (Problem, "serialization"),
                ],
                ref_template=_REF + "{model}",
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(models["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
