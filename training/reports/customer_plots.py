"""Plots of what was expected of customers: orders, staying away, money."""

from typing import Any

import polars as pl

from features.common.clock import iso
from features.common.svg import ONE, TWO
from training.customers.fit import CHURN_DAYS, VALUE_DAYS, Measured
from training.reports.plots import Plot, calibration


def of_customers(measured: Measured) -> dict[str, Plot]:
    """File name → plot of everything that was measured."""
    made = {
        f"propensity_{days}d_calibration": calibration(e.tenths.rename({"came_true": "ordered"}), days, iso(e.at)[:10])
        for days, e in measured.propensity.items()
    }
    if measured.churn:
        title = f"churn risk told as of {iso(measured.churn.at)[:10]}, and who stayed away for {CHURN_DAYS} days"
        made[f"churn_{CHURN_DAYS}d"] = told_and_true(measured.churn.tenths, title, "churn risk", 100, "%")
    if measured.value:
        title = f"money expected as of {iso(measured.value.at)[:10]}, and what was bought in {VALUE_DAYS} days"
        made[f"expected_value_{VALUE_DAYS}d"] = told_and_true(
            measured.value.tenths, title, "expected value", 1, "per customer"
        )
    return made


def told_and_true(tenths: pl.DataFrame, title: str, what: str, scale: float, unit: str) -> Plot:
    """What was predicted of each tenth of the customers, and what came true.

    `tenths`: predicted, came_true (means) and customers, the lowest tenth first; shown × `scale`, in `unit`.
    """
    predicted, came_true = ((scale * tenths[c]).to_list() for c in ("predicted", "came_true"))
    place = range(1, len(predicted) + 1)

    def draw(axes: Any) -> None:
        axes.bar(place, came_true, color=ONE, width=0.7, label="came true")
        axes.plot(place, predicted, "o", color=TWO, label="predicted")
        axes.set_xticks(place)
        axes.set_ylim(bottom=min(0, *came_true))
        axes.grid(axis="y")
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(f"tenths of the customers, by {what}")
        axes.set_ylabel(unit)
        axes.legend(loc="upper left")

    told = ", ".join(f"{p:.3g} predicted, {t:.3g} came true" for p, t in zip(predicted, came_true, strict=True))
    return Plot(title, f"{what}, {unit}, by tenth: {told}", draw, 3.0)
