import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.robust import DEVIATIONS, FEWEST, LEAST_SPREAD, Bounds, fit_bounds
from tests.features.shop import examples


def test_bounds_are_those_of_the_formula():
    logs = np.arange(-50, 51) / 10  # median 0, median absolute deviation 2.5
    bounds = fit_bounds(np.exp(logs))
    assert bounds is not None
    assert (np.log(bounds.low), np.log(bounds.high)) == pytest.approx((-5 * 1.4826 * 2.5, 5 * 1.4826 * 2.5))


def test_equal_amounts_leave_room_for_a_hundredfold_one():
    assert fit_bounds(np.full(99, 2.0)) == Bounds(
        pytest.approx(2 * np.exp(-DEVIATIONS * LEAST_SPREAD)), pytest.approx(2 * np.exp(DEVIATIONS * LEAST_SPREAD))
    )


def test_what_is_no_amount_does_not_count():
    amounts = np.full(FEWEST, 3.0)
    assert fit_bounds(amounts[1:]) is None
    assert fit_bounds(np.append(amounts[1:], [0.0, -3.0, np.nan, np.inf])) is None
    assert fit_bounds(np.append(amounts, [0.0, -3.0, np.nan, np.inf])) == fit_bounds(amounts)
    assert fit_bounds(np.array([])) is None


def test_log_normal_amounts_are_within():
    for spread in (0.2, 1.0, 1.5):
        amounts = np.exp(np.random.default_rng(0).normal(4, spread, 100_000))
        bounds = fit_bounds(amounts)
        assert bounds is not None
        assert ((amounts > bounds.high) | (amounts < bounds.low)).sum() <= 1


@examples(50)
@given(st.lists(st.floats(1e-12, 1e15), min_size=0, max_size=10))
def test_a_few_amounts_hardly_move_the_bounds(absurd: list[float]):
    honest = np.exp(np.random.default_rng(0).normal(4, 1, 1000))
    clean, poisoned = fit_bounds(honest), fit_bounds(np.append(honest, absurd))
    assert clean is not None
    assert poisoned is not None
    assert poisoned.high == pytest.approx(clean.high, rel=0.15)
    assert poisoned.low == pytest.approx(clean.low, rel=0.15)
