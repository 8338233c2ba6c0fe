"""Segment table: one row per customer as of one instant, for campaigns, exports and reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from features.common.spreadsheets import write_csv
from features.segments import clusters, lookalike
from features.segments.clusters import Clustering
from features.segments.lookalike import Lookalikes
from features.tables import lifetime, rfm, traffic
from features.tables.build import Tables
from features.tables.columns import Column, Field, names
from features.tables.left_out import LeftOut

VALUE_TIERS = ("none", "lowest", "low", "middle", "high", "top")
LIFECYCLES = ("prospect", "new", "won_back", "active", "cooling", "lapsed", "lost")
VISITORS = ("new", "returning")

# Recency in cycles up to which a customer is active, cooling and lapsed. Who orders at random has a gap of two
# cycles after one order in seven, of three after one in twenty, of six after one in four hundred.
ACTIVE, COOLING, LAPSED = 2.0, 3.0, 6.0
TYPICAL_DAYS = 90.0  # the cycle of a shop where nobody has ordered twice

FIELDS = (
    Field("segment", "string", "RFM segment: " + ", ".join((*rfm.SEGMENTS, rfm.PROSPECT))),
    Field("value_tier", "string", f"by m_score: {', '.join(VALUE_TIERS)}; none without orders"),
    Field(
        "lifecycle",
        "string",
        "prospect: no order; new: first order within the shop's typical cycle; won_back: active, and lapsed or lost "
        f"before the latest order; active: last order within {ACTIVE:g} cycles of the customer's; cooling: within "
        f"{COOLING:g}; lapsed: within {LAPSED:g}; lost: longer ago. The first that fits",
    ),
    Field("visitor", "string", "returning: more than one session, or events a day or more apart; else new"),
    *traffic.FIELDS,
    *clusters.FIELDS,
)
CYCLE = (
    Column(
        "cycle_days",
        "days",
        "the customer's mean gap between orders, one more of the shop's typical length (the median of customers' mean "
        "gaps) counted with it; null without orders",
    ),
    Column("cycles_ago", "cycles", "recency_days / cycle_days"),
)
COLUMNS = (*rfm.COLUMNS, *rfm.SCORES, *CYCLE, *lifetime.COLUMNS)


@dataclass(frozen=True)
class Segments:
    """`table`: customer_id, `FIELDS`, `COLUMNS`, then predictions and lookalikes where requested, sorted by id.

    `left_out`: the events that count for nobody.
    """

    as_of: int
    table: pl.DataFrame
    clustering: Clustering
    lookalikes: Lookalikes | None
    left_out: LeftOut = field(default_factory=LeftOut)

    def write(self, out: Path) -> None:
        """Write the table as Parquet or CSV, by the name's suffix."""
        validate_out(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            write_csv(self.table, out)
        else:
            self.table.write_parquet(out)


def validate_out(out: Path) -> None:
    """Raise `InputError` unless `Segments.write` knows the suffix: before the work, not after it."""
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out is {out}; its name must end in .parquet or .csv")


def build(
    tables: Tables,
    k: int | None = None,
    seeds: Sequence[str] | None = None,
    n_lookalikes: int = 1000,
    predictions: pl.DataFrame | None = None,
    clustering: Clustering | None = None,
) -> Segments:
    """Segment the customers of `tables`.

    `predictions`: customer_id and columns to add. With a `clustering` customers are assigned to its clusters, else k
    clusters are fitted, or as many as fit best. With `seeds` the `n_lookalikes` most similar customers are ranked.
    """
    customers = tables.customers
    clustering = clustering or clusters.fit_clusters(customers, tables.affinities, k)
    lookalikes = None if seeds is None else lookalike.rank_lookalikes(customers, tables.affinities, seeds, n_lookalikes)
    table = add_lifecycle(customers)
    table = table.with_columns(
        pl.col("m_score").replace_strict(dict(enumerate(VALUE_TIERS)), return_dtype=pl.String).alias("value_tier"),
        visitor=pl.when((pl.col("sessions") > 1) | (pl.col("known_days") - pl.col("active_days_ago") >= 1))
        .then(pl.lit("returning"))
        .otherwise(pl.lit("new")),
    )
    parts = [clustering.assign(customers, tables.affinities)]
    parts += [part for part in (predictions, None if lookalikes is None else lookalikes.scores) if part is not None]
    extra = [c for part in parts[1:] for c in part.columns if c != "customer_id"]
    for part in parts:
        table = table.join(part, on="customer_id", how="left")
    columns = ["customer_id", *(f.name for f in FIELDS), *names(COLUMNS), *extra]
    table = table.select(columns).sort("customer_id")
    return Segments(tables.as_of, table, clustering, lookalikes, tables.left_out)


def add_lifecycle(customers: pl.DataFrame) -> pl.DataFrame:
    """Add `CYCLE` and lifecycle to `customers`, from recency_days, tenure_days, order_gap_days and last_gap_days."""
    known = customers.select(
        pl.col("recency_days", "tenure_days", "order_gap_days", "last_gap_days").cast(pl.Float64).fill_null(np.nan)
    )
    recency, tenure, gap, last_gap = (known[c].to_numpy() for c in known.columns)
    repeats = ~np.isnan(gap)
    typical = float(np.median(gap[repeats])) if repeats.any() else 0.0
    typical = typical if typical > 0 else TYPICAL_DAYS
    span = np.where(repeats, tenure - recency, 0.0)
    gaps = np.rint(span / np.where(gap > 0, gap, np.inf))  # as many as make up the span
    cycle = (span + typical) / (gaps + 1)
    ago = recency / cycle
    cycle_before = (span - last_gap + typical) / np.maximum(gaps, 1)  # as it was before the last gap
    conditions = (
        np.isnan(recency),
        tenure <= typical,
        (ago <= ACTIVE) & (last_gap > COOLING * cycle_before),
        ago <= ACTIVE,
        ago <= COOLING,
        ago <= LAPSED,
    )
    lifecycle = np.select(conditions, LIFECYCLES[:-1], LIFECYCLES[-1])
    cycle = np.where(np.isnan(recency), np.nan, cycle)
    return customers.with_columns(
        pl.Series("cycle_days", cycle).fill_nan(None).cast(pl.Float32),
        pl.Series("cycles_ago", ago).fill_nan(None).cast(pl.Float32),
        pl.Series("lifecycle", lifecycle, pl.String),
    )


def share_table(table: pl.DataFrame, by: str, order: Sequence[str] = ()) -> pl.DataFrame:
    """Count the customers by a column: one row per value of `by`.

    Columns: `by`, customers, share, buyers, revenue, mean_value, revenue_share, churn_risk.

    `revenue` is the sum of monetary, `mean_value` its mean over buyers, `churn_risk` the mean of churn_risk_90d.
    In the given order, else largest first; null last.
    """
    money = pl.col("monetary").cast(pl.Float64)
    groups = table.group_by(by).agg(
        customers=pl.len().cast(pl.Int64),
        buyers=pl.col("recency_days").count().cast(pl.Int64),
        revenue=money.sum(),
        mean_value=money.mean(),
        churn_risk=pl.col("churn_risk_90d").cast(pl.Float64).mean(),
    )
    place = {value: n for n, value in enumerate(order)}
    revenue = groups["revenue"].sum()
    return (
        groups.with_columns(
            share=pl.col("customers") / max(1, table.height),
            revenue_share=pl.col("revenue") / revenue if revenue > 0 else pl.lit(None, pl.Float64),
            _place=pl.col(by).replace_strict(place, default=len(place), return_dtype=pl.Int64) if place else pl.lit(0),
        )
        .sort(pl.col(by).is_null(), "_place", -pl.col("customers"), by)
        .select(by, "customers", "share", "buyers", "revenue", "mean_value", "revenue_share", "churn_risk")
    )


def summarize(segments: Segments) -> dict[str, Any]:
    """Return JSON values: totals, and the shares by segment, lifecycle, value tier and cluster."""
    table = segments.table
    return {
        "as_of": iso(segments.as_of),
        "customers": table.height,
        "buyers": table["recency_days"].count(),
        "revenue": float(table["monetary"].cast(pl.Float64).sum()),
        "segments": share_table(table, "segment", (*rfm.SEGMENTS, rfm.PROSPECT)).to_dicts(),
        "lifecycle": share_table(table, "lifecycle", LIFECYCLES).to_dicts(),
        "value_tiers": share_table(table, "value_tier", VALUE_TIERS).to_dicts(),
        "clusters": share_table(table, "cluster_name").to_dicts(),
        "silhouettes": {str(k): s for k, s in segments.clustering.silhouettes.items()},
        "lookalikes": None if segments.lookalikes is None else segments.lookalikes.as_dict(),
        "left_out": segments.left_out.as_dict(),
    }


def format_text(segments: Segments) -> str:
    """Format the RFM segments as plain text, with lines for clusters, lookalikes and what was left out."""
    rows = share_table(segments.table, "segment", (*rfm.SEGMENTS, rfm.PROSPECT))
    lines = [f"{'segment':<20}{'customers':>10}{'share':>8}{'mean value':>13}{'of revenue':>12}{'churn risk':>12}"]
    for r in rows.iter_rows(named=True):
        value = "–" if r["mean_value"] is None else f"{r['mean_value']:,.2f}"
        lines.append(
            f"{r['segment']:<20}{r['customers']:>10,}{r['share']:>8.1%}{value:>13}"
            f"{format_percent(r['revenue_share']):>12}{format_percent(r['churn_risk']):>12}"
        )
    lines.append(f"\n{segments.table.height:,} customers as of {iso(segments.as_of)}")
    for n, cluster in enumerate(segments.clustering.clusters, 1):
        lines.append(f"cluster {n}: {cluster.name} ({cluster.customers:,})")
    if segments.lookalikes is not None:
        lines.append(segments.lookalikes.text())
    lines += segments.left_out.describe()
    return "\n".join(lines)


def format_percent(share: float | None) -> str:
    """Format a share of 0–1 as percent, `–` for None."""
    return "–" if share is None else f"{share:.1%}"
