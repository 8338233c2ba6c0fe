"""Metric names and learning curves in MLflow."""

import pytest

from training.result import TrainingResult
from training.tracking import metric_names


def test_a_learning_curve_is_logged_per_tree_with_its_best_value_as_a_metric() -> None:
    curve = [0.1, 0.3, 0.5, 0.4]
    points = metric_names.learning_curve_points({"predictive": curve, "one_to_one": []})
    steps = [(value, step) for name, value, step in points if name.endswith("ndcg_at_10_by_trees")]
    assert steps == [(0.1, 1), (0.3, 2), (0.5, 3), (0.4, 4)]
    assert ("predictive/learning_curve/best_ndcg_at_10", 0.5, 0) in points
    assert ("predictive/learning_curve/best_trees", 3.0, 0) in points


def test_a_long_curve_is_thinned_and_keeps_its_best_and_last_tree() -> None:
    curve = [0.5 - abs(n - 777) / 5000 for n in range(2000)]
    points = metric_names.learning_curve_points({"one_to_one": curve})
    steps = [step for name, _, step in points if name.endswith("by_trees")]
    assert len(steps) <= metric_names.MAX_POINTS + 2
    assert {1, 778, 2000} <= set(steps)


@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("one_to_one_ndcg_at_10", "one_to_one_ndcg_at_10"),
        ("predictive_new_mrr", "predictive_new_mrr"),
        ("one_to_one_coverage", "one_to_one_coverage"),
        ("one_to_one_candidate_recall_item_knn_last", "one_to_one/candidate_recall/item_knn_last"),
        ("one_to_one_segment_cant_lose_queries", "one_to_one/queries_by_segment/cant_lose"),
        ("one_to_one_baseline_tifu_knn_new_ndcg_at_10", "one_to_one/baseline_new_ndcg_at_10/tifu_knn"),
        ("predictive_visit_events_3_plus_ndcg_at_10", "predictive/ndcg_at_10_by_visit_events/3_plus"),
        ("predictive_over_best_baseline_low", "predictive/intervals/over_best_baseline_low"),
        ("predictive_something_new", "predictive/more/something_new"),
        ("seconds", "seconds"),
    ],
)
def test_names_in_mlflow(name: str, logged: str) -> None:
    assert metric_names.mlflow_name(name) == logged


def test_no_two_metrics_share_a_name(result: TrainingResult) -> None:
    names = [metric_names.mlflow_name(name) for name in result.bundle.metrics]
    assert len(set(names)) == len(names)
