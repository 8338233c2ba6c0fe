"""Plots of a run, and how its metrics and learning curves are named and thinned for MLflow."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from features.ranking.feature_matrix import FIXED_COLUMNS
from features.tables.columns import names
from models.ranker import Ranker, RankerConfig
from training.reports import plots
from training.result import TrainingResult
from training.tracking import metric_names


@dataclass(frozen=True)
class Examples:
    """Candidates whose relevance is the second column plus noise."""

    matrix: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    features: tuple[str, ...] = tuple(names(FIXED_COLUMNS))


def examples(seed: int, queries: int = 60, each: int = 12) -> Examples:
    draw = np.random.default_rng(seed)
    matrix = draw.normal(size=(queries * each, len(names(FIXED_COLUMNS)))).astype(np.float32)
    labels = (matrix[:, 1] + draw.normal(size=len(matrix)) > 1.2).astype(np.int64)
    return Examples(matrix, labels, np.full(queries, each))


def lists(wins: float, queries: int = 80) -> pl.DataFrame:
    """An evaluation whose baseline is behind by `wins` in every query."""
    base = np.tile([0.2, 0.6], queries // 2)
    columns = {"ndcg_at_10": base + wins + np.tile([-0.001, 0.001], queries // 2), "baseline_popular_ndcg_at_10": base}
    return pl.DataFrame(columns).with_columns(segment=pl.lit("champions"))


def test_the_ranker_keeps_its_learning_curve() -> None:
    config = RankerConfig(rounds=40, patience=8, leaves=7, min_leaf=5)
    ranker = Ranker.fit(examples(1), config, validation=examples(2))
    assert ranker.trees == int(np.argmax(ranker.history)) + 1
    assert len(ranker.history) == min(40, ranker.trees + 8)
    assert max(ranker.history) > ranker.history[0]
    assert Ranker.fit(examples(1), config).history == ()
    assert Ranker.from_text(ranker.text()).history == ()


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


@pytest.mark.parametrize(
    ("wins", "verdict"), [(0.1, "beats"), (0.0, "does not differ significantly from"), (-0.1, "is worse than")]
)
def test_the_title_states_the_verdict_that_the_interval_supports(wins: float, verdict: str) -> None:
    plot = plots.plot_baselines(lists(wins), "one_to_one")
    assert plot.title.startswith(f"one-to-one {verdict} popular")
    assert f"popular {0.4:.3f}" in plot.alt_text


def test_candidate_recall_shows_only_generators_with_relevant_candidates() -> None:
    summary = {"candidate_recall_als": 0.25, "candidate_recall_visit": 0.0, "candidate_recall_union": 0.5}
    plot = plots.plot_candidate_recall(summary, "one_to_one")
    assert plot.alt_text == "ALS 25%, all generators 50%"
    assert "50% of the relevant items" in plot.title


def test_every_plot_of_a_run_is_a_figure_and_an_svg_with_alt_text(result: TrainingResult) -> None:
    gains = {name: two_stage.ranker.importance() for name, two_stage in result.bundle.recommenders.items()}
    all_plots = plots.plot_run(result.evaluations, gains, {"one_to_one": [0.1, 0.4, 0.3], "predictive": []})
    assert "one_to_one_learning_curve" in all_plots
    assert "predictive_learning_curve" not in all_plots
    for plot in all_plots.values():
        (axes,) = plot.figure().axes
        assert axes.get_xlabel()
        svg = plot.svg()
        assert svg.startswith("<svg")
        assert "aria-label" in svg
        assert "#4477aa" not in svg  # the page's own colours, by day and by night


def test_calibration_shows_each_decile() -> None:
    tenths = pl.DataFrame({"predicted": [0.1, 0.4], "ordered": [0.15, 0.38], "customers": [50, 50]})
    plot = plots.plot_calibration(tenths, 7, "2026-03-01")
    (axes,) = plot.figure().axes
    assert axes.lines[1].get_ydata().tolist() == pytest.approx([15, 38])
    assert "10% predicted, 15% ordered" in plot.alt_text
