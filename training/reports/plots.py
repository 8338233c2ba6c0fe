"""Plots of a training run, each as a PNG artifact of the run and as SVG in its HTML report.

Blue is the run's own model, orange what it is compared with: two colours that colour-blind readers can distinguish.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib import rc_context
from matplotlib.figure import Figure

from features.common.svg import INK, ONE, SETTINGS, TWO, render_svg
from models.bundle import RecommenderName
from models.candidates.registry import GENERATORS, GeneratorName
from training.evaluation.bootstrap import mean_interval, paired_difference
from training.evaluation.breakdown import baseline_columns, nan_mean
from training.evaluation.evaluate import Evaluation

SHOWN_FEATURES = 15
_WORDS = {
    "one_to_one": "one-to-one",
    "one_to_one_visit": "one-to-one in visits",
    "cant_lose": "can't lose",
    "als": "ALS",
    "tifu_knn": "TIFU-KNN",
}


@dataclass(frozen=True)
class Plot:
    """`draw` draws on matplotlib axes; `alt_text` describes the result; `height` in inches at a width of five."""

    title: str
    alt_text: str
    draw: Callable[[Any], None]
    height: float

    def figure(self) -> Figure:
        """Return the plot with its title as a figure, for MLflow's artifact page."""
        with rc_context(SETTINGS):
            figure = Figure(figsize=(7.5, 1.5 * self.height + 0.3), layout="constrained", dpi=110)
            axes = figure.subplots()
            self.draw(axes)
            figure.suptitle(self.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure

    def svg(self) -> str:
        """Return the plot without its title as an SVG element, for a page with its own headings."""
        return render_svg(self.draw, f"{self.title}. {self.alt_text}", self.height)


def plot_run(
    evaluations: Mapping[RecommenderName, Evaluation],
    gains: Mapping[RecommenderName, Mapping[str, float]],
    curves: Mapping[RecommenderName, Sequence[float]],
) -> dict[str, Plot]:
    """Return file name → plot. `gains`: feature → total gain; `curves`: NDCG@10 on the hold-out after each tree."""
    plots: dict[str, Plot] = {}
    for name, evaluation in evaluations.items():
        table = evaluation.queries
        if baseline_columns(table, "ndcg_at_10"):
            plots[f"{name}_against_baselines"] = plot_baselines(table, name)
        if table["segment"].n_unique() > 1:
            plots[f"{name}_ndcg_by_segment"] = plot_segments(table, name)
        plots[f"{name}_candidate_recall"] = plot_candidate_recall(evaluation.summary, name)
    for name, features in gains.items():
        plots[f"{name}_importance"] = plot_importance(features, name)
    for name, curve in curves.items():
        if len(curve):
            plots[f"{name}_learning_curve"] = plot_learning_curve(curve, name)
    return plots


def plot_baselines(table: pl.DataFrame, name: RecommenderName) -> Plot:
    """Plot NDCG@10 of the recommender and its baselines with 95% intervals, the best on top.

    `table`: `Evaluation.queries`.
    """
    columns = {
        display_name(name): "ndcg_at_10",
        **{display_name(b): c for b, c in baseline_columns(table, "ndcg_at_10").items()},
    }
    order = sorted(columns, key=lambda label: nan_mean(table[columns[label]]))
    values = {label: table[columns[label]].drop_nans().to_numpy() for label in order}
    recommender = display_name(name)
    best = next(label for label in reversed(order) if label != recommender)

    def draw(axes: Any) -> None:
        _bars(axes, values, [ONE if label == recommender else TWO for label in order])
        axes.set_xlabel("NDCG@10 on the hold-out, with 95% intervals")

    lead, low, high = paired_difference(table["ndcg_at_10"].to_numpy(), table[columns[best]].to_numpy())
    verdict = "beats" if low > 0 else "is worse than" if high < 0 else "does not differ significantly from"
    alt_text = ", ".join(f"{label} {values[label].mean():.3f}" for label in reversed(order))
    interval = f"{lead:+.3f}, 95% interval {low:+.3f} to {high:+.3f}"
    title = f"{recommender} {verdict} {best}\n(the best baseline; difference {interval})"
    return Plot(title, f"NDCG@10: {alt_text}", draw, _height(order))


def plot_segments(table: pl.DataFrame, name: RecommenderName) -> Plot:
    """Plot NDCG@10 per RFM segment with 95% intervals, the segment with most queries on top."""
    groups = table.group_by("segment").agg("ndcg_at_10").sort(pl.col("ndcg_at_10").list.len(), "segment")
    values = {f"{display_name(s)} ({len(v):,})": np.array(v) for s, v in groups.iter_rows()}

    def draw(axes: Any) -> None:
        for row, scores in enumerate(values.values()):
            low, high = mean_interval(scores)
            axes.plot([low, high], [row, row], color=ONE, linewidth=3, solid_capstyle="butt")
            axes.plot(scores.mean(), row, "o", color=ONE)
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(-0.6, len(values) - 0.4)
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("NDCG@10 on the hold-out, with 95% intervals")

    alt_text = ", ".join(f"{label} {v.mean():.3f}" for label, v in reversed(values.items()))
    return Plot(f"{display_name(name)}: NDCG@10 by RFM segment (number of queries)", alt_text, draw, _height(values))


def plot_candidate_recall(summary: Mapping[str, float], name: RecommenderName) -> Plot:
    """Plot the share of the relevant items that each generator proposes, and that all of them propose together."""
    recall = {g: summary[f"candidate_recall_{g}"] for g in GENERATORS if summary.get(f"candidate_recall_{g}")}
    order = sorted(recall, key=lambda g: recall[g])
    union = summary.get("candidate_recall_union", 0.0)
    labels = [*map(display_name, order), "all generators"]
    shares = [*(recall[g] for g in order), union]

    def draw(axes: Any) -> None:
        axes.barh(labels, [100 * share for share in shares], color=[*[ONE] * len(order), TWO])
        for row, share in enumerate(shares):
            axes.text(100 * share + 1, row, f"{share:.0%}", va="center")
        axes.set_xlim(0, 112)
        axes.set_xticks(range(0, 101, 20))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("relevant items among the candidates, %")

    alt_text = ", ".join(f"{label} {share:.0%}" for label, share in zip(labels, shares, strict=True))
    return Plot(
        f"{display_name(name)}: {union:.0%} of the relevant items reach the ranker", alt_text, draw, _height(labels)
    )


def plot_budgets(budgets: Mapping[GeneratorName, tuple[int, int]], name: RecommenderName) -> Plot:
    """Plot candidate budgets: generator → (budget in the recipe, budget that is kept)."""
    order = sorted(budgets, key=lambda g: budgets[g][0])
    labels = list(map(display_name, order))
    recipe_budgets, kept_budgets = ([budgets[g][n] for g in order] for n in (0, 1))

    def draw(axes: Any) -> None:
        axes.barh(labels, recipe_budgets, color=TWO, label="cut: adds hardly any relevant item")
        axes.barh(labels, kept_budgets, color=ONE, label="kept")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("candidates per query")
        axes.legend(loc="lower right")

    alt_text = ", ".join(
        f"{label} {u} of {a}" for label, a, u in zip(labels, recipe_budgets, kept_budgets, strict=True)
    )
    return Plot(f"{display_name(name)}: candidate budget of each generator", alt_text, draw, _height(order))


def plot_importance(gains: Mapping[str, float], name: RecommenderName) -> Plot:
    """Plot the features with the largest share of the ranker's total gain. `gains`: feature → gain, descending."""
    total = sum(gains.values()) or 1.0
    features = [(feature, gain / total) for feature, gain in list(gains.items())[:SHOWN_FEATURES] if gain > 0][::-1]

    def draw(axes: Any) -> None:
        axes.barh([feature for feature, _ in features], [100 * share for _, share in features], color=ONE)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("share of the ranker's gain, %")

    alt_text = ", ".join(f"{feature} {share:.0%}" for feature, share in reversed(features))
    return Plot(f"{display_name(name)}: most important features of the ranker", alt_text, draw, _height(features))


def plot_learning_curve(curve: Sequence[float], name: RecommenderName) -> Plot:
    """Plot NDCG@10 on the hold-out after each tree, and the number of trees that is kept."""
    best = int(np.argmax(curve))

    def draw(axes: Any) -> None:
        axes.plot(np.arange(1, len(curve) + 1), curve, color=ONE)
        axes.plot(best + 1, curve[best], "o", color=TWO)
        axes.text(0.98, 0.04, f"{best + 1} trees: {curve[best]:.3f}", ha="right", transform=axes.transAxes)
        axes.grid(axis="y")
        axes.set_xlabel("trees")
        axes.set_ylabel("NDCG@10 among the candidates")

    title = f"{display_name(name)}: NDCG@10 on the hold-out is highest with {best + 1} trees"
    return Plot(title, f"NDCG@10 from {curve[0]:.3f} to {curve[best]:.3f}", draw, 3.0)


def plot_calibration(tenths: pl.DataFrame, days: int, day: str) -> Plot:
    """Plot the predicted probability to order within `days` days of `day` against the share of customers who did.

    `tenths`, one row per decile of the customers: predicted, ordered (means) and customers.
    """
    predicted, ordered = (tenths[c].to_numpy() for c in ("predicted", "ordered"))
    top = 105 * max(1e-3, float(np.max([predicted, ordered])))

    def draw(axes: Any) -> None:
        axes.plot([0, top], [0, top], color=TWO, linewidth=1, label="perfect calibration")
        axes.plot(100 * predicted, 100 * ordered, "o-", color=ONE, label="deciles of the customers")
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("predicted to order, %")
        axes.set_ylabel("ordered, %")
        axes.legend(loc="upper left")

    alt_text = ", ".join(f"{p:.0%} predicted, {o:.0%} ordered" for p, o in zip(predicted, ordered, strict=True))
    return Plot(
        f"calibration of the probability to order within {days} days of {day}\n(on the line: as predicted)",
        alt_text,
        draw,
        4.0,
    )


def plot_revenue_tradeoff(table: pl.DataFrame, chosen: float, name: RecommenderName) -> Plot:
    """Plot revenue@10 against NDCG@10 for each `ranker.value`, and highlight the `chosen` one.

    `table`: as `training.evaluation.revenue_tradeoff.measure_tradeoff` returns it.
    """
    points = list(table.iter_rows(named=True))
    (our,) = (p for p in points if p["value"] == chosen)

    def draw(axes: Any) -> None:
        axes.plot(table["ndcg_at_10"], table["revenue_at_10"], color=ONE, linewidth=1)
        for p in points:
            color = TWO if p["value"] == chosen else ONE
            position = (p["ndcg_at_10"], p["revenue_at_10"])
            axes.plot(*position, "o", color=color)
            axes.annotate(f"{p['value']:g}", position, xytext=(6, 5), textcoords="offset points")
        axes.margins(0.12)
        axes.grid()
        axes.set_xlabel("NDCG@10 on the hold-out; labels are ranker.value")
        axes.set_ylabel("revenue@10, currency per list")

    base = points[0]["revenue_at_10"]
    change = f"{our['revenue_change'] / base:+.0%}" if base else f"{our['revenue_change']:+.2f}"
    title = (
        f"{display_name(name)}: value {chosen:g} gives {change} revenue@10 for {our['ndcg_change']:+.3f} NDCG@10\n"
        f"(95% intervals {our['revenue_change_low']:+.2f} to {our['revenue_change_high']:+.2f} currency per list, "
        f"{our['ndcg_change_low']:+.3f} to {our['ndcg_change_high']:+.3f})"
    )
    alt_text = "; ".join(
        f"value {p['value']:g}: NDCG@10 {p['ndcg_at_10']:.3f}, revenue@10 {p['revenue_at_10']:.2f}" for p in points
    )
    return Plot(title, alt_text, draw, 3.2)


def display_name(name: str) -> str:
    """Return a name from the code as it is shown to people."""
    if name in _WORDS:
        return _WORDS[name]
    return name.replace("item_knn", "item KNN").replace("_", " ")


def _bars(axes: Any, values: Mapping[str, np.ndarray], colours: Sequence[str]) -> None:
    labels = list(values)
    means = [float(v.mean()) if len(v) else 0.0 for v in values.values()]
    ends = [mean_interval(v) if len(v) else (0.0, 0.0) for v in values.values()]
    reach = [[max(0.0, m - low) for m, (low, _) in zip(means, ends, strict=True)]]
    reach.append([max(0.0, high - m) for m, (_, high) in zip(means, ends, strict=True)])
    axes.barh(labels, means, color=list(colours), xerr=reach, ecolor=INK, error_kw={"linewidth": 1.2})
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlim(left=0)


def _height(rows: Sequence[Any] | Mapping[str, Any]) -> float:
    return 0.8 + 0.27 * len(rows)
