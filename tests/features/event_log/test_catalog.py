from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.event_log.catalog import Catalog, compact, flatten, merge_catalogs
from features.event_log.schema import CATALOG_SCHEMA, conform

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)


def rows_of(at: datetime | None, item_id: str = "i1", **values: Any) -> pl.DataFrame:
    used = {c: t for c, t in CATALOG_SCHEMA.items() if c in ("item_id", "updated_at") or c in values}
    return conform(pl.DataFrame([{"item_id": item_id, "updated_at": at} | values], schema=used), CATALOG_SCHEMA)


def one(*rows: pl.DataFrame) -> dict[str, Any]:
    return merge_catalogs([], list(rows)).row(0, named=True)


def test_catalogs_merge_by_item():
    old = rows_of(None, "i2", title="Old", price=1.0, first_seen=NOON, brand="Alder")
    new = rows_of(None, "i2", title="New", price=None, first_seen=LATER)
    merged = merge_catalogs([old], [rows_of(None, title="First"), new])
    assert merged["item_id"].to_list() == ["i1", "i2"]
    row = merged.row(1, named=True)
    assert (row["title"], row["price"], row["brand"], row["first_seen"]) == ("New", 1.0, "Alder", NOON)


def test_an_older_file_does_not_move_prices_back():
    assert one(rows_of(LATER, price=2.0), rows_of(NOON, price=1.0))["price"] == 2.0
    assert one(rows_of(NOON, price=1.0), rows_of(LATER, price=2.0))["price"] == 2.0


def test_an_older_file_fills_in_columns_that_the_newer_lacks():
    row = one(rows_of(LATER, price=2.0), rows_of(NOON, price=1.0, title="Vase", first_seen=NOON))
    assert (row["price"], row["title"], row["first_seen"], row["updated_at"]) == (2.0, "Vase", NOON, LATER)


def test_each_column_keeps_its_own_time():
    """The price is of the first day, the title of the third: a price of the second day is news, a title is not."""
    third = LATER + timedelta(days=1)
    known = merge_catalogs([], [rows_of(NOON, price=1.0, title="A"), rows_of(third, title="C")])
    assert (known["price"][0], known["title"][0]) == (1.0, "C")
    row = one(rows_of(NOON, price=1.0, title="A"), rows_of(third, title="C"), rows_of(LATER, price=2.0, title="B"))
    assert (row["price"], row["title"]) == (2.0, "C")


def test_a_catalog_outranks_events_in_any_order():
    catalog, event = rows_of(None, price=5.0, available=False), rows_of(LATER, price=2.0, available=True, brand="Alder")
    for order in ((catalog, event), (event, catalog)):
        row = one(*order)
        assert (row["price"], row["available"], row["brand"], row["updated_at"]) == (5.0, False, "Alder", None)


def test_values_from_events_beside_a_catalog_can_still_change():
    row = one(rows_of(None, title="Vase"), rows_of(NOON, price=1.0), rows_of(LATER, price=2.0))
    assert (row["title"], row["price"]) == ("Vase", 2.0)


def test_of_two_catalogs_the_later_one_read_wins():
    assert one(rows_of(None, price=9.0), rows_of(None, price=5.0))["price"] == 5.0


def test_an_item_without_any_value_is_kept():
    assert one(rows_of(NOON))["item_id"] == "i1"


EVENT_ROWS = st.builds(
    rows_of,
    st.sampled_from([NOON, LATER, LATER + timedelta(hours=1)]),
    item_id=st.sampled_from(["i1", "i2"]),
    title=st.sampled_from([None, "A", "B"]),
    price=st.sampled_from([None, 1.0, 2.0]),
    available=st.sampled_from([None, True, False]),
    first_seen=st.sampled_from([None, NOON, LATER]),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(EVENT_ROWS, min_size=1, max_size=8).flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))), st.data()
)
def test_rows_of_events_may_come_in_any_order_and_any_pieces(
    orders: tuple[list[pl.DataFrame], list[pl.DataFrame]], data: st.DataObject
):
    one_by_one, together = Catalog(), compact(pl.concat(orders[0]))
    for rows in orders[1]:
        one_by_one.add(rows)
        if data.draw(st.booleans()):
            one_by_one.compact()
    assert one_by_one.compact().equals(together)
    assert flatten(compact(together)).equals(flatten(together))
    assert together.height <= 2 * 3


def with_vector(at: datetime | None, item_id: str, *vector: float) -> pl.DataFrame:
    return rows_of(at, item_id).with_columns(embedding=pl.lit(list(vector), pl.List(pl.Float64)))


def test_vectors_follow_the_order_of_the_other_columns():
    old, new = with_vector(None, "i1", 1, 2), with_vector(None, "i1", 3, 4)
    assert one(old, rows_of(LATER, title="A"), new)["embedding"] == [3, 4]
    assert one(old, with_vector(LATER, "i1", 5, 6), rows_of(None, title="A"))["embedding"] == [1, 2]
    at_once = [with_vector(NOON, "i1", 1, 5), with_vector(NOON, "i1", 2, 0), rows_of(NOON, title="A")]
    assert one(*at_once)["embedding"] == one(*reversed(at_once))["embedding"] == [2, 0]


def test_a_catalog_without_vectors_has_no_column_for_them():
    empty = rows_of(None).with_columns(embedding=pl.lit(None, pl.List(pl.Float32)))
    assert merge_catalogs([], [empty]).schema == CATALOG_SCHEMA


@pytest.mark.parametrize("vector", [[], [float("nan")], [1.0, float("inf")], [1e39], [None, 1.0]])
def test_what_is_no_vector_is_refused(vector: list):
    with pytest.raises(InputError, match="item 'i1' has an embedding that is empty or holds what is no finite"):
        Catalog().add(with_vector(None, "i1", *vector))


def test_the_latest_vectors_have_one_length():
    catalog = Catalog(compact(pl.concat([with_vector(None, "i1", 1, 2), with_vector(None, "i2", 1, 2)])))
    catalog.add(with_vector(None, "i1", 1, 2, 3))
    with pytest.raises(InputError, match="1 items have 2 numbers, such as 'i2'; 1 items have 3 numbers"):
        catalog.compact()
    catalog.add(with_vector(None, "i2", 4, 5, 6))
    assert flatten(catalog.compact())["embedding"].to_list() == [[1, 2, 3], [4, 5, 6]]
