"""Plots of a training run: one drawing each, as a picture beside the run and as SVG in its report.

Blue is what the run made, orange what it is compared with: two colours that colour-blind people tell apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib import rc_context
from matplotlib.figure import Figure

from features.common.svg import INK, ONE, SETTINGS, TWO, element
from models.bundle import RecommenderName
from models.candidates.generators import GENERATORS, GeneratorName
from training.evaluation.bootstrap import difference
from training.evaluation.breakdown import baseline_columns, mean
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import interval

SHOWN = 15  # features
_WORDS = {
    "one_to_one": "one-to-one",
    "one_to_one_visit": "one-to-one in visits",
    "cant_lose": "can't lose",
    "als": "ALS",
    "tifu_knn": "TIFU-KNN",
}


@dataclass(frozen=True)
class Plot:
    """`told` says in words what `draw` shows on an axes; `height` in inches, where the width is five."""

    title: str
    told: str
    draw: Callable[[Any], None]
    height: float

    def figure(self) -> Figure:
        """A picture with its title, for MLflow's artifact page."""
        with rc_context(SETTINGS):
            figure = Figure(figsize=(7.5, 1.5 * self.height + 0.3), layout="constrained", dpi=110)
            axes = figure.subplots()
            self.draw(axes)
            figure.suptitle(self.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure

    def svg(self) -> str:
        """An element for a page, which gives it a heading itself."""
        return element(self.draw, f"{self.title}. {self.told}", self.height)


def of_run(
    evaluations: Mapping[RecommenderName, Evaluation],
    gains: Mapping[RecommenderName, Mapping[str, float]],
    curves: Mapping[RecommenderName, Sequence[float]],
) -> dict[str, Plot]:
    """File name → plot. `gains`: feature → total gain; `curves`: NDCG@10 on the hold-out after each tree."""
    made: dict[str, Plot] = {}
    for name, evaluation in evaluations.items():
        table = evaluation.queries
        if baseline_columns(table, "ndcg_at_10"):
            made[f"{name}_against_baselines"] = against_baselines(table, name)
        if table["segment"].n_unique() > 1:
            made[f"{name}_ndcg_by_segment"] = segments(table, name)
        made[f"{name}_candidate_recall"] = candidate_recall(evaluation.summary, name)
    for name, features in gains.items():
        made[f"{name}_importance"] = importance(features, name)
    for name, curve in curves.items():
        if len(curve):
            made[f"{name}_learning_curve"] = learning_curve(curve, name)
    return made


def against_baselines(table: pl.DataFrame, name: RecommenderName) -> Plot:
    """NDCG@10 with 95% bootstrap intervals of `table` (an evaluation's `queries`), the best on top."""
    columns = {words(name): "ndcg_at_10", **{words(b): c for b, c in baseline_columns(table, "ndcg_at_10").items()}}
    order = sorted(columns, key=lambda label: mean(table[columns[label]]))
    values = {label: table[columns[label]].drop_nans().to_numpy() for label in order}
    ours = words(name)
    best = next(label for label in reversed(order) if label != ours)

    def draw(axes: Any) -> None:
        _bars(axes, values, [ONE if label == ours else TWO for label in order])
        axes.set_xlabel("NDCG@10 on the hold-out, with 95% intervals")

    ahead, low, high = difference(table["ndcg_at_10"].to_numpy(), table[columns[best]].to_numpy())
    verdict = "beats" if low > 0 else "falls behind" if high < 0 else "cannot be told apart from"
    told = ", ".join(f"{label} {values[label].mean():.3f}" for label in reversed(order))
    title = f"{ours} {verdict} {best}, the best simple method\n({ahead:+.3f}, 95% interval {low:+.3f} to {high:+.3f})"
    return Plot(title, f"NDCG@10: {told}", draw, _height(order))


def segments(table: pl.DataFrame, name: RecommenderName) -> Plot:
    """NDCG@10 per RFM segment with 95% bootstrap intervals, the segment with most queries on top."""
    groups = table.group_by("segment").agg("ndcg_at_10").sort(pl.col("ndcg_at_10").list.len(), "segment")
    values = {f"{words(s)} ({len(v):,})": np.array(v) for s, v in groups.iter_rows()}

    def draw(axes: Any) -> None:
        for row, scores in enumerate(values.values()):
            low, high = interval(scores)
            axes.plot([low, high], [row, row], color=ONE, linewidth=3, solid_capstyle="butt")
            axes.plot(scores.mean(), row, "o", color=ONE)
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(-0.6, len(values) - 0.4)
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("NDCG@10 on the hold-out, with 95% intervals")

    told = ", ".join(f"{label} {v.mean():.3f}" for label, v in reversed(values.items()))
    return Plot(f"{words(name)}: quality by RFM segment (queries)", told, draw, _height(values))


def candidate_recall(summary: Mapping[str, float], name: RecommenderName) -> Plot:
    """Which share of the relevant items each generator proposed, and all of them together."""
    recall = {g: summary[f"candidate_recall_{g}"] for g in GENERATORS if summary.get(f"candidate_recall_{g}")}
    order = sorted(recall, key=lambda g: recall[g])
    union = summary.get("candidate_recall_union", 0.0)
    labels = [*map(words, order), "all together"]
    shares = [*(recall[g] for g in order), union]

    def draw(axes: Any) -> None:
        axes.barh(labels, [100 * share for share in shares], color=[*[ONE] * len(order), TWO])
        for row, share in enumerate(shares):
            axes.text(100 * share + 1, row, f"{share:.0%}", va="center")
        axes.set_xlim(0, 112)
        axes.set_xticks(range(0, 101, 20))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("wanted items that were proposed, %")

    told = ", ".join(f"{label} {share:.0%}" for label, share in zip(labels, shares, strict=True))
    return Plot(f"{words(name)}: {union:.0%} of the wanted items reach the ranker", told, draw, _height(labels))


def budgets(kept: Mapping[GeneratorName, tuple[int, int]], name: RecommenderName) -> Plot:
    """How many candidates each generator may propose: the recipe's budget, and how much of it is kept."""
    order = sorted(kept, key=lambda g: kept[g][0])
    labels = list(map(words, order))
    allowed, used = ([kept[g][n] for g in order] for n in (0, 1))

    def draw(axes: Any) -> None:
        axes.barh(labels, allowed, color=TWO, label="brings next to nothing")
        axes.barh(labels, used, color=ONE, label="kept")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("candidates a query")
        axes.legend(loc="lower right")

    told = ", ".join(f"{label} {u} of {a}" for label, a, u in zip(labels, allowed, used, strict=True))
    return Plot(f"{words(name)}: how deep each generator is asked", told, draw, _height(order))


def importance(gains: Mapping[str, float], name: RecommenderName) -> Plot:
    """The features with the largest share of the ranker's total gain."""
    total = sum(gains.values()) or 1.0
    shown = [(feature, gain / total) for feature, gain in list(gains.items())[:SHOWN] if gain > 0][::-1]

    def draw(axes: Any) -> None:
        axes.barh([feature for feature, _ in shown], [100 * share for _, share in shown], color=ONE)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("share of the ranker's gain, %")

    told = ", ".join(f"{feature} {share:.0%}" for feature, share in reversed(shown))
    return Plot(f"{words(name)}: what the ranker looks at", told, draw, _height(shown))


def learning_curve(curve: Sequence[float], name: RecommenderName) -> Plot:
    """NDCG@10 on the hold-out after each tree, and where the ranker stopped."""
    best = int(np.argmax(curve))

    def draw(axes: Any) -> None:
        axes.plot(np.arange(1, len(curve) + 1), curve, color=ONE)
        axes.plot(best + 1, curve[best], "o", color=TWO)
        axes.text(0.98, 0.04, f"{best + 1} trees: {curve[best]:.3f}", ha="right", transform=axes.transAxes)
        axes.grid(axis="y")
        axes.set_xlabel("trees")
        axes.set_ylabel("NDCG@10 among the candidates")

    title = f"{words(name)}: {best + 1} trees do best on the hold-out"
    return Plot(title, f"NDCG@10 from {curve[0]:.3f} to {curve[best]:.3f}", draw, 3.0)


def calibration(tenths: pl.DataFrame, days: int, day: str) -> Plot:
    """Predicted probability to order within `days` of `day` against the share who did.

    `tenths`: predicted, ordered (means) and customers, as `training.customers.propensity.Evaluation.tenths` with other words.
    """
    predicted, ordered = (tenths[c].to_numpy() for c in ("predicted", "ordered"))
    top = 105 * max(1e-3, float(np.max([predicted, ordered])))

    def draw(axes: Any) -> None:
        axes.plot([0, top], [0, top], color=TWO, linewidth=1, label="as predicted")
        axes.plot(100 * predicted, 100 * ordered, "o-", color=ONE, label="tenths of the customers")
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("predicted to order, %")
        axes.set_ylabel("who ordered, %")
        axes.legend(loc="upper left")

    told = ", ".join(f"{p:.0%} predicted, {o:.0%} ordered" for p, o in zip(predicted, ordered, strict=True))
    return Plot(
        f"order within {days} days of {day}:\non the line, predictions can be taken at their word", told, draw, 4.0
    )


def words(name: str) -> str:
    """A name from the code as people read it."""
    if name in _WORDS:
        return _WORDS[name]
    return name.replace("item_knn", "item KNN").replace("_", " ")


def _bars(axes: Any, values: Mapping[str, np.ndarray], colours: Sequence[str]) -> None:
    labels = list(values)
    means = [float(v.mean()) if len(v) else 0.0 for v in values.values()]
    ends = [interval(v) if len(v) else (0.0, 0.0) for v in values.values()]
    reach = [[max(0.0, m - low) for m, (low, _) in zip(means, ends, strict=True)]]
    reach.append([max(0.0, high - m) for m, (_, high) in zip(means, ends, strict=True)])
    axes.barh(labels, means, color=list(colours), xerr=reach, ecolor=INK, error_kw={"linewidth": 1.2})
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlim(left=0)


def _height(rows: Sequence[Any] | Mapping[str, Any]) -> float:
    return 0.8 + 0.27 * len(rows)
