from datetime import UTC, datetime

import polars as pl
import pytest

from features.event_log.schema import EVENT_SCHEMA, ROW, conform
from features.sources.parsing.events.mapped import redact_queries
from features.sources.parsing.rows.validate import validate_rows

GOOD = {
    "event_id": "e1", "name": "view_item", "timestamp": datetime(2024, 5, 1, tzinfo=UTC), "customer_id": "c1",
    "client_id": "d1", "session_id": "s1", "item_id": "i1", "order_id": "o1", "list_id": "l1", "source": "mail",
}  # fmt: skip
ADDRESSES = [
    "jane@example.com", "mailto:jane@example.com", "Jane <jane@example.com>", "jane%40example.com",
    "JANE%40EXAMPLE.COM", "u=jane@example.com;v=2", "https://shop.example/?m=jane%40example.com&x=1",
]  # fmt: skip


def screen(**changes: str | None) -> list[str]:
    """The reasons for which a good row and the same with `changes` are rejected."""
    events = conform(pl.DataFrame([GOOD, GOOD | changes]), EVENT_SCHEMA).with_row_index(ROW)
    valid, rejected = validate_rows(events, "a", lambda rows: pl.Series([str(changes)] * len(rows)))
    assert valid.height + rejected.height == 2
    assert "example.com" not in "".join(rejected["raw"]).lower()
    return rejected["reason"].to_list()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("column", ["customer_id", "client_id"])
def test_an_address_anywhere_in_an_id_is_refused(column: str, address: str):
    assert screen(**{column: address}) == ["email_as_id"]


@pytest.mark.parametrize("address", [ADDRESSES[0], ADDRESSES[3]])
@pytest.mark.parametrize("column", ["event_id", "session_id", "order_id", "list_id", "source"])
def test_no_other_column_stores_one(column: str, address: str):
    assert screen(**{column: address}) == ["email_as_id"]


@pytest.mark.parametrize("text", ["auth0|5f7c8ec7", "@jane", "7@home", "50%40", "a@b", None])
@pytest.mark.parametrize("column", ["client_id", "order_id", "source"])
def test_other_texts_stay(column: str, text: str | None):
    assert screen(**{column: text}) == []


def test_an_address_in_a_search_is_redacted():
    queries = pl.DataFrame({"query": ["tea", "to jane@example.com", "to jane%40example.com", "50%40"]})
    assert redact_queries(queries)["query"].to_list() == ["tea", "to [redacted]", "to [redacted]", "50%40"]
