"""Orders that somebody made up: what others are expected to spend is finite, and moves by a stated factor at most."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY
from features.tables.build import Tables
from features.tables.items import ABSURD as ABSURD_PRICE
from tests.features.shop import AS_OF, Row, build, examples, row

FACTOR = 5.0  # of the expected value of an order, with less than 1% of absurd orders
CUSTOMERS = 300
ABSURD = 40
EXPECTED = ["expected_orders_28d", "expected_orders_365d", "expected_order_value", "expected_value_365d"]


def shop(spread: float = 0.5, among: float = 0.5, orders: float = 14) -> list[Row]:
    """Log-normal order values: `among` customers, and `spread` within them."""
    rng = np.random.default_rng(7)
    rows = []
    for n in range(CUSTOMERS):
        usual = rng.normal(4, among)
        for k in range(1 + rng.poisson(orders)):
            value = round(float(np.exp(usual + rng.normal(0, spread))), 2) + 0.01
            rows.append(row("purchase", -float(rng.uniform(2, 700)), f"c{n}", f"i{n % 7}", 1.0, value, f"o{n}-{k}"))
    return rows


def false_orders(amount: float, orders: int = ABSURD, customers: int = ABSURD, name: str = "purchase") -> list[Row]:
    return [row(name, -1 - n / 10, f"c{n % customers}", "i1", 1.0, amount, f"false-{n}") for n in range(orders)]


def ratios(tables: Tables, clean: Tables, without: int = ABSURD) -> np.ndarray:
    """Expected order values of the customers without false orders: relative to those of the clean log."""
    others = pl.Series([f"c{n}" for n in range(without, CUSTOMERS)])
    ids = pl.DataFrame({"customer_id": others})
    of, of_clean = (t.customers.join(ids, on="customer_id").sort("customer_id") for t in (tables, clean))
    assert of.select(EXPECTED).null_count().row(0) == (0,) * len(EXPECTED)
    assert np.isfinite(of.select(EXPECTED).to_numpy()).all()
    return of["expected_order_value"].to_numpy() / of_clean["expected_order_value"].to_numpy()


@pytest.fixture(scope="module")
def honest() -> list[Row]:
    return shop()


@pytest.fixture(scope="module")
def clean(honest: list[Row]) -> Tables:
    return build(honest)


def test_forty_orders_at_a_trillion_move_nobody_by_much(honest: list[Row], clean: Tables):
    assert len(honest) > 100 * ABSURD
    tables = build([*honest, *false_orders(1e12)])
    moved = ratios(tables, clean)
    assert np.median(moved) == pytest.approx(1, abs=0.1)
    assert moved.max() < 2
    assert moved.min() > 0.5
    assert tables.left_out.bounded_orders == ABSURD
    assert tables.left_out.bounded_value == ABSURD * 1e12
    bound = tables.left_out.order_bound
    assert bound is not None
    assert 148 * 40 < bound < 148 * 90
    assert f"40 orders worth 40,000,000,000,000.00 in all, each far above the others, count as {bound:,.2f}" in (
        "\n".join(tables.left_out.describe())
    )
    assert tables.customers["expected_order_value"].max() <= bound


@pytest.mark.parametrize("orders", [[(1e7, 1, 1)], [(1e12, 40, 1)], [(1e-9, 40, 40)]])
def test_one_typo_or_one_customer_moves_nobody(honest: list[Row], clean: Tables, orders: list[tuple[float, int, int]]):
    rows = [r for amount, n, customers in orders for r in false_orders(amount, n, customers)]
    moved = ratios(build([*honest, *rows]), clean)
    assert np.median(moved) == pytest.approx(1, abs=0.05)
    assert moved.max() < 1.3
    assert moved.min() > 0.7


def test_absurd_refunds_move_nobody_else(honest: list[Row], clean: Tables):
    credits = false_orders(1e12, name="refund")  # of no order
    moved = ratios(build([*honest, *credits]), clean)
    assert np.abs(moved - 1).max() < 0.2
    both = [*false_orders(1e12), *false_orders(1e12, name="refund")]  # given back whole
    assert ratios(build([*honest, *both]), clean) == pytest.approx(1)
    half = [*false_orders(1e12), *false_orders(9.9e11, name="refund")]
    moved = ratios(build([*honest, *half]), clean)
    assert moved.max() < 2
    assert moved.min() > 0.5


def test_honest_shops_are_not_bounded():
    for spread, among in ((0.1, 0.0), (1.5, 0.3), (0.3, 1.5)):
        tables = build(shop(spread, among, orders=4))
        assert tables.left_out.bounded_orders == 0
        assert tables.customers.select(EXPECTED).null_count().row(0) == (0,) * len(EXPECTED)
    wholesale = [row("purchase", -5 - n, f"c{n}", "i1", 1.0, 100 * 55.0, f"w{n}") for n in range(5)]
    assert build([*shop(), *wholesale]).left_out.bounded_orders == 0


def test_cut_points_and_prices_stay(honest: list[Row], clean: Tables):
    lie = [row("view_item", -0.01, "d9", f"i{n}", None, 1e12) for n in range(7)]
    tables = build([*honest, *false_orders(1e12), *lie])
    assert tables.cut_points.monetary[:3] == pytest.approx(clean.cut_points.monetary[:3], rel=0.3)
    prices = tables.items["price"].to_numpy() / clean.items["price"].to_numpy()
    assert prices.max() < 20
    assert build([*honest, *lie]).items["price"].max() < 1e5


@pytest.mark.parametrize("price", [1e12, 1e-6])
def test_no_device_makes_a_price_of_what_is_sold(honest: list[Row], clean: Tables, price: float):
    """With an event a day, for longer than the item was there."""
    lies = [row("view_item", -n - 0.01, "d9", f"i{k}", None, price) for n in range(800) for k in range(7)]
    items = build([*honest, *lies]).items
    for column in ("price", "usual_price"):
        assert (items[column] / clean.items[column]).is_between(1 / ABSURD_PRICE, ABSURD_PRICE).all()


@examples(8)
@given(
    st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=ABSURD),
    st.integers(1, ABSURD),
    st.sampled_from([(0.2, 0.2), (0.5, 1.0), (1.0, 1.5)]),
)
def test_less_than_one_percent_of_absurd_orders(amounts: list[float], customers: int, spreads: tuple[float, float]):
    rows = shop(*spreads)
    assert len(amounts) < len(rows) / 100
    absurd = [
        row("purchase", -1 - n / 10, f"c{n % customers}", "i1", 1.0, a, f"false-{n}") for n, a in enumerate(amounts)
    ]
    moved = ratios(build([*rows, *absurd]), build(rows))
    assert moved.max() <= FACTOR
    assert moved.min() >= 1 / FACTOR


def test_what_comes_later_bounds_nothing_earlier(honest: list[Row]):
    at = AS_OF - 5 * DAY
    later = false_orders(1e12)
    assert build([*honest, *later], at).customers.equals(build(honest, at).customers)
