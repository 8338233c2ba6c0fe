import polars as pl
import pytest

from features.common.clock import DAY
from training.customers.fit import Measured, Value
from training.customers.propensity import Evaluation
from training.reports import plots
from training.reports.customer_plots import of_customers, told_and_true

TENTHS = pl.DataFrame({"predicted": [0.1, 0.4], "came_true": [0.15, 0.38], "customers": [50, 50]})
EVALUATION = Evaluation(20_000 * DAY, 100, 0.25, 0.8, 0.5, 0.6, 0.2, TENTHS)


def test_what_was_measured_is_drawn_and_nothing_else() -> None:
    value = Value(20_000 * DAY, 25.0, 27.0, 0.3, TENTHS)
    made = of_customers(Measured({7: EVALUATION, 28: EVALUATION}, EVALUATION, value))
    assert list(made) == ["propensity_7d_calibration", "propensity_28d_calibration", "churn_90d", "expected_value_28d"]
    for plot in made.values():
        assert "2024-10-04" in plot.title
        assert "<svg" in plot.svg()
    assert (
        made["propensity_7d_calibration"].told
        == plots.calibration(TENTHS.rename({"came_true": "ordered"}), 7, "2024-10-04").told
    )
    assert of_customers(Measured()) == {}


def test_bars_are_what_came_true_and_dots_what_was_predicted() -> None:
    plot = told_and_true(TENTHS, "churn", "churn risk", 100, "%")
    (axes,) = plot.figure().axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([15, 38])
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([10, 40])
    assert "10 predicted, 15 came true" in plot.told
