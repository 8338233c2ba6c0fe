"""Conditions of several columns: which rows they let in, and how they are written."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sources.parsing.mapping.conditions import (
    Condition,
    ConditionGroup,
    match,
    match_all,
    name_columns,
    name_groups,
    parse_entry,
    resolve,
)

ROWS = pl.DataFrame({
    "Status": ["paid", "PAID ", "refunded", "refunded", "pending", None],
    "Cancelled at": [None, "2026-01-02", "2026-01-02", "", None, None],
})  # fmt: skip


def parse(where: dict[str, object]) -> dict[str, Condition]:
    return name_groups({key: parse_entry(value) for key, value in where.items()})


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"any": [{"Status": ["refunded"]}, {"Cancelled at": "empty"}]}, [1, 0, 1, 1, 1, 1]),
        ({"Status": ["paid", "refunded"], "any": [{"Status": "refunded"}, {"Cancelled at": "empty"}]},
         [1, 0, 1, 1, 0, 0]),
        ({"any": [{"Status": ["refunded"]}, {"Status": ["paid"], "Cancelled at": "empty"}]}, [1, 0, 1, 1, 0, 0]),
        ({"all": [{"Status": "filled"}, {"Status": {"not": ["paid"]}}]}, [0, 0, 1, 1, 1, 0]),
        ({"any": [{"all": [{"Status": "paid"}, {"Cancelled at": "filled"}]}, {"Status": "pending"}]},
         [0, 1, 0, 0, 1, 0]),
    ],
)  # fmt: skip
def test_groups(where: dict[str, object], fits: list[int]):
    conditions = parse(where)
    assert match(ROWS, conditions).to_list() == [bool(n) for n in fits]
    unfit = match_all(ROWS, conditions)
    assert pl.DataFrame(unfit).select(~pl.any_horizontal(pl.all())).to_series().to_list() == [bool(n) for n in fits]


def test_groups_are_written_as_they_are_meant():
    (group,) = parse({"any": [{"a": ["x"], "b": "empty"}, {"c": {"not": ["y"]}}]}).values()
    assert str(group) == "{a: [x], b: empty} or {c: {not: [y]}}"


def test_columns_of_groups_are_found_under_the_tables_names():
    conditions = parse({"A": "filled", "any": [{"B": "empty"}, {"C": "empty", "all": [{"D": "empty"}]}]})
    assert list(name_columns(conditions)) == ["A", "B", "C", "D"]
    resolved = resolve(conditions, {"A": "a", "B": "b", "D": "d"}.get)
    assert list(name_columns(resolved)) == ["a", "b", "d"], "what is not there decides nothing"
    assert isinstance(resolved["any"], ConditionGroup)


CELLS = st.lists(st.tuples(*[st.sampled_from(["x", "y", "", None])] * 2), min_size=1, max_size=8)
SETS = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "b"]), st.sampled_from(["empty", "filled", ["x"], {"not": ["x"]}]), min_size=1
    ),
    min_size=1, max_size=3,
)  # fmt: skip


@given(CELLS, SETS)
def test_any_is_not_all_of_the_opposites(cells: list[tuple[str | None, str | None]], sets: list[dict[str, object]]):
    rows = pl.DataFrame(cells, schema={"a": pl.String, "b": pl.String}, orient="row")
    either = match(rows, parse({"any": sets}))
    neither = parse({"all": [{"any": [{c: {"not": v}} for c, v in each.items()]} for each in sets]})
    assert (either ^ match(rows, neither)).all()
