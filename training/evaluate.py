"""How well a recommender ranks what people turned out to want."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.snapshot import SEGMENT_NAMES, Snapshot
from models.bundle import RecommenderName
from models.candidates.generators import GENERATORS
from models.two_stage import Candidates, TwoStage
from training import metrics
from training.metrics import DEPTH
from training.queries import Queries


@dataclass(frozen=True)
class Evaluation:
    """`summary`: metric → value. `per_query`: customer_id, segment, relevant and every metric of each query."""

    summary: dict[str, float]
    per_query: pl.DataFrame


def prefixed(evaluations: Mapping[RecommenderName, Evaluation]) -> dict[str, float]:
    """All summaries as one: each metric's name begins with its recommender's, as in MLflow and the bundle."""
    return {f"{name}_{metric}": value for name, e in evaluations.items() for metric, value in e.summary.items()}


def evaluate(recommender: TwoStage, snapshot: Snapshot, asked: Queries) -> Evaluation:
    """Rank every query's candidates and compare the top of the lists with its relevant items.

    A relevant item that no generator proposes counts as missed. `new_…` looks at items the customer had
    not bought before: others are taken out of the lists and of what is relevant.
    """
    n_items = len(snapshot.items)
    lists, new_lists, recalled = [], [], np.zeros(len(GENERATORS) + 1)
    for start, batch, found, _ in recommender.rank(snapshot, asked.visitors):
        own = _bought(snapshot, batch.customers[found.query], found.item)
        lists.append((start, _top(found, np.ones(len(own), bool), len(batch))))
        new_lists.append((start, _top(found, ~own, len(batch))))
        wanted = asked.labels(found.query + start, found.item, n_items) > 0
        for g in range(len(GENERATORS)):
            recalled[g] += (wanted & (found.proposed >> g & 1 == 1)).sum()
        recalled[-1] += wanted.sum()

    customers = asked.visitors.customers
    own = _bought(snapshot, customers[asked.query], asked.item)
    relevant = np.bincount(asked.query, minlength=len(asked))
    relevant_new = np.bincount(asked.query, ~own, minlength=len(asked)).astype(np.int64)
    top, top_new = _stack(lists, len(asked)), _stack(new_lists, len(asked))
    scores = _measure(asked, top, relevant, n_items)
    scores_new = _measure(asked, top_new, relevant_new, n_items)

    segments = snapshot.segments[np.maximum(customers, 0)] if len(snapshot.segments) else np.zeros(len(asked), int)
    segment = np.where(customers >= 0, np.array(SEGMENT_NAMES)[segments], SEGMENT_NAMES[0])
    per_query = pl.DataFrame(
        {
            "customer_id": snapshot.customers.at(customers) if (customers >= 0).all() else [None] * len(asked),
            "segment": segment,
            "relevant": relevant,
            **scores,
            **{f"new_{k}": np.where(relevant_new > 0, v, np.nan) for k, v in scores_new.items()},
        },
        schema_overrides={"customer_id": pl.String},
    )
    return Evaluation(_summary(per_query, recalled, relevant.sum(), top, snapshot), per_query)


def _summary(
    per_query: pl.DataFrame, recalled: np.ndarray, relevant: int, top: np.ndarray, snapshot: Snapshot
) -> dict[str, float]:
    out: dict[str, float] = {"queries": per_query.height}
    for name in metrics.PER_QUERY:
        out[name] = _mean(per_query[name])
        out[f"new_{name}"] = _mean(per_query[f"new_{name}"])
    for name in ("ndcg_at_10", "new_ndcg_at_10"):
        values = per_query[name].to_numpy()
        low, high = metrics.interval(values[~np.isnan(values)])
        out |= {f"{name}_low": low, f"{name}_high": high}
    out |= metrics.beyond_accuracy(top[:, :10], np.nan_to_num(snapshot.item("buyers")))
    for name, hits in zip((*GENERATORS, "union"), recalled, strict=True):
        out[f"candidate_recall_{name}"] = float(hits / max(1, relevant))
    by_segment = per_query.group_by("segment").agg(pl.len(), pl.col("ndcg_at_10").mean()).sort("segment")
    for segment, size, ndcg in by_segment.iter_rows():
        out |= {f"segment_{segment}_queries": size, f"segment_{segment}_ndcg_at_10": ndcg}
    return out


def _mean(values: pl.Series) -> float:
    known = values.drop_nans()
    return float(known.mean()) if len(known) else 0.0  # type: ignore[arg-type]


def _bought(snapshot: Snapshot, customers: np.ndarray, items: np.ndarray) -> np.ndarray:
    """bool: whether each customer had bought each item before the snapshot."""
    at = snapshot.history.find(customers, items)
    bought: np.ndarray = (
        (at >= 0) & (snapshot.history.column("orders")[np.maximum(at, 0)] > 0)
        if len(snapshot.history.items)
        else np.zeros(len(customers), bool)
    )
    return bought


def _top(found: Candidates, keep: np.ndarray, size: int) -> np.ndarray:
    """int64[size × DEPTH]: the first items of each query that are to be kept, -1 beyond its last."""
    query, item = found.query[keep], found.item[keep]
    within = np.arange(len(query)) - np.searchsorted(query, query)
    shown = within < DEPTH
    out = np.full((size, DEPTH), -1, np.int64)
    out[query[shown], within[shown]] = item[shown]
    return out


def _stack(parts: list[tuple[int, np.ndarray]], queries: int) -> np.ndarray:
    out = np.full((queries, DEPTH), -1, np.int64)
    for start, part in parts:
        out[start : start + len(part)] = part
    return out


def _measure(asked: Queries, top: np.ndarray, relevant: np.ndarray, n_items: int) -> dict[str, np.ndarray]:
    query = np.repeat(np.arange(len(top)), DEPTH)
    hits = (asked.labels(query, top.ravel(), n_items) > 0).reshape(top.shape) & (top >= 0)
    return {name: metric(hits, relevant) for name, metric in metrics.PER_QUERY.items()}
