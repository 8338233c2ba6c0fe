"""After an erasure no answer tells what a customer bought, on any worker and after a restart."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle
from models.recommender import BundleRecommender, load
from serving.event_store import EventStore, Limits, open_store
from tests.serving.recommend.test_model_watcher import until
from tests.serving.store_events import FOR_EVER, read_events


@pytest.fixture(scope="module")
def saved(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("erased") / "bundle")


@pytest.fixture
def start(serve: Callable, saved: Path, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Start a server over one store: each is a worker of its own."""
    stores: list[EventStore] = []

    def start() -> Any:
        stores.append(open_store(str(tmp_path / "events.sqlite"), Limits(keep_days=FOR_EVER)))
        return serve(load(saved), store=stores[-1])

    yield start
    for store in stores:
        store.close()


def strategy(server: Any, customer: str) -> str:
    (result,) = server.post({"customer_id": customer, "placement": "home.for_you"}).json()["results"]
    return str(result["strategy"])


def explained(server: Any, customer: str) -> int:
    return int(server.client.post("/v1/explain", json={"customer_id": customer}).status_code)


def buyers(bundle: Bundle) -> list[str]:
    return [str(c) for c in BundleRecommender(bundle).snapshot.customers.values[:3].to_pylist()]


def test_no_answer_tells_of_an_erased_customer(start: Callable[[], Any], bundle: Bundle):
    erased, other = (customer for customer in buyers(bundle)[:2])
    one, two = start(), start()
    for server in (one, two):
        assert strategy(server, erased) == strategy(server, other) == "one_to_one"
    unknown = one.post({"customer_id": "never seen", "placement": "home.for_you"}).json()["results"][0]
    assert one.client.post("/v1/customers/erase", json={"customer_id": erased}).status_code == 200
    answer = one.post({"customer_id": erased, "placement": "home.for_you"}).json()["results"][0]
    assert answer["items"] == unknown["items"], "at once"
    assert explained(one, erased) == 422
    until(lambda: strategy(two, erased) == "predictive", within_s=5)
    three = start()
    assert strategy(three, erased) == "predictive", "after a restart"
    for server in (one, two, three):
        assert strategy(server, other) == "one_to_one"
        assert explained(server, other) == 200


def test_a_device_is_erased(start: Callable[[], Any]):
    server = start()
    view = {"name": "view_item", "params": {"items": [{"item_id": "i1"}]}}
    events = [{"event_id": f"e{n}", "client_id": f"d{n}", **view} for n in range(2)]
    assert server.client.post("/v1/events", json={"events": events}).json()["accepted"] == 2
    counts = server.client.post("/v1/customers/erase", json={"client_id": "d1"})
    assert counts.json() == {"events": 1, "links": 0, "clients": 1, "shared_clients": 0, "claims": 0}
    for body in ({}, {"client_id": "d1", "customer_id": "c1"}, {"client_id": ""}):
        assert server.client.post("/v1/customers/erase", json=body).status_code == 422


def test_who_refuses_consent_is_not_known(start: Callable[[], Any], tmp_path: Path):
    server = start()
    event = {
        "event_id": "e1",
        "name": "purchase",
        "consent": False,
        "customer_id": "customer-without-consent",
        "client_id": "client-without-consent",
        "session_id": "session-without-consent",
        "params": {"transaction_id": "order-without-consent", "items": [{"item_id": "i1", "price": 2}]},
    }
    assert server.client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
    assert server.client.post("/v1/events", json={"events": [event]}).json()["duplicates"] == 1
    for file in tmp_path.glob("events.sqlite*"):
        assert b"without-consent" not in file.read_bytes()
    assert read_events(str(tmp_path / "events.sqlite"))["consent"].to_list() == [False], "it can be ingested"
