"""Plots of the predictions for customers against what came true: orders, churn, value."""

from typing import Any

import polars as pl

from features.common.clock import iso
from features.common.svg import ONE, TWO
from training.customers.fit import CHURN_DAYS, VALUE_DAYS, CustomerEvaluation
from training.reports.plots import Plot, plot_calibration


def plot_customers(evaluation: CustomerEvaluation) -> dict[str, Plot]:
    """Return file name → plot of every prediction that was measured."""
    plots = {
        f"propensity_{days}d_calibration": plot_calibration(
            e.tenths.rename({"came_true": "ordered"}), days, iso(e.at)[:10]
        )
        for days, e in evaluation.propensity.items()
    }
    if evaluation.churn:
        title = (
            f"churn risk as of {iso(evaluation.churn.at)[:10]}, and customers who did not return in {CHURN_DAYS} days"
        )
        plots[f"churn_{CHURN_DAYS}d"] = plot_outcomes(evaluation.churn.tenths, title, "churn risk", 100, "%")
    if evaluation.value:
        title = f"expected value as of {iso(evaluation.value.at)[:10]}, and purchases of the next {VALUE_DAYS} days"
        plots[f"expected_value_{VALUE_DAYS}d"] = plot_outcomes(
            evaluation.value.tenths, title, "expected value", 1, "per customer"
        )
    return plots


def plot_outcomes(tenths: pl.DataFrame, title: str, what: str, scale: float, unit: str) -> Plot:
    """Plot the mean prediction for each decile of the customers, and what came true.

    `tenths`: predicted, came_true (means) and customers, the lowest decile first; plotted × `scale`, in `unit`.
    """
    predicted, came_true = ((scale * tenths[c]).to_list() for c in ("predicted", "came_true"))
    deciles = range(1, len(predicted) + 1)

    def draw(axes: Any) -> None:
        axes.bar(deciles, came_true, color=ONE, width=0.7, label="came true")
        axes.plot(deciles, predicted, "o", color=TWO, label="predicted")
        axes.set_xticks(deciles)
        axes.set_ylim(bottom=min(0, *came_true))
        axes.grid(axis="y")
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(f"deciles of the customers, by {what}")
        axes.set_ylabel(unit)
        axes.legend(loc="upper left")

    alt_text = ", ".join(f"{p:.3g} predicted, {t:.3g} came true" for p, t in zip(predicted, came_true, strict=True))
    return Plot(title, f"{what}, {unit}, by decile: {alt_text}", draw, 3.0)
