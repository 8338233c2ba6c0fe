import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY, iso
from features.common.errors import InputError
from features.ranking.snapshot import CUSTOMER_COLUMNS, ITEM_COLUMNS, SEGMENT_NAMES, Snapshot
from features.tables.build import build_from_events
from features.tables.columns import names
from tests.features.shop import (
    AS_OF,
    CATALOG,
    Row,
    build,
    events,
    examples,
    frame,
    one,
    row,
    same_snapshots,
    same_tables,
    snapshot,
)

FIRST = row("purchase", -3, "c0", "i0", 1.0, 2.0, "o1")


def shuffled(rows: list[Row], seed: int) -> pl.DataFrame:
    return frame(rows).sample(fraction=1, shuffle=True, seed=seed)


@examples(9)
@given(events(-120, 0), st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(rows: list[Row], seed: int):
    rows = [FIRST, *rows]
    once = build_from_events(frame(rows).lazy(), CATALOG, AS_OF)
    again = build_from_events(shuffled(rows, seed).lazy(), CATALOG, AS_OF)
    assert same_tables(once, again)
    assert same_snapshots(Snapshot.from_tables(once), Snapshot.from_tables(again))


@examples(12)
@given(events(-120, 0), events(0, 40, newcomers=True, least=1), st.integers(0, 99))
def test_events_at_or_after_the_instant_leave_no_trace(rows: list[Row], later: list[Row], seed: int):
    rows = [FIRST, *rows]
    doubled = [*rows, *later, *later]
    assert same_tables(build(rows), build_from_events(shuffled(doubled, seed).lazy(), CATALOG, AS_OF))


@examples(9)
@given(events(-120, 0), events(-120, 0, newcomers=True, least=1))
def test_refused_consent_and_unknown_names_leave_no_trace(rows: list[Row], others: list[Row]):
    rows = [FIRST, *rows]
    unseen = [r | {"consent": False} for r in others] + [r | {"name": "tea_brewed"} for r in others]
    assert same_tables(build(rows), build([*rows, *unseen]))


@pytest.mark.parametrize("name", ["purchase", "refund", "view_item", "add_to_cart", "search", "login"])
def test_granted_and_missing_consent_count(name: str):
    more = row(name, -2, "c0", "i0", 1.0, 2.0, "o2")
    without = build([FIRST])
    granted, unasked = (build([FIRST, more | {"consent": c}]) for c in (True, None))
    assert same_tables(granted, unasked)
    assert not same_tables(granted, without)


def test_the_arrays_hold_what_the_tables_say():
    rows = [FIRST, row("view_item", -2, "c1", "i3"), row("login", -1, "c2"), row("view_item", -1, "d1", "i4")]
    tables, s = build(rows), snapshot(rows)
    assert s.customers.values.to_pylist() == ["c0", "c1", "c2"]
    assert s.items.values.to_pylist() == ["i0", "i3", "i4"]
    assert [SEGMENT_NAMES[s] for s in s.segments] == tables.customers["segment"].to_list()
    for table, array, columns in (
        (tables.customers, s.customer_features, CUSTOMER_COLUMNS),
        (tables.items, s.item_features, ITEM_COLUMNS),
    ):
        assert array.dtype == np.float32
        for n, name in enumerate(names(columns)):
            expected = [np.nan if v is None else v for v in table[name]]
            assert np.array_equal(array[:, n], np.array(expected, np.float32), equal_nan=True)
    assert s.history.indptr.tolist() == [0, 1, 2, 2]
    assert s.history.items.tolist() == [0, 1]
    assert s.fitting_data is not None
    assert [part.tolist() for part in s.fitting_data.anonymous[:2]] == [[0], [2]]
    assert [part.tolist() for part in s.fitting_data.recent] == [
        [0, 1, 2],
        [2, 0, 1],
        [1, 4, 1],
        [AS_OF - n * DAY for n in (1, 3, 2)],
    ]
    assert s.fitting_data.descriptions == [
        (None, "Kitchen/Tea", "Alder"),
        (None, None, "Birch"),
        (None, "Garden", None),
    ]
    assert s.item("price").tolist()[0] == one(tables.items, item_id="i0")["price"] == 2
    assert [s.segment(c) for c in (-1, 1)] == ["prospect", "prospect"]
    assert s.segment(0) == one(tables.customers, customer_id="c0")["segment"] != "prospect"


def test_equal_categories_and_brands_have_equal_codes():
    s = snapshot([row("view_item", -1, "d1", f"i{n}") for n in range(7)])
    assert s.categories.tolist() == [2, 2, 1, -1, 0, 0, 0]
    assert s.departments.tolist() == [1, 1, 1, -1, 0, 0, 0]
    assert s.brands.tolist() == [0, 1, 0, 1, -1, 0, -1]


def test_history_means_an_interaction_with_an_item():
    s = snapshot([FIRST, row("login", -1, "c1"), row("view_item", -1, "c2", "i1")])
    assert s.has_history(np.array([0, 1, 2, -1])).tolist() == [True, False, True, False]


def test_a_shop_without_customers():
    s = snapshot([row("view_item", -1, "d1", "i1"), row("add_to_cart", -1, "d2", "i2")])
    assert (len(s.customers), len(s.items)) == (0, 2)
    assert s.has_history(np.array([-1])).tolist() == [False]
    assert s.customers.find(["c0"]).tolist() == [-1]


def test_nothing_before_the_instant():
    for rows in ([row("purchase", 0, "c0", "i0")], [FIRST | {"consent": False}], [FIRST | {"name": "tea_brewed"}]):
        with pytest.raises(InputError, match=r"no usable event before 2024-05-01T00:00:00Z; choose a later time"):
            build(rows)


def test_tables_on_disk(tmp_path: Path):
    tables = build([FIRST, row("login", -1, "c1")])
    tables.write(tmp_path / "deep" / "out")
    for name in ("customers", "items", "history"):
        assert pl.read_parquet(tmp_path / "deep" / "out" / f"{name}.parquet").equals(getattr(tables, name))
    about = json.loads((tmp_path / "deep" / "out" / "snapshot.json").read_text())
    assert about["as_of"] == iso(AS_OF)
    assert set(about["rfm_cut_points"]) == {"recency", "frequency", "monetary"}
