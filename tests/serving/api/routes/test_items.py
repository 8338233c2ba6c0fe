"""`PATCH /v1/items` over HTTP."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.api.app import create_app
from serving.event_store import EventStore
from serving.recommend.item_overrides import ItemOverride, ItemOverrides
from serving.settings import Settings
from tests.serving.api.test_problems import check
from tests.serving.recommend.test_item_overrides import unavailable


@pytest.fixture
def client(store: EventStore, fake: type) -> Iterator[TestClient]:
    with TestClient(create_app(fake(), Settings(), store=store)) as client:
        yield client


def overlay(client: TestClient) -> ItemOverrides:
    return client.app.state.item_overrides  # type: ignore[attr-defined]


def patch(client: Any, *items: object) -> Any:
    return client.patch("/v1/items", json={"items": list(items)})


def test_in_effect_before_it_is_answered(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.recommend.item_overrides.POLL_EVERY_S", 60)
    response = patch(client, {"item_id": "p1", "available": False}, {"item_id": 17, "available": True, "price": 24.95})
    assert (response.status_code, response.json()) == (200, {"updated": 2})
    assert overlay(client).state.items == {"p1": ItemOverride(False, None), "17": ItemOverride(True, 24.95)}
    assert patch(client, {"item_id": "p1", "price": 3}, {"item_id": "17", "available": None}).json() == {"updated": 2}
    assert overlay(client).state.items == {"p1": ItemOverride(False, 3.0), "17": ItemOverride(None, 24.95)}


def test_another_server_has_it_within_a_second(client: TestClient, open_: Callable, fake: type) -> None:
    with TestClient(create_app(fake(), Settings(), store=open_())) as other:
        patch(client, {"item_id": "p1", "available": False})
        end = time.monotonic() + 1
        while not overlay(other).state.items and time.monotonic() < end:
            time.sleep(0.01)
        assert unavailable(overlay(other).state) == {"p1"}


def test_a_server_that_was_started_again_has_it(client: TestClient, open_: Callable, fake: type) -> None:
    patch(client, {"item_id": "p1", "available": False})
    with TestClient(create_app(fake(), Settings(), store=open_())) as other:
        assert unavailable(overlay(other).state) == {"p1"}


def test_an_item_listed_twice_takes_the_later_values(client: TestClient) -> None:
    response = patch(client, {"item_id": "p1", "available": False, "price": 1}, {"item_id": " p1", "available": True})
    assert response.json() == {"updated": 1}
    assert overlay(client).state.items == {"p1": ItemOverride(True, 1.0)}


def test_a_thousand_at_once(client: TestClient) -> None:
    assert patch(client, *({"item_id": f"p{n}", "price": n} for n in range(1000))).json() == {"updated": 1000}
    assert overlay(client).state.items["p999"] == ItemOverride(None, 999.0)


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        ({"item_id": "p1"}, "/items/1"),
        ({"available": True}, "/items/1/item_id"),
        ({"item_id": "", "available": True}, "/items/1/item_id"),
        ({"item_id": "jane@example.org", "available": True}, "/items/1/item_id"),
        ({"item_id": "x" * 257, "available": True}, "/items/1/item_id"),
        ({"item_id": "a\0b", "available": True}, "/items/1/item_id"),
        ({"item_id": "p1", "available": "yes"}, "/items/1/available"),
        ({"item_id": "p1", "available": 0}, "/items/1/available"),
        ({"item_id": "p1", "price": -0.01}, "/items/1/price"),
        ({"item_id": "p1", "price": "3"}, "/items/1/price"),
        ({"item_id": "p1", "price": True}, "/items/1/price"),
        ({"item_id": "p1", "price": 1e300}, "/items/1/price"),
        ({"item_id": "p1", "price": 1, "title": "Tea"}, "/items/1/title"),
        ("p1", "/items/1"),
    ],
)
def test_one_that_is_wrong_refuses_all(client: TestClient, item: object, pointer: str) -> None:
    problem = check(patch(client, {"item_id": "good", "available": False}, item), 422, "invalid_request")
    assert [e["pointer"] for e in problem["errors"]] == [pointer]
    assert overlay(client).state.items == {}


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": [{"item_id": "p", "price": 1}] * 1001}, [], {"item": 1}])
def test_a_body_of_another_shape(event_server: Any, body: object) -> None:
    check(event_server.client.patch("/v1/items", json=body), 422, "invalid_request")


def test_a_price_that_is_no_number(event_server: Any) -> None:
    for price in ("NaN", "Infinity", "1e400"):
        body = f'{{"items": [{{"item_id": "p1", "price": {price}}}]}}'
        response = event_server.client.patch("/v1/items", content=body, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422), response.text


def test_without_the_store_it_is_not_acknowledged(serve: Callable, fake: type) -> None:
    response = patch(serve(fake()).client, {"item_id": "p1", "available": False})
    check(response, 503, "store_unavailable")
    assert response.headers["retry-after"]
