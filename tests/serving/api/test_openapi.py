from typing import Any

import pytest
from pydantic import BaseModel

from serving.api.app import create_app
from serving.events.segment import SegmentCall
from serving.schemas.events import EraseRequest, EventsRequest, MergeRequest
from serving.schemas.items import ItemsRequest
from serving.schemas.recommendations import RecommendationsRequest, RecommendationsResponse
from serving.settings import Settings


@pytest.fixture
def document(fake) -> dict[str, Any]:
    return create_app(fake(), Settings()).openapi()


def refs(node: object) -> set[str]:
    if isinstance(node, dict):
        return {r for v in node.values() for r in refs(v)} | ({node["$ref"]} if "$ref" in node else set())
    return {r for v in node for r in refs(v)} if isinstance(node, list) else set()


def test_every_reference_resolves(document) -> None:
    for ref in refs(document):
        node: Any = document
        for step in ref.removeprefix("#/").split("/"):
            node = node[step]


def test_recommendations_are_described(document) -> None:
    operation = document["paths"]["/v1/recommendations"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/RecommendationsRequest"}
    for status in (400, 401, 404, 413, 415, 422, 429, 500, 503):
        assert "application/problem+json" in operation["responses"][str(status)]["content"]
    request = document["components"]["schemas"]["RecommendationRequest"]
    assert request["properties"]["limit"] == {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 100}, {"type": "null"}],
        "default": None,
        "description": "How many products. Unset: what the placement says.",
        "title": "Limit",
    }
    assert request["additionalProperties"] is False


def test_examples_are_valid(document) -> None:
    schemas = document["components"]["schemas"]
    for example in schemas["RecommendationRequest"]["examples"]:
        RecommendationsRequest.model_validate({"requests": [example]})
    for example in schemas["RecommendationsResponse"]["examples"]:
        RecommendationsResponse.model_validate(example)


def test_probes_are_described(document) -> None:
    assert set(document["paths"]["/livez"]["get"]["responses"]) == {"204"}
    assert set(document["paths"]["/readyz"]["get"]["responses"]) == {"200", "204", "503"}


@pytest.mark.parametrize(
    ("path", "statuses", "model"),
    [
        ("/v1/events", {"202"}, EventsRequest),
        ("/v1/events/segment", {"202"}, SegmentCall),
        ("/v1/customers/merge", {"200", "403", "409"}, MergeRequest),
        ("/v1/customers/erase", {"200", "403", "409"}, EraseRequest),
        ("/v1/items", {"200", "403", "409"}, ItemsRequest),
    ],
)
def test_writes_are_described(document, path: str, statuses: set[str], model: type[BaseModel]) -> None:
    (operation,) = document["paths"][path].values()
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{model.__name__}")
    common = {"400", "401", "408", "413", "415", "422", "429", "500", "503"}
    assert statuses | common == set(operation["responses"])
    assert ("409" in statuses) == ("Idempotency-Key" in [p["name"] for p in operation.get("parameters", [])])
    schemas = document["components"]["schemas"]
    for example in schemas[model.__name__].get("examples", []):
        model.model_validate(example)
    for example in schemas["ReceivedEvent"]["examples"]:
        EventsRequest.model_validate({"events": [example]})


def test_the_docs_page_loads_nothing_from_other_hosts(server) -> None:
    page = server.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text.replace("http://www.w3.org", "")
    for path in ("/docs/ui.js", "/docs/ui.css"):
        assert path in page.text
        asset = server.client.get(path)
        assert asset.status_code == 200
        assert len(asset.content) > 100_000
    assert server.client.get("/docs/../settings.py").status_code == 404
