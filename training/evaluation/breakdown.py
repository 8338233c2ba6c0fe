"""An evaluation by groups of queries: RFM segment, traffic, how much of a visit was known."""

import numpy as np
import polars as pl

from training.evaluation.bootstrap import difference
from training.evaluation.metrics import interval

FACETS = ("segment", "source", "device", "country", "visit_events")
MOST_EVENTS = 3  # visits with at least so many events so far are one group
UNKNOWN = "unknown"


def visit_groups(events: np.ndarray) -> pl.Series:
    """String[n]: 0, 1, 2 or 3_plus, of int64[n] events."""
    several = pl.Series(events) >= MOST_EVENTS
    return pl.select(pl.when(several).then(pl.lit(f"{MOST_EVENTS}_plus")).otherwise(pl.Series(events).cast(pl.String)))[
        :, 0
    ]


def breakdown(table: pl.DataFrame) -> pl.DataFrame:
    """One row per group of each of `FACETS`, the largest group of a facet first.

    `table`: an evaluation's `queries`. Columns: facet, group, queries; ndcg_at_10 with its 95% interval (_low,
    _high) and new_ndcg_at_10; baseline_…_ndcg_at_10 of each baseline; best_baseline, the one that does best in that
    group, and over_best_baseline, the mean difference to it, with _low and _high. Groups of a facet in which all are
    alike say nothing and are left out.
    """
    rows = []
    for facet in FACETS:
        if facet not in table.columns or table[facet].n_unique() < 2:
            continue
        groups = table.with_columns(pl.col(facet).fill_null(UNKNOWN)).partition_by(facet, as_dict=True)
        for (group,), part in sorted(groups.items(), key=lambda g: (-g[1].height, str(g[0]))):
            rows.append({"facet": facet, "group": group, "queries": part.height, **_of(part)})
    return pl.DataFrame(rows, infer_schema_length=None)


def over_best_baseline(table: pl.DataFrame, metric: str = "ndcg_at_10") -> tuple[str, float, float, float]:
    """(name of the best baseline, mean difference to it, low, high) of the queries in `table`.

    Which baseline is best is read off the same queries, which favours the baseline a little.
    """
    means = {name: mean(table[column]) for name, column in baseline_columns(table, metric).items()}
    best = max(means, key=lambda name: means[name])
    ours, theirs = (table[c].to_numpy() for c in (metric, f"baseline_{best}_{metric}"))
    return best, *difference(ours, theirs)


def baseline_columns(table: pl.DataFrame, metric: str) -> dict[str, str]:
    """Baseline → its column of a metric; not those of `new_` and `unseen_`, whose names end alike."""
    ours = [c for c in table.columns if c.startswith("baseline_") and c.endswith(f"_{metric}")]
    names = {c.removeprefix("baseline_").removesuffix(f"_{metric}"): c for c in ours}
    return {n: c for n, c in names.items() if not n.endswith(("_new", "_unseen"))}


def mean(values: pl.Series) -> float:
    """Of what is known; 0 where nothing is."""
    known = values.drop_nans()
    return float(known.mean()) if len(known) else 0.0  # type: ignore[arg-type]


def _of(part: pl.DataFrame) -> dict[str, float | str]:
    low, high = interval(part["ndcg_at_10"].to_numpy())
    out: dict[str, float | str] = {
        "ndcg_at_10": mean(part["ndcg_at_10"]),
        "ndcg_at_10_low": low,
        "ndcg_at_10_high": high,
        "new_ndcg_at_10": mean(part["new_ndcg_at_10"]),
    }
    out |= {column: mean(part[column]) for column in baseline_columns(part, "ndcg_at_10").values()}
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
    """Mean NDCG@10 over the oracle's, of the queries the oracle can answer; 0 where there are none."""
    known = table.filter(pl.col("oracle_ndcg_at_10").is_not_nan())
    best = mean(known["oracle_ndcg_at_10"])
    return mean(known["ndcg_at_10"]) / best if best else 0.0
