from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.event_log.catalog import Catalog, compact, describe_dropped_vectors, flatten
from features.event_log.schema import CATALOG_OPTIONAL, CATALOG_SCHEMA, conform

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)


def merge_catalogs(old: list[pl.DataFrame], new: list[pl.DataFrame]) -> pl.DataFrame:
    """One row per item from catalogs in the order in which they came."""
    catalog = Catalog()
    for rows in [*old, *new]:
        catalog.add(rows)
    return flatten(catalog.compact())


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


def catalog_of(**vectors: list[float] | None) -> pl.DataFrame:
    rows = [{"item_id": i, "title": f"{i} {v}", "embedding": v} for i, v in vectors.items()]
    return conform(pl.DataFrame(rows), CATALOG_SCHEMA | CATALOG_OPTIONAL)


def vectors_of(catalog: Catalog) -> dict[str, list[float] | None]:
    table = flatten(catalog.compact())
    return dict(table.select("item_id", "embedding").iter_rows()) if "embedding" in table.columns else {}


def test_newer_vectors_of_another_length_drop_the_others():
    catalog = Catalog(compact(catalog_of(i1=[1, 2], i2=[1, 2], gone=[1, 2])))
    catalog.add(catalog_of(i1=[1, 2, 3], i2=None))
    assert vectors_of(catalog) == {"i1": [1, 2, 3], "i2": None, "gone": None}
    assert catalog.dropped_vectors() == {2: 2}
    catalog.add(catalog_of(i2=[4, 5, 6]))
    assert vectors_of(catalog) == {"i1": [1, 2, 3], "i2": [4, 5, 6], "gone": None}
    assert catalog.dropped_vectors() == {2: 1}
    assert flatten(catalog.compact())["title"].to_list() == ["gone [1, 2]", "i1 [1, 2, 3]", "i2 [4, 5, 6]"]


def test_vectors_of_one_length_drop_none():
    catalog = Catalog(compact(catalog_of(i1=[1, 2], gone=[1, 2])))
    for rows in (catalog_of(i1=[3, 4]), catalog_of(i1=None), rows_of(LATER, title="A")):
        catalog.add(rows)
    assert vectors_of(catalog) == {"i1": [3, 4], "gone": [1, 2]}
    assert catalog.dropped_vectors() == {}


def test_vectors_of_one_catalog_have_one_length():
    message = "1 item of length 2, such as 'i2'; 2 items of length 3, such as 'i1'"
    with pytest.raises(InputError, match=message):
        Catalog().add(catalog_of(i1=[1, 2, 3], i2=[1, 2], i3=[1, 2, 3]))


def test_dropped_vectors_are_described_in_one_line():
    assert describe_dropped_vectors({2: 1}) == (
        "embedding: 1 item lost its vector of length 2, since newer vectors have another length"
    )
    assert describe_dropped_vectors({2: 1, 512: 1234}) == (
        "embedding: 1 item lost its vector of length 2; 1,234 items lost their vectors of length 512, "
        "since newer vectors have another length"
    )


VECTORS = st.integers(1, 2).flatmap(
    lambda n: st.dictionaries(
        st.sampled_from(["i1", "i2", "i3"]),
        st.none() | st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n),
        min_size=1,
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(VECTORS, min_size=1, max_size=6), st.data())
def test_vectors_are_the_same_however_catalogs_are_ingested(catalogs: list[dict], data: st.DataObject):
    """In one ingest or in several, and with catalogs and events without vectors in between."""
    at_once, one_by_one = Catalog(), Catalog()
    expected: dict[str, list[float] | None] = {}
    for vectors in catalogs:
        latest = {i: v for i, v in vectors.items() if v is not None}
        if latest:
            length = len(next(iter(latest.values())))
            expected = {i: v for i, v in expected.items() if v is not None and len(v) == length} | latest
        rows = catalog_of(**vectors)
        at_once.add(rows)
        one_by_one.add(rows)
        for more in data.draw(st.lists(st.sampled_from([rows_of(LATER, brand="Alder"), rows_of(None, price=1.0)]))):
            one_by_one.add(more)
        if data.draw(st.booleans()):
            one_by_one = Catalog(one_by_one.compact())
    for catalog in (at_once, one_by_one):
        assert {i: v for i, v in vectors_of(catalog).items() if v is not None} == expected
