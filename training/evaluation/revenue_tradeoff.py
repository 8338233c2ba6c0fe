"""Revenue trade-off: ranking quality against revenue on the hold-out, when prices count in a ranker's objective.

`ranker.value` in a recipe goes from 0, relevance alone, to 1, relevance weighted by price (`models.ranker.Gains`). No
value is right for every shop, so one ranker is trained for each of `VALUES` and the trade-off is reported.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from features.ranking.snapshot import Snapshot
from models.bundle import RecommenderName
from models.ranker import LabelledCandidates, Ranker, RankerConfig
from models.two_stage import TwoStage
from training.dataset.queries import Queries
from training.evaluation import metrics
from training.evaluation.bootstrap import paired_difference
from training.evaluation.metrics import DEPTH

VALUES = (0.0, 0.1, 0.25, 0.5, 1.0)  # closer together where revenue changes fastest


def revenue_at_10(queries: Queries, top: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Return float64[queries]: the summed price of the relevant items among the first ten of each list, one unit each.

    `top` int64[queries × 10 or more], -1 = no item; `price` float[items], NaN where unknown, which counts as 0.
    """
    top = top[:, :10]
    query = np.repeat(np.arange(len(top)), top.shape[1])
    hits = (queries.labels(query, top.ravel(), len(price)) > 0).reshape(top.shape) & (top >= 0)
    revenue: np.ndarray = (hits * np.nan_to_num(price.astype(np.float64))[top]).sum(axis=1)
    return revenue


def fit_rankers(
    train: LabelledCandidates, validation: LabelledCandidates, config: RankerConfig, base_ranker: Ranker
) -> dict[float, Ranker]:
    """Fit a ranker for each of `VALUES`, in ascending order; `base_ranker` is the one with the value of `config`."""
    return {
        value: base_ranker
        if value == config.value
        else Ranker.fit(train, config.model_copy(update={"value": value}), validation)
        for value in sorted({*VALUES, config.value})
    }


def measure_tradeoff(
    two_stage: TwoStage, rankers: Mapping[float, Ranker], snapshot: Snapshot, queries: Queries
) -> pl.DataFrame:
    """Measure each ranker of `rankers` (value → ranker) on the queries.

    One row per value: value, trees, ndcg_at_10, revenue_at_10 (currency per query, at the snapshot's prices), and
    ndcg_change and revenue_change relative to value 0, with 95% intervals (…_low, …_high) by the paired bootstrap.
    """
    price = snapshot.item("price")
    relevant = np.bincount(queries.query, minlength=len(queries))
    quality, revenue = {}, {}
    for value, ranker in rankers.items():
        top = np.full((len(queries), DEPTH), -1, np.int64)
        for start, batch, candidates, _ in replace(two_stage, ranker=ranker).rank(snapshot, queries.visitors):
            top[start : start + len(batch)] = metrics.top_lists(candidates.query, candidates.item, len(batch), -1)
        query = np.repeat(np.arange(len(top)), DEPTH)
        hits = (queries.labels(query, top.ravel(), len(price)) > 0).reshape(top.shape) & (top >= 0)
        quality[value] = metrics.ndcg_at_10(hits, relevant)
        revenue[value] = revenue_at_10(queries, top, price)
    rows = []
    for value, ranker in rankers.items():
        row: dict[str, float] = {"value": value, "trees": ranker.trees}
        row |= {"ndcg_at_10": float(quality[value].mean()), "revenue_at_10": float(revenue[value].mean())}
        for name, per_query in (("ndcg", quality), ("revenue", revenue)):
            change = paired_difference(per_query[value], per_query[0.0])
            row |= dict(zip((f"{name}_change", f"{name}_change_low", f"{name}_change_high"), change, strict=True))
        rows.append(row)
    return pl.DataFrame(rows)


def flatten_metrics(tables: Mapping[RecommenderName, pl.DataFrame]) -> dict[str, float]:
    """Return the tables as metrics: one_to_one_by_value_0.25_ndcg_at_10, one_to_one_by_value_0.25_revenue_at_10, …"""
    return {
        f"{name}_by_value_{row['value']:g}_{metric}": row[metric]
        for name, table in tables.items()
        for row in table.iter_rows(named=True)
        for metric in ("ndcg_at_10", "revenue_at_10")
    }
