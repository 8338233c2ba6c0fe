import polars as pl
import pytest

from features.common.clock import DAY
from training.customers.fit import CustomerEvaluation, ValueEvaluation
from training.customers.propensity import ClassifierEvaluation
from training.reports import plots
from training.reports.customer_plots import plot_customers, plot_outcomes

TENTHS = pl.DataFrame({"predicted": [0.1, 0.4], "came_true": [0.15, 0.38], "customers": [50, 50]})
EVALUATION = ClassifierEvaluation(20_000 * DAY, 100, 0.25, 0.8, 0.5, 0.6, 0.2, TENTHS)


def test_only_measured_predictions_are_plotted() -> None:
    value = ValueEvaluation(20_000 * DAY, 25.0, 27.0, 0.3, TENTHS)
    all_plots = plot_customers(CustomerEvaluation({7: EVALUATION, 28: EVALUATION}, EVALUATION, value))
    assert list(all_plots) == [
        "propensity_7d_calibration",
        "propensity_28d_calibration",
        "churn_90d",
        "expected_value_28d",
    ]
    for plot in all_plots.values():
        assert "2024-10-04" in plot.title
        assert "<svg" in plot.svg()
    assert (
        all_plots["propensity_7d_calibration"].alt_text
        == plots.plot_calibration(TENTHS.rename({"came_true": "ordered"}), 7, "2024-10-04").alt_text
    )
    assert plot_customers(CustomerEvaluation()) == {}


def test_bars_are_outcomes_and_dots_are_predictions() -> None:
    plot = plot_outcomes(TENTHS, "churn", "churn risk", 100, "%")
    (axes,) = plot.figure().axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([15, 38])
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([10, 40])
    assert "10 predicted, 15 came true" in plot.alt_text
