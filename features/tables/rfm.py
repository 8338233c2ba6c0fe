"""RFM: recency, frequency and monetary value of customers, scores from 1 to 5, and the segment they imply.

Money is net of refunds; an order that was refunded whole does not count. Recency and monetary scores are the fifth of
the mid-rank distribution that a value falls in. Most customers of most shops ordered once, so fifths of frequency would
put them all in the middle: one order scores 1, and those who returned score 2 to 5 by the share of the others who
returned with fewer orders. All scores are stored as four cut points each: equal customers score equally whatever the
order of rows, and a new value can be scored later against the same cut points.
"""

from dataclasses import dataclass

import narwhals as nw
import numpy as np
import polars as pl

from features.tables.columns import Column, Field, select
from features.tables.engine import Lazy, days_before, exact_sum, ratio, within

WINDOW_DAYS = 730

COLUMNS = (
    Column("recency_days", "days", "since the last order, however long ago"),
    Column(
        "frequency",
        "orders",
        f"orders in the last {WINDOW_DAYS} days that were not refunded whole",
        f"{WINDOW_DAYS} days",
    ),
    Column("monetary", "currency", f"spent in the last {WINDOW_DAYS} days, net of refunds", f"{WINDOW_DAYS} days"),
    Column("average_order_value", "currency", "monetary / frequency", f"{WINDOW_DAYS} days"),
    Column("tenure_days", "days", "since the first order"),
)
SCORES = (
    Column("r_score", "1-5", "recency score, 5 = most recent; 0 without orders"),
    Column("f_score", "1-5", "frequency score, 1 = one order, 2-5 = quarters of those with more; 0 without orders"),
    Column("m_score", "1-5", "monetary score, the value tier; 0 without orders"),
)

SEGMENT = Field("segment", "string", "one of the ten of the R × F map, or prospect: no order yet")
PROSPECT = "prospect"
SEGMENTS = (
    "champions",
    "loyal",
    "potential_loyalist",
    "new",
    "promising",
    "need_attention",
    "about_to_sleep",
    "at_risk",
    "cant_lose",
    "hibernating",
)


def name_segment(r: int, f: int) -> str:
    """Name the segment of a recency and a frequency score; every pair 1–5 × 1–5 has exactly one."""
    if r == 5 and f >= 4:
        return "champions"
    if r >= 3 and f >= 4:
        return "loyal"
    if r >= 4 and f >= 2:
        return "potential_loyalist"
    if r == 5:
        return "new"
    if r == 4:
        return "promising"
    if r == 3:
        return "need_attention" if f == 3 else "about_to_sleep"
    if f == 5:
        return "cant_lose"
    return "at_risk" if f >= 3 else "hibernating"


SEGMENT_MAP = np.array([[name_segment(r, f) for f in range(1, 6)] for r in range(1, 6)])


def build_rfm(orders: Lazy, refunds: Lazy, as_of: int, window_days: int = WINDOW_DAYS) -> Lazy:
    """Build one row per customer who ever ordered: `COLUMNS`; without orders in the window frequency is 0.

    A refund that names an order counts with that order. One that does not (a credit note with a number of its own)
    counts at its own time.
    """
    key = ["customer_id", "order"]
    returned = refunds.group_by(*key).agg(returned=exact_sum(nw.col("value")), t=nw.col("t").min())
    recent = within(as_of, window_days)
    net = (
        orders.filter(recent)
        .join(returned.drop("t"), on=key, how="left")
        .with_columns(net=nw.col("value") - nw.col("returned").fill_null(0.0))
        .with_columns(whole=nw.col("returned").is_null() | (nw.col("returned") < nw.col("value")))
        .group_by("customer_id")
        .agg(spent=exact_sum(nw.col("net")), frequency=nw.col("whole").cast(nw.Int64).sum())
    )
    loose = returned.filter(recent).join(orders.select(*key), on=key, how="anti")
    credit = loose.group_by("customer_id").agg(credit=exact_sum(nw.col("returned")))
    table = (
        orders.group_by("customer_id")
        .agg(last=nw.col("t").max(), first=nw.col("t").min())
        .join(net, on="customer_id", how="left")
        .join(credit, on="customer_id", how="left")
        .with_columns(
            recency_days=days_before(as_of, nw.col("last")),
            tenure_days=days_before(as_of, nw.col("first")),
            frequency=nw.col("frequency").fill_null(0),
            monetary=nw.col("spent").fill_null(0.0) - nw.col("credit").fill_null(0.0),
        )
        .with_columns(average_order_value=ratio(nw.col("monetary"), nw.col("frequency")))
    )
    return select(table, ["customer_id"], COLUMNS)


