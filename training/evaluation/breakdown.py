"""Breakdown of an evaluation by groups of queries: RFM segment, traffic, number of events in the visit so far."""

import numpy as np
import polars as pl

from training.evaluation.bootstrap import mean_interval, paired_difference

FACETS = ("segment", "source", "device", "country", "visit_events")
MOST_EVENTS = 3  # visits with this many events or more form one group
UNKNOWN = "unknown"


def label_visit_lengths(events: np.ndarray) -> pl.Series:
    """Label visits by length: String[n], 0, 1, 2 or 3_plus, from int64[n] numbers of events."""
    several = pl.Series(events) >= MOST_EVENTS
    return pl.select(pl.when(several).then(pl.lit(f"{MOST_EVENTS}_plus")).otherwise(pl.Series(events).cast(pl.String)))[
        :, 0
    ]


def break_down(table: pl.DataFrame) -> pl.DataFrame:
    """Measure each group of each of `FACETS`: one row per group, the largest group of a facet first.

    `table`: `Evaluation.queries`. Columns: facet, group, queries; ndcg_at_10 with its 95% interval (_low, _high) and
    new_ndcg_at_10; baseline_…_ndcg_at_10 of each baseline; best_baseline, the best one within that group, and
    over_best_baseline, the mean difference to it, with _low and _high; oracle_share where there is an oracle. A facet
    with a single group is left out.
    """
    rows = []
    for facet in FACETS:
        if facet not in table.columns or table[facet].n_unique() < 2:
            continue
        groups = table.with_columns(pl.col(facet).fill_null(UNKNOWN)).partition_by(facet, as_dict=True)
        for (group,), part in sorted(groups.items(), key=lambda g: (-g[1].height, str(g[0]))):
            rows.append({"facet": facet, "group": group, "queries": part.height, **_group_metrics(part)})
    return pl.DataFrame(rows, infer_schema_length=None)


def over_best_baseline(table: pl.DataFrame, metric: str = "ndcg_at_10") -> tuple[str, float, float, float]:
    """Return (name of the best baseline, mean difference to it, low, high) for the queries in `table`.

    The best baseline is chosen on the same queries, which favours the baseline slightly.
    """
    means = {name: nan_mean(table[column]) for name, column in baseline_columns(table, metric).items()}
    best = max(means, key=lambda name: means[name])
    own, baseline = (table[c].to_numpy() for c in (metric, f"baseline_{best}_{metric}"))
    return best, *paired_difference(own, baseline)


def baseline_columns(table: pl.DataFrame, metric: str) -> dict[str, str]:
    """Return baseline → its column of `metric`, without the columns of new_… and unseen_…, which end alike."""
    columns = [c for c in table.columns if c.startswith("baseline_") and c.endswith(f"_{metric}")]
    names = {c.removeprefix("baseline_").removesuffix(f"_{metric}"): c for c in columns}
    return {n: c for n, c in names.items() if not n.endswith(("_new", "_unseen"))}


def nan_mean(values: pl.Series) -> float:
    """Return the mean of the values that are not NaN, 0 where there is none."""
    known = values.drop_nans()
    return float(known.mean()) if len(known) else 0.0  # type: ignore[arg-type]


def _group_metrics(part: pl.DataFrame) -> dict[str, float | str]:
    low, high = mean_interval(part["ndcg_at_10"].to_numpy())
    out: dict[str, float | str] = {
        "ndcg_at_10": nan_mean(part["ndcg_at_10"]),
        "ndcg_at_10_low": low,
        "ndcg_at_10_high": high,
        "new_ndcg_at_10": nan_mean(part["new_ndcg_at_10"]),
    }
    out |= {column: nan_mean(part[column]) for column in baseline_columns(part, "ndcg_at_10").values()}
    best, over, low, high = over_best_baseline(part)
    out |= {
        "best_baseline": best,
        "over_best_baseline": over,
        "over_best_baseline_low": low,
        "over_best_baseline_high": high,
    }
    if "oracle_ndcg_at_10" in part.columns:
        out["oracle_share"] = oracle_share(part)
    return out


def oracle_share(table: pl.DataFrame) -> float:
    """Return mean NDCG@10 divided by the oracle's, over the queries that the oracle can answer; 0 without any."""
    known = table.filter(pl.col("oracle_ndcg_at_10").is_not_nan())
    best = nan_mean(known["oracle_ndcg_at_10"])
    return nan_mean(known["ndcg_at_10"]) / best if best else 0.0
