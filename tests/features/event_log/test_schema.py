import math
from datetime import UTC, datetime

import polars as pl
import pytest

from features.event_log.schema import (
    EVENT_SCHEMA,
    RAW,
    REJECTED_SCHEMA,
    ROW,
    conform,
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
