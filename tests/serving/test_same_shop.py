"""One small shop through every door: files, GA4, Segment calls and HTTP give the same customers table."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.common.clock import DAY, HOUR, SECOND, iso, now
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.sources import event_store, read
from features.tables.build import Tables, build_tables
from serving.event_store import open_store
from serving.event_store.protocol import StoredEvent
from serving.events.segment import ParsedCalls
from serving.events.validate import validate_events

NOW = now() // DAY * DAY  # a server accepts events of the last thirty days
Line = tuple[str, float, float]  # item, quantity, price


@dataclass(frozen=True)
class Event:
    """One event of the shop, before any path."""

    name: str
    before: int  # microseconds before `NOW`
    customer: str | None
    client: str | None
    lines: tuple[Line, ...] = ()
    order: str | None = None

    @property
    def t(self) -> int:
        return NOW - self.before


TWO = (("i1", 2.0, 10.0), ("i2", 1.0, 5.0))
SHOP = [
    Event("view_item", 9 * DAY, None, "d1", (("i1", 1.0, 10.0),)),
    Event("login", 9 * DAY - HOUR, "c1", "d1"),
    Event("purchase", 8 * DAY, "c1", "d1", TWO, "o1"),
    # The page of the order is loaded again, once without the customer.
    Event("purchase", 8 * DAY - 40 * SECOND, "c1", "d1", TWO, "o1"),
    Event("purchase", 8 * DAY - HOUR, None, "d1", TWO, "o1"),
    Event("refund", 7 * DAY, "c1", "d1", (("i1", 1.0, 10.0),), "o1"),
    # The same item twice in an order.
    Event("purchase", 6 * DAY, "c2", None, (("i3", 1.0, 4.0), ("i3", 1.0, 4.0), ("i1", 1.0, 9.0)), "o2"),
    # Orders without a number: placeholders are none.
    Event("purchase", 5 * DAY, "c2", "d2", TWO, "undefined"),
    Event("purchase", 4 * DAY, "c3", "d3", TWO, "(not set)"),
    Event("purchase", 3 * DAY, "c3", "d3", (("i2", 3.0, 5.0),)),
    # Guests, and people whose id is a placeholder.
    Event("purchase", 2 * DAY, None, "d4", TWO, "o3"),
    Event("purchase", 2 * DAY - HOUR, "undefined", "d5", (("i2", 1.0, 5.0),), "o4"),
    Event("view_item", DAY, "c4", "undefined", (("i2", 1.0, 5.0),)),
    Event("view_item", DAY - HOUR, "c5", "undefined", (("i2", 1.0, 5.0),)),
]


def without_nulls(**values: Any) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def as_file(directory: Path) -> EventLog:
    """A CSV without event ids: a row per line of an order."""
    rows = [
        {"name": e.name, "timestamp": iso(e.t), "customer_id": e.customer, "client_id": e.client, "order_id": e.order,
         "item_id": item, "quantity": n, "price": price}
        for e in SHOP
        for item, n, price in e.lines or ((None, None, None),)
    ]  # fmt: skip
    pl.DataFrame(rows, infer_schema_length=None).write_csv(directory / "events.csv")
    return ingest(read("events", [directory / "events.csv"]), directory / "log").log


def as_ga4(directory: Path) -> EventLog:
    """The export of GA4 to BigQuery, as JSON lines."""
    lines = [
        without_nulls(
            event_timestamp=str(e.t), event_name=e.name, user_id=e.customer, user_pseudo_id=e.client,
            ecommerce=without_nulls(transaction_id=e.order),
            items=[{"item_id": item, "quantity": str(int(n)), "price": price} for item, n, price in e.lines],
        )
        for e in SHOP
    ]  # fmt: skip
    (directory / "ga4.json").write_text("\n".join(map(json.dumps, lines)))
    return ingest(read("ga4", [directory / "ga4.json"]), directory / "log").log


SEGMENT_NAMES = {
    "view_item": "Product Viewed", "login": "Signed In", "purchase": "Order Completed", "refund": "Order Refunded",
}  # fmt: skip


def segment_calls() -> list[dict[str, Any]]:
    def properties(e: Event) -> dict[str, Any]:
        products = [{"product_id": item, "quantity": n, "price": price} for item, n, price in e.lines]
        if e.name == "view_item":
            return products[0]
        return without_nulls(order_id=e.order, products=products or None)

    return [
        without_nulls(
            type="track", event=SEGMENT_NAMES[e.name], messageId=f"m{n}", timestamp=iso(e.t), userId=e.customer,
            anonymousId=e.client, properties=properties(e),
        )
        for n, e in enumerate(SHOP)
    ]  # fmt: skip


def as_segment_file(directory: Path) -> EventLog:
    (directory / "calls.jsonl").write_text("\n".join(map(json.dumps, segment_calls())))
    return ingest(read("segment", [directory / "calls.jsonl"]), directory / "log").log


def store_and_ingest(directory: Path, events: list[StoredEvent]) -> EventLog:
    url = str(directory / "events.sqlite")
    store = open_store(url)
    store.append(events).result(30)
    store.close()
    return ingest(event_store.read(url), directory / "log").log


def as_segment_over_http(directory: Path) -> EventLog:
    parsed = ParsedCalls(segment_calls(), NOW, "/batch/{}")
    assert not parsed.validated.rejected
    return store_and_ingest(directory, parsed.validated.events)


def as_http(directory: Path) -> EventLog:
    bodies = [
        without_nulls(
            event_id=f"h{n}", name=e.name, timestamp=iso(e.t), customer_id=e.customer, client_id=e.client,
            params=without_nulls(
                transaction_id=e.order,
                items=[{"item_id": item, "quantity": n, "price": price} for item, n, price in e.lines],
            ),
        )
        for n, e in enumerate(SHOP)
    ]  # fmt: skip
    validated = validate_events(bodies, NOW)
    assert not validated.rejected
    return store_and_ingest(directory, validated.events)


@pytest.fixture(scope="module")
def by_file(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return build_tables(as_file(tmp_path_factory.mktemp("file")), NOW)


@pytest.mark.parametrize("path", [as_ga4, as_segment_file, as_segment_over_http, as_http])
def test_every_path_gives_the_customers_of_the_file(
    path: Callable[[Path], EventLog], by_file: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")
    tables = build_tables(path(tmp_path), NOW)
    # GA4 fills in quantities of views, which no column of a customer reads.
    assert tables.customers.equals(by_file.customers)
    assert tables.history.equals(by_file.history)
    assert tables.items["item_id"].to_list() == by_file.items["item_id"].to_list()
    for column in ("buyers", "quantity_per_order", "price_mean", "basket_items", "refund_share"):
        assert tables.items[column].equals(by_file.items[column]), column
    assert tables.profiles.equals(by_file.profiles)


def test_they_are_the_right_ones(by_file: Tables):
    values = by_file.customers.select("frequency", "monetary", "average_order_value").rows()
    assert by_file.customers["customer_id"].to_list() == ["c1", "c2", "c3", "c4", "c5"]
    assert values == [(1, 15, 15), (2, 42, 21), (2, 40, 20), (None, None, None), (None, None, None)]
    assert by_file.profiles.rows() == [("d1", "c1"), ("d2", "c2"), ("d3", "c3")]
    assert by_file.shared_devices.is_empty()
    assert by_file.left_out.repeated_orders == 4
