"""Plots of a run."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from features.ranking.feature_matrix import FIXED_COLUMNS
from features.tables.columns import names
from models.ranker import Ranker, RankerConfig
from training.reports import plots
from training.result import TrainingResult


@dataclass(frozen=True)
class NoisyCandidates:
    """Candidates whose relevance is the second column plus noise."""

    matrix: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    features: tuple[str, ...] = tuple(names(FIXED_COLUMNS))


def noisy_candidates(seed: int, queries: int = 60, per_query: int = 12) -> NoisyCandidates:
    draw = np.random.default_rng(seed)
    matrix = draw.normal(size=(queries * per_query, len(names(FIXED_COLUMNS)))).astype(np.float32)
    labels = (matrix[:, 1] + draw.normal(size=len(matrix)) > 1.2).astype(np.int64)
    return NoisyCandidates(matrix, labels, np.full(queries, per_query))


def lists(wins: float, queries: int = 80) -> pl.DataFrame:
    """An evaluation whose baseline is behind by `wins` in every query."""
    base = np.tile([0.2, 0.6], queries // 2)
    columns = {"ndcg_at_10": base + wins + np.tile([-0.001, 0.001], queries // 2), "baseline_popular_ndcg_at_10": base}
    return pl.DataFrame(columns).with_columns(segment=pl.lit("champions"))


def test_the_ranker_keeps_its_learning_curve() -> None:
    config = RankerConfig(rounds=40, patience=8, leaves=7, min_leaf=5)
    ranker = Ranker.fit(noisy_candidates(1), config, validation=noisy_candidates(2))
    assert ranker.trees == int(np.argmax(ranker.validation_curve)) + 1
    assert len(ranker.validation_curve) == min(40, ranker.trees + 8)
    assert max(ranker.validation_curve) > ranker.validation_curve[0]
    assert Ranker.fit(noisy_candidates(1), config).validation_curve == ()
    assert Ranker.from_text(ranker.text()).validation_curve == ()


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
