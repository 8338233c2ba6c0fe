import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event_log.schema import (
    EVENT_NAMES,
    EVENT_SCHEMA,
    RAW,
    REJECTED_SCHEMA,
    ROW,
    conform,
    deduplicate,
    validate,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD = {
    "event_id": "e1", "name": "purchase", "timestamp": NOON, "customer_id": "c1", "item_id": "i1",
    "quantity": 2.0, "price": 3.5,
}  # fmt: skip


def frame(*rows: dict) -> pl.DataFrame:
    columns = {k: v for k, v in EVENT_SCHEMA.items() if any(k in r for r in rows)}
    return conform(pl.DataFrame(rows, schema=columns), EVENT_SCHEMA)


def reasons(*rows: dict) -> list[str | None]:
    valid, rejected = validate(frame(*rows).with_row_index(ROW), "file")
    by_row = dict(rejected.select("row", "reason").iter_rows())
    assert sorted([*valid[ROW], *by_row]) == list(range(len(rows)))
    return [by_row.get(i) for i in range(len(rows))]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"event_id": " "}, "missing_event_id"),
        ({"name": None}, "missing_name"),
        ({"timestamp": None}, "bad_timestamp"),
        ({"timestamp": datetime(1969, 12, 31, tzinfo=UTC)}, "bad_timestamp"),
        ({"timestamp": datetime(2500, 1, 1, tzinfo=UTC)}, "bad_timestamp"),
        ({"customer_id": ""}, "no_customer_or_client"),
        ({"customer_id": None, "client_id": "d1"}, None),
        ({"item_id": None}, "missing_item_id"),
        ({"name": "search", "item_id": None, "quantity": None, "price": None}, None),
        ({"name": "something new", "item_id": None}, None),
        ({"price": -0.01}, "negative_price"),
        ({"price": math.nan}, "negative_price"),
        ({"price": 0.0}, None),
        ({"quantity": 0.0}, "bad_quantity"),
        ({"quantity": -1.0}, "bad_quantity"),
        ({"quantity": math.inf}, "bad_quantity"),
        ({"quantity": None}, "missing_quantity_or_price"),
        ({"name": "view_item", "quantity": None, "price": None}, None),
    ],
)
def test_each_rule(change: dict, reason: str | None):
    assert reasons(GOOD | change) == [reason]


def test_a_row_is_filed_under_the_first_rule_it_breaks():
    assert reasons(GOOD, GOOD | {"timestamp": None, "price": -1.0}) == [None, "bad_timestamp"]


def test_rejected_rows_keep_source_row_and_raw():
    rows = frame(GOOD, GOOD | {"price": -1.0}).with_columns(pl.Series(ROW, [7, 9]), pl.Series(RAW, ["a", "b"]))
    valid, rejected = validate(rows, "shop.csv")
    assert rejected.rows() == [("shop.csv", 9, "negative_price", "b")]
    assert rejected.schema == REJECTED_SCHEMA
    assert valid[ROW].to_list() == [7]


def test_conform_adds_missing_columns_and_drops_others():
    table = conform(pl.DataFrame({"price": ["1.5"], "theirs": [1]}), EVENT_SCHEMA)
    assert table.schema == EVENT_SCHEMA
    assert table["price"].to_list() == [1.5]
    assert table["event_id"].to_list() == [None]


def test_the_earliest_row_of_a_key_is_kept():
    late = GOOD | {"timestamp": NOON.replace(hour=13), "price": 1.0}
    other = GOOD | {"item_id": "i0"}
    assert deduplicate(frame(late, other, GOOD))["item_id", "price"].rows() == [("i0", 3.5), ("i1", 3.5)]


def test_events_without_an_item_are_deduplicated_too():
    search = GOOD | {"name": "search", "item_id": None}
    assert deduplicate(frame(search, search)).height == 1


ROWS = st.fixed_dictionaries({
    "event_id": st.sampled_from(["e1", "e2"]),
    "name": st.sampled_from(EVENT_NAMES[:3]),
    "timestamp": st.sampled_from([NOON, NOON.replace(hour=13)]),
    "item_id": st.sampled_from([None, "i1", "i2"]),
    "session_id": st.sampled_from([None, "s1", "s2"]),
    "price": st.sampled_from([None, 1.0, 2.0]),
    "country": st.sampled_from([None, "DE", "AT"]),
    "consent": st.sampled_from([None, True, False]),
})  # fmt: skip


@settings(deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=12).flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))))
def test_deduplication_depends_on_the_rows_not_their_order(orders: tuple[list[dict], list[dict]]):
    one, other = (deduplicate(frame(*rows)) for rows in orders)
    assert one.equals(other)
    assert one.height == len({(r["event_id"], r["item_id"]) for r in orders[0]})
    assert deduplicate(pl.concat([one, other])).equals(one)
