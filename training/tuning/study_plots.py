"""Plots of a study: the values of its trials, the importance of settings, and the values by setting."""

import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from training.tuning.study import Study, trial_value

SLICES = 12  # settings shown, the most important ones
_COMPLETE, _PRUNED, _BEST = "#4477aa", "#bbbbbb", "#ee6677"


def plot_study(study: Study, metric: str) -> dict[str, Figure]:
    """Draw all plots of a study, by file name; those that need more trials than there are, are left out."""
    figures = {"optimisation_history": plot_history(study, metric)}
    weights = compute_importances(study)
    if weights:
        figures["parameter_importances"] = _plot_importances(weights, metric)
        figures["slices"] = _plot_slices(study, list(weights)[:SLICES], metric)
    return figures


def compute_importances(study: Study) -> dict[str, float]:
    """Compute the share of the values' variance that each setting explains (fANOVA, Hutter et al. 2014), largest first.

    Only of settings that were varied; empty with fewer than three complete trials.
    """
    complete = study.complete()
    varied = [name for name in study.ranges if len({t.params[name] for t in complete}) > 1]
    if len(complete) < 3 or not varied or len({t.value for t in complete}) < 2:
        return {}
    evaluator = FanovaImportanceEvaluator(n_trees=32, seed=study.recipe.seed)
    weights: dict[str, float] = optuna.importance.get_param_importances(
        study.optuna_study, evaluator=evaluator, params=varied
    )
    return weights


def plot_history(study: Study, metric: str) -> Figure:
    """Plot every trial's value, and the best so far."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    complete = study.complete()
    pruned = [t for t in study.finished() if t.state is TrialState.PRUNED and t.value is not None]
    axes.plot([t.number for t in pruned], [t.value or 0.0 for t in pruned], "x", color=_PRUNED, label="pruned, so far")
    numbers, values = [t.number for t in complete], np.array([trial_value(t) for t in complete])
    axes.plot(numbers, values, "o", color=_COMPLETE, label="complete")
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=_BEST, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.set_title("how the study went; trial 0 is the recipe to begin with")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _plot_importances(weights: dict[str, float], metric: str) -> Figure:
    rising = list(weights.items())[::-1]
    figure = Figure(figsize=(8, 1.5 + 0.25 * len(rising)), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in rising], [100 * weight for _, weight in rising], color=_COMPLETE)
    axes.set_xlabel(f"share of what varies in {metric}, %")
    axes.set_title("which settings mattered")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _plot_slices(study: Study, names: list[str], metric: str) -> Figure:
    """One small plot per setting: its value in each trial against the value of the trial."""
    columns = 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    complete, best = study.complete(), study.best()
    for axes, name in zip(grid, names, strict=False):
        axes.plot(*_points(complete, name), "o", color=_COMPLETE, alpha=0.7)
        axes.plot(*_points([best], name), "o", color=_BEST)
        distribution = study.ranges[name]
        if distribution.log:
            axes.set_xscale("log")
        # The whole range, so that parts without any trial are visible.
        low, high = distribution.low, distribution.high
        axes.set_xticks([low, high], [f"{low:g}", f"{high:g}"])
        axes.minorticks_off()
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    grid[0].set_ylabel(metric)
    return figure


def _points(trials: list[FrozenTrial], name: str) -> tuple[list[float], list[float]]:
    return [t.params[name] for t in trials], [trial_value(t) for t in trials]
