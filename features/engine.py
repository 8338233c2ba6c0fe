"""Where feature expressions run. Features are written in Narwhals on lazy frames; an engine runs them."""

from collections.abc import Sequence

import narwhals as nw
import polars as pl

from features.clock import DAY
from features.events import EVENT_NAMES

Lazy = nw.LazyFrame[pl.LazyFrame]

# Sums of fractions are taken over integers of this many parts: integer addition does not depend on the
# order of rows, the number of threads or the engine, floating-point addition does.
_PARTS = 2**30


def fixed(expr: nw.Expr) -> nw.Expr:
    """A float expression as whole multiples of 2^-30, to be summed exactly; undo with `unfixed`."""
    return (expr * _PARTS).round().cast(nw.Int64)


def unfixed(expr: nw.Expr) -> nw.Expr:
    """The float64 value of a sum of `fixed` values."""
    return expr.cast(nw.Float64) / _PARTS


def total(expr: nw.Expr) -> nw.Expr:
    """Exact, order-independent sum of a float expression."""
    return unfixed(fixed(expr).sum())


def tally(condition: nw.Expr) -> nw.Expr:
    """How many rows fulfil `condition`; null counts as no."""
    return condition.fill_null(False).cast(nw.Int64).sum()


def days_before(as_of: int, t: nw.Expr) -> nw.Expr:
    """Days from `t` (microseconds) to `as_of`."""
    return (as_of - t).cast(nw.Float64) / DAY


def usable(events: pl.LazyFrame, as_of: int) -> Lazy:
    """The events a model may see as of `as_of`: earlier than it, consented, of a known name.

    Adds `t`, microseconds. Everything that is computed starts from this filter.
    """
    frame = nw.from_native(events).with_columns(
        nw.col("name").cast(nw.String), t=nw.col("timestamp").dt.timestamp("us")
    )
    return frame.filter(nw.col("t") < as_of, nw.col("consent").fill_null(True), nw.col("name").is_in(EVENT_NAMES)).drop(
        "timestamp", "received_at"
    )


def keep(frame: Lazy) -> Lazy:
    """Compute now what several tables read: the engine does not share a plan's parts between tables."""
    return nw.from_native(frame.to_native().collect().lazy())


def collect(frames: Sequence[Lazy]) -> list[pl.DataFrame]:
    """Run several tables at once."""
    return pl.collect_all([f.to_native() for f in frames])
