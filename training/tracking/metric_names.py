"""How a run's metrics are named in MLflow, whose pages sort by name and make a section of what comes before a slash.

The numbers that runs are compared and promoted by keep the names they have in mlflow.yml and in a bundle's manifest
(one_to_one_ndcg_at_10). All others go into a section of their kind (one_to_one/candidate_recall/als), so that an
analyst meets two dozen numbers first, not two hundred. The pages show what has no section last: the handful that
tells most is there a second time, in the section headline, which comes first.
"""

import re
from collections.abc import Mapping, Sequence

from models.bundle import RECOMMENDERS, RecommenderName
from training.evaluation.metrics import PER_QUERY

_CUSTOMERS = ("propensity_7d_auc", "propensity_28d_auc", "churn_90d_auc", "next_category_hit_at_1")
PLAIN = frozenset(
    [*PER_QUERY, *(f"new_{m}" for m in PER_QUERY), "unseen_ndcg_at_10", "coverage", "over_best_baseline", *_CUSTOMERS]
)
"""Kept under their plain names: what the gate can decide by, and what its guard rails read."""

HEADLINE = ("ndcg_at_10", "over_best_baseline", "new_ndcg_at_10", "recall_at_20", "coverage")
POINTS = 200  # of a learning curve at most: MLflow's charts draw no more
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


def recommender_of(name: str) -> tuple[RecommenderName | None, str]:
    """one_to_one_visit_ndcg_at_10 → one_to_one_visit, ndcg_at_10; None and the name itself where none is named."""
    for recommender in sorted(RECOMMENDERS, key=len, reverse=True):
        if name.startswith(f"{recommender}_"):
            return recommender, name.removeprefix(f"{recommender}_")
    return None, name


def logged_name(name: str) -> str:
    """one_to_one_candidate_recall_als → one_to_one/candidate_recall/als; a metric to compare runs by stays as it is."""
    recommender, metric = recommender_of(name)
    if recommender is None or metric in PLAIN:
        return name
    for pattern, section in _SECTIONS:
        if re.fullmatch(pattern, metric):
            return f"{recommender}/{re.sub(pattern, section, metric)}"
    return f"{recommender}/more/{metric}"


def logged(metrics: Mapping[str, float]) -> dict[str, float]:
    """A bundle's metrics under the names they have in MLflow, first those that its pages should show first."""
    first = [f"{recommender}_{metric}" for metric in HEADLINE for recommender in RECOMMENDERS]
    first = [name for name in first if name in metrics]
    rest = sorted(set(metrics) - set(first), key=lambda name: ("/" in logged_name(name), name))
    values = {logged_name(name): float(metrics[name]) for name in [*first, *rest]}
    return values | {f"headline/{name}": float(metrics[name]) for name in first}


def curve_points(curves: Mapping[RecommenderName, Sequence[float]]) -> list[tuple[str, float, int]]:
    """(name, value, step) of each learning curve, where a step is a tree, and its best value and tree as metrics.

    MLflow's tables show a metric's last step, not its best one.
    """
    points: list[tuple[str, float, int]] = []
    for name, curve in curves.items():
        if not len(curve):
            continue
        best = max(range(len(curve)), key=lambda n: curve[n])
        every = -(-len(curve) // POINTS)
        steps = sorted({*range(0, len(curve), every), best, len(curve) - 1})
        section = f"{name}/learning_curve"
        points += [(f"{section}/ndcg_at_10_by_trees", float(curve[n]), n + 1) for n in steps]
        points += [(f"{section}/best_ndcg_at_10", float(curve[best]), 0), (f"{section}/best_trees", best + 1.0, 0)]
    return points
