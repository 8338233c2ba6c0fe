"""The ranker's labels and gains: grades, and prices as far as a recipe lets them count."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.ranker import BINS, Gains, Ranker, RankerConfig, objective, parameters
from tests.features.shop import examples as so_many
from tests.models.fitted import FEATURES

PRICE = FEATURES.index("item_price")


@dataclass(frozen=True)
class Examples:
    matrix: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    features: tuple[str, ...] = FEATURES


def priced(prices: list[float], grades: list[int]) -> Examples:
    """One query whose candidates differ in price and grade."""
    matrix = np.full((len(prices), len(FEATURES)), np.nan, np.float32)
    matrix[:, PRICE] = prices
    return Examples(matrix, np.array(grades, np.int64), np.array([len(prices)]))


def shop(seed: int, queries: int = 120, each: int = 20) -> Examples:
    """Cheap and expensive items: column 0 tells which are more relevant; the expensive ones are less so."""
    draw = np.random.default_rng(seed)
    n = queries * each
    matrix = draw.normal(size=(n, len(FEATURES))).astype(np.float32)
    dear = draw.random(n) < 0.5
    matrix[:, PRICE] = np.where(dear, 50, 2)
    wish = draw.random(n) < np.where(dear, 0.12, 0.3) * (1 + (matrix[:, 0] > 0))
    return Examples(matrix, np.where(wish, 3, 0), np.full(queries, each))


def config(**changes: float) -> RankerConfig:
    settings = {"rounds": 15, "leaves": 7, "min_leaf": 10, "feature_fraction": 1.0} | changes
    return RankerConfig.model_validate(settings)


def gains(examples: Examples, value: float) -> np.ndarray:
    fit = Gains.fit(examples, value)
    return fit.table[fit.labels(examples)]


def test_the_formula_by_hand():
    """Mean price of the relevant items 4; grades 3 and 1 gain 7 and 1."""
    one = priced([2, 6, 4, 100, 4], [3, 3, 3, 0, 1])
    assert gains(one, 0.5).tolist() == pytest.approx([7 * 0.75, 7 * 1.25, 7, 0, 1])
    assert gains(one, 1.0).tolist() == pytest.approx([3.5, 10.5, 7, 0, 1])


def test_without_a_price_an_item_counts_as_the_mean():
    assert gains(priced([2, np.nan, 6], [3, 3, 3]), 1.0).tolist() == pytest.approx([3.5, 7, 10.5])
    assert gains(priced([np.nan, np.nan], [3, 0]), 1.0).tolist() == pytest.approx([7, 0])
    assert gains(priced([0, 0, -1], [3, 0, 2]), 0.5).tolist() == pytest.approx([3.5, 0, 1.5])


@so_many(80)
@given(
    st.lists(st.tuples(st.floats(0.01, 1e4), st.integers(0, 3)), min_size=1, max_size=300).filter(
        lambda rows: any(grade for _, grade in rows)
    ),
    st.floats(0.01, 1),
)
def test_bins_are_few_rise_and_keep_the_total(rows: list[tuple[float, int]], value: float):
    one = priced([p for p, _ in rows], [g for _, g in rows])
    fit = Gains.fit(one, value)
    labels = fit.labels(one)
    assert ((labels > 0) == (one.labels > 0)).all()
    assert labels.max() <= BINS
    assert len(fit.table) == labels.max() + 1
    assert (np.diff(fit.table) > 0).all()
    relevant = one.labels > 0
    price = np.minimum(one.matrix[relevant, PRICE].astype(float), fit.most)
    exact = (2.0 ** one.labels[relevant] - 1) * (1 - value + value * price / price.mean())
    assert fit.table[labels].sum() == pytest.approx(exact.sum())
    assert (np.diff(labels[relevant][np.argsort(exact, kind="stable")]) >= 0).all()


def test_an_absurd_price_moves_no_other_gain():
    prices = [float(n % 9 + 1) for n in range(200)]
    usual, lied = priced(prices, [3] * 200), priced([*prices, 1e12], [3] * 201)
    moved = gains(lied, 1.0)[:-1] / gains(usual, 1.0)
    assert moved.min() > 0.5
    assert moved.max() < 3  # those who share the last bin with it
    assert gains(lied, 1.0).max() < 7 * 150
    assert Gains.fit(usual, 1.0).most > max(prices)


def test_validation_is_measured_by_the_same_table():
    train, holdout = priced([1, 2, 3, 4], [3, 3, 3, 3]), priced([0.1, 2.5, 400, 2], [3, 3, 3, 0])
    fit = Gains.fit(train, 1.0)
    assert fit.labels(holdout).tolist() == [1, 2, 4, 0]


def test_without_value_labels_are_the_grades():
    """LightGBM gets the grades themselves and its own gains."""
    one = shop(1)
    settings, labels = objective(config(), one)
    assert settings == parameters(config(), len(one.labels))
    assert labels(one) is one.labels
    assert "label_gain" not in settings
    text = Ranker.fit(one, config(), shop(2)).text()
    assert text == Ranker.fit(one, config(value=0.0), shop(2)).text()
    assert text != Ranker.fit(one, config(value=0.5), shop(2)).text()


def test_a_higher_value_puts_higher_prices_first():
    train, fresh = shop(1), shop(3)
    means, hits = [], []
    for value in (0.0, 0.5, 1.0):
        scores = Ranker.fit(train, config(value=value), shop(2)).predict(fresh.matrix)
        top = np.argsort(-scores.reshape(120, 20), axis=1)[:, :5] + 20 * np.arange(120)[:, None]
        means.append(fresh.matrix[top, PRICE].mean())
        hits.append((fresh.labels[top] > 0).mean())
    assert means[0] < 10 < 20 < means[1] < means[2]
    assert hits[0] > hits[2] + 0.05


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_value_is_a_share(value: float):
    with pytest.raises(ValidationError):
        config(value=value)
