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

# Sums of fractions are taken over integers of this many parts: integer addition does not depend on the
# order of rows, the number of threads or the engine, floating-point addition does.
_FRACTIONS = 2**30


class Engine(Protocol):
    """What the tables need of a backend beside expressions."""

    def events(self, log: EventLog) -> Lazy:
        """The events of a log on disk."""
        ...

    def frame(self, table: pl.DataFrame) -> Lazy:
        """A small table that joins with the events."""
        ...

    def with_micros(self, frame: Lazy, column: str, name: str) -> Lazy:
        """`frame` with `name`: the microseconds since the epoch of the timestamp `column`."""
        ...

    def keep(self, frame: Lazy) -> Lazy:
        """Compute now what several tables read: engines do not share a plan's parts between tables."""
        ...

    def collect(self, frames: Sequence[Lazy]) -> list[pl.DataFrame]:
        """Run tables to their end."""
        ...


class PolarsEngine:
    """One machine, all its cores, streaming. The default."""

    def events(self, log: EventLog) -> Lazy:
        return nw.from_native(log.scan())

    def frame(self, table: pl.DataFrame) -> Lazy:
        return nw.from_native(table.lazy())

    def with_micros(self, frame: Lazy, column: str, name: str) -> Lazy:
        return frame.with_columns(nw.col(column).dt.timestamp("us").alias(name))

    def keep(self, frame: Lazy) -> Lazy:
        return nw.from_native(frame.to_native().collect().lazy())

    def collect(self, frames: Sequence[Lazy]) -> list[pl.DataFrame]:
        return pl.collect_all([f.to_native() for f in frames])


def to_fixed(expr: nw.Expr) -> nw.Expr:
    """A float expression as whole multiples of 2^-30, to be summed exactly; undo with `unfixed`."""
    return (expr * _FRACTIONS).round().cast(nw.Int64)


def from_fixed(expr: nw.Expr) -> nw.Expr:
    """The float64 value of a sum of `fixed` values."""
    return expr.cast(nw.Float64) / _FRACTIONS


def exact_sum(expr: nw.Expr) -> nw.Expr:
    """Order-independent sum of a float expression, exact to 2^-30.

    The whole part is summed for itself: sums of money may pass 2^63 / 2^30, which in some currencies is not much.
    """
    whole = expr.floor()
    return whole.cast(nw.Int64).sum().cast(nw.Float64) + from_fixed(to_fixed(expr - whole).sum())


def count_where(condition: nw.Expr) -> nw.Expr:
    """How many rows fulfil `condition`; null counts as no."""
    return condition.fill_null(False).cast(nw.Int64).sum()


def days_before(as_of: int, t: nw.Expr) -> nw.Expr:
    """Days from `t` (microseconds) to `as_of`."""
    return (as_of - t).cast(nw.Float64) / DAY


def within(as_of: int, days: int) -> nw.Expr:
    """Whether the event lies in the `days` before `as_of`."""
    return nw.col("t") >= as_of - days * DAY


def ratio(part: nw.Expr, whole: nw.Expr) -> nw.Expr:
    """part / whole; null where the whole is not positive."""
    return nw.when(whole > 0).then(part.cast(nw.Float64) / whole.cast(nw.Float64))


def distinct(frame: Lazy, *columns: str) -> Lazy:
    """Each combination once. By group-by: `unique` numbers the rows of every combination on Spark."""
    return frame.group_by(*columns).agg(_n=nw.len()).select(*columns)
