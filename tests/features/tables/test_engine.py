import math
from itertools import permutations

import narwhals as nw
import polars as pl
import pytest

from features.common.clock import DAY
from features.tables.engine import PolarsEngine, count_where, days_before, exact_sum
from tests.features.shop import AS_OF


def aggregate(values: list[float | None], expr: nw.Expr) -> float:
    frame = pl.LazyFrame({"key": 1, "x": values}, schema={"key": pl.Int64, "x": pl.Float64})
    (table,) = PolarsEngine().collect([nw.from_native(frame).group_by("key").agg(value=expr)])
    return float(table["value"].item())


def test_a_sum_is_the_same_bit_for_bit_in_any_order():
    values = [0.1, 0.2, 0.3, 1e6, 1 / 3]
    plain = {sum(p) for p in permutations(values)}
    assert len(plain) > 1  # floating-point addition depends on the order
    exact = {aggregate(list(p), exact_sum(nw.col("x"))) for p in permutations(values)}
    assert len(exact) == 1
    assert exact.pop() == pytest.approx(math.fsum(values), abs=1e-8)


def test_sums_of_money_in_any_currency_fit():
    values = [14_999_000.25] * 700
    assert aggregate(values, exact_sum(nw.col("x"))) == math.fsum(values)
    assert aggregate([1e15, 1e15, -0.5], exact_sum(nw.col("x"))) == 2e15 - 0.5


def test_null_adds_nothing_and_counts_as_no():
    assert aggregate([1.5, None, 2.0], exact_sum(nw.col("x"))) == 3.5
    assert aggregate([1.5, None, 2.0], count_where(nw.col("x") > 1.7)) == 1
    assert aggregate([None], count_where(nw.col("x") > 1.7)) == 0


def test_days_are_counted_to_the_instant():
    frame = nw.from_native(pl.LazyFrame({"t": [AS_OF - DAY, AS_OF - 1, AS_OF]}))
    (table,) = PolarsEngine().collect([frame.select(days=days_before(AS_OF, nw.col("t")))])
    assert table["days"].to_list() == [1, 1 / DAY, 0]
