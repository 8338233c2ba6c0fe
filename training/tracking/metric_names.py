"""Names of a run's metrics in MLflow, whose pages sort by name and group by the part before a slash.

Metrics that runs are compared and promoted by keep the names they have in mlflow.yml and in a bundle's manifest
(one_to_one_ndcg_at_10). All others are put into sections (one_to_one/candidate_recall/als), so that an analyst first
sees two dozen numbers instead of two hundred. The pages show metrics without a section last, so the most important ones
are logged a second time, in the section `headline`, which comes first.
"""

import re
from collections.abc import Mapping, Sequence

from models.bundle import RECOMMENDERS, RecommenderName
from training.evaluation.metrics import PER_QUERY

_CUSTOMERS = ("propensity_7d_auc", "propensity_28d_auc", "churn_90d_auc", "next_category_hit_at_1")
PLAIN_METRICS = frozenset(
    [*PER_QUERY, *(f"new_{m}" for m in PER_QUERY), "unseen_ndcg_at_10", "coverage", "over_best_baseline", *_CUSTOMERS]
)
"""Metrics that keep their names: those that the promotion gate can decide by, and that its guard rails read."""

HEADLINE = ("ndcg_at_10", "over_best_baseline", "new_ndcg_at_10", "recall_at_20", "coverage")
MAX_POINTS = 200  # of a learning curve: MLflow's charts draw no more
_SECTIONS = (
    (r"(propensity_\d+d|churn_\d+d|expected_value_\d+d|next_category)_(.+)", r"\1/\2"),
    (r"by_value_(.+)_((?:ndcg|revenue)_at_10)", r"\2_by_value/\1"),
    (r"candidate_recall_(.+)", r"candidate_recall/\1"),
    (r"budget_(.+)", r"budgets/\1"),
    (r"(candidates_per_query)", r"budgets/\1"),
    (r"segment_(.+)_(queries|ndcg_at_10)", r"\2_by_segment/\1"),
    (r"visit_events_([^_]+(?:_plus)?)_(queries|ndcg_at_10)", r"\2_by_visit_events/\1"),
    (r"visit_events_([^_]+(?:_plus)?)_(.+)", r"visit_events_\1/\2"),
    (r"baseline_(.+?)_((?:new_|unseen_)?(?:ndcg|recall|map|hit_rate)_at_\d+|(?:new_)?mrr)", r"baseline_\2/\1"),
    (r"(.+_(?:low|high))", r"intervals/\1"),
    (r"(oracle_.+)", r"oracle/\1"),
    (r"(gini|novelty|diversity|.+_bias)", r"lists/\1"),
    (r"(queries|trees)", r"size/\1"),
)


def split_recommender(name: str) -> tuple[RecommenderName | None, str]:
    """Split one_to_one_visit_ndcg_at_10 into one_to_one_visit and ndcg_at_10; None and `name` without a recommender."""
    for recommender in sorted(RECOMMENDERS, key=len, reverse=True):
        if name.startswith(f"{recommender}_"):
            return recommender, name.removeprefix(f"{recommender}_")
    return None, name


def mlflow_name(name: str) -> str:
    """Return the name in MLflow: one_to_one_candidate_recall_als → one_to_one/candidate_recall/als.

    Metrics of `PLAIN_METRICS` keep their names.
    """
    recommender, metric = split_recommender(name)
    if recommender is None or metric in PLAIN_METRICS:
        return name
    for pattern, section in _SECTIONS:
        if re.fullmatch(pattern, metric):
            return f"{recommender}/{re.sub(pattern, section, metric)}"
    return f"{recommender}/more/{metric}"


def to_mlflow_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Rename a bundle's metrics for MLflow, and add the section `headline`."""
    first = [f"{recommender}_{metric}" for metric in HEADLINE for recommender in RECOMMENDERS]
    first = [name for name in first if name in metrics]
    rest = sorted(set(metrics) - set(first), key=lambda name: ("/" in mlflow_name(name), name))
    values = {mlflow_name(name): float(metrics[name]) for name in [*first, *rest]}
    return values | {f"headline/{name}": float(metrics[name]) for name in first}


def learning_curve_points(curves: Mapping[RecommenderName, Sequence[float]]) -> list[tuple[str, float, int]]:
    """Return (name, value, step) of each learning curve, with one step per tree, thinned to about `MAX_POINTS`.

    The best value and its number of trees are separate metrics: MLflow's tables show a metric's last step only.
    """
    points: list[tuple[str, float, int]] = []
    for name, curve in curves.items():
        if not len(curve):
            continue
        best = max(range(len(curve)), key=lambda n: curve[n])
        every = -(-len(curve) // MAX_POINTS)
        steps = sorted({*range(0, len(curve), every), best, len(curve) - 1})
        section = f"{name}/learning_curve"
        points += [(f"{section}/ndcg_at_10_by_trees", float(curve[n]), n + 1) for n in steps]
        points += [(f"{section}/best_ndcg_at_10", float(curve[best]), 0), (f"{section}/best_trees", best + 1.0, 0)]
    return points