@dataclass(frozen=True)
class CutPoints:
    """Four rising bounds per score: the score of a value is one more than the number of bounds it reaches."""

    recency: list[float]  # of the negated recency, so that recent is high
    frequency: list[float]
    monetary: list[float]


def fit_cut_points(table: pl.DataFrame) -> CutPoints:
    """Fit the bounds of the three scores to `table` (`build_rfm`)."""
    return CutPoints(
        _recency_bounds(-table["recency_days"].to_numpy()),
        _frequency_bounds(table["frequency"].to_numpy()),
        _bounds(table["monetary"].to_numpy()),
    )


def _bounds(values: np.ndarray) -> list[float]:
    """Bounds that put each value in its fifth by mid-rank."""
    distinct, counts = np.unique(values, return_counts=True)
    # Mid-rank share of a value: those below it and half of those equal to it.
    share = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    first = np.searchsorted(share, [0.2, 0.4, 0.6, 0.8], side="right")
    return [float(distinct[i]) if i < len(distinct) else float("inf") for i in first]


def _recency_bounds(values: np.ndarray) -> list[float]:
    """Bounds by mid-rank, but the most recent always score 5, and the least recent 1 where there are others.

    Two fifths of the customers or more with one last day, as in a log of days or of a single sale, would else leave
    nobody recent, or nobody gone.
    """
    distinct = np.unique(values)
    if not len(distinct):
        return _bounds(values)
    least = float(distinct[min(1, len(distinct) - 1)])
    return [float(np.clip(bound, least, distinct[-1])) for bound in _bounds(values)]


def _frequency_bounds(values: np.ndarray) -> list[float]:
    """Bounds of 1 for at most one order, and 2 + floor(4 × share of returning customers with fewer) for more."""
    distinct, counts = np.unique(values[values >= 2], return_counts=True)
    up_to = np.cumsum(counts)
    # Frequencies are whole: more than the value that completes a quarter of those who returned is at least one more.
    first = [int(np.searchsorted(4 * up_to, quarter * counts.sum())) for quarter in (1, 2, 3)]
    return [2.0, *(float(distinct[i]) + 1 if i < len(distinct) else float("inf") for i in first)]


def score(table: pl.DataFrame, cuts: CutPoints) -> pl.DataFrame:
    """Add `SCORES` and `segment` to `table`; rows without orders (null recency) are prospects."""
    known = ~np.isnan(table["recency_days"].to_numpy())
    r = _score(-table["recency_days"].to_numpy(), cuts.recency, known)
    f = _score(table["frequency"].to_numpy(), cuts.frequency, known)
    m = _score(table["monetary"].to_numpy(), cuts.monetary, known)
    segment = np.where(known, SEGMENT_MAP[np.maximum(r, 1) - 1, np.maximum(f, 1) - 1], PROSPECT)
    return table.with_columns(
        pl.Series("r_score", r, pl.Float32),
        pl.Series("f_score", f, pl.Float32),
        pl.Series("m_score", m, pl.Float32),
        pl.Series("segment", segment, pl.String),
    )


def _score(values: np.ndarray, bounds: list[float], known: np.ndarray) -> np.ndarray:
    scores: np.ndarray = 1 + np.searchsorted(np.asarray(bounds), values, side="right")
    return np.where(known, scores, 0).astype(np.int64)
