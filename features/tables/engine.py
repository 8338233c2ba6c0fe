"""Engines that run feature expressions, and the expressions that are the same to the last bit on each of them.

Features are written once, in Narwhals on lazy frames. What keeps them portable: integer time, no as-of joins, no rank
over an order, no Python functions on rows.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import narwhals as nw
import polars as pl

from features.common.clock import DAY
from features.event_log.log import EventLog

Lazy = nw.LazyFrame[Any]

# Fractions are summed as integers of this many parts: integer addition does not depend on the order of rows, the
# number of threads or the engine, floating-point addition does.
_FRACTIONS = 2**30


class Engine(Protocol):
    """What the tables need of a backend beside Narwhals expressions."""

    def scan(self, log: EventLog) -> Lazy:
        """Scan the events of a log on disk."""
        ...

    def frame(self, table: pl.DataFrame) -> Lazy:
        """Bring a small table to the engine, to be joined with the events."""
        ...

    def with_micros(self, frame: Lazy, column: str, name: str) -> Lazy:
        """Add the column `name`: the timestamp `column` in microseconds since the epoch, int64."""
        ...

    def materialize(self, frame: Lazy) -> Lazy:
        """Compute a frame that several tables read: engines do not share parts of a plan between tables."""
        ...

    def collect(self, frames: Sequence[Lazy]) -> list[pl.DataFrame]:
        """Compute the frames, together where the engine can."""
        ...


class PolarsEngine:
    """The default `Engine`: Polars on all cores of one machine."""

    def scan(self, log: EventLog) -> Lazy:
        return nw.from_native(log.scan())

    def frame(self, table: pl.DataFrame) -> Lazy:
        return nw.from_native(table.lazy())

    def with_micros(self, frame: Lazy, column: str, name: str) -> Lazy:
        return frame.with_columns(nw.col(column).dt.timestamp("us").alias(name))

    def materialize(self, frame: Lazy) -> Lazy:
        return nw.from_native(frame.to_native().collect().lazy())

    def collect(self, frames: Sequence[Lazy]) -> list[pl.DataFrame]:
        return pl.collect_all([f.to_native() for f in frames])


def to_fixed(expr: nw.Expr) -> nw.Expr:
    """Convert a float expression to whole multiples of 2^-30, which sum exactly; `from_fixed` converts back."""
    return (expr * _FRACTIONS).round().cast(nw.Int64)


def from_fixed(expr: nw.Expr) -> nw.Expr:
    """Convert a sum of `to_fixed` values to float64."""
    return expr.cast(nw.Float64) / _FRACTIONS


def exact_sum(expr: nw.Expr) -> nw.Expr:
    """Sum a float expression independently of the order of rows, exact to 2^-30.

    Whole parts are summed separately: sums of money may pass 2^63 / 2^30, which in some currencies is not much.
    """
    whole = expr.floor()
    return whole.cast(nw.Int64).sum().cast(nw.Float64) + from_fixed(to_fixed(expr - whole).sum())


def count_where(condition: nw.Expr) -> nw.Expr:
    """Count the rows that fulfil `condition`; null counts as no."""
    return condition.fill_null(False).cast(nw.Int64).sum()


def days_before(as_of: int, t: nw.Expr) -> nw.Expr:
    """Days from `t` (microseconds) to `as_of`."""
    return (as_of - t).cast(nw.Float64) / DAY


def within(as_of: int, days: int) -> nw.Expr:
    """True for events in the `days` before `as_of`."""
    return nw.col("t") >= as_of - days * DAY


def ratio(part: nw.Expr, whole: nw.Expr) -> nw.Expr:
    """part / whole; null where the whole is not positive."""
    return nw.when(whole > 0).then(part.cast(nw.Float64) / whole.cast(nw.Float64))


def distinct(frame: Lazy, *columns: str) -> Lazy:
    """Select each combination of `columns` once, by group-by: on Spark `unique` numbers all rows."""
    return frame.group_by(*columns).agg(_n=nw.len()).select(*columns)
