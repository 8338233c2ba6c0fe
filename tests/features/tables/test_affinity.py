import polars as pl
import pytest
from hypothesis import given

from features.tables import affinity
from features.tables.history import HALF_LIFE_DAYS, TYPE_WEIGHT
from tests.features.shop import Row, build, events, examples, one, row

VIEW, CART = TYPE_WEIGHT["view_item"], TYPE_WEIGHT["add_to_cart"]


def shares(rows: list[Row], customer_id: str, facet: str) -> dict[str, float]:
    table = build(rows).affinities
    return {v: s for c, f, v, s in table.iter_rows() if (c, f) == (customer_id, facet)}


def test_every_level_of_the_path_has_its_shares():
    rows = [
        row("view_item", -1, "c1", "i0"),  # Kitchen/Tea, Alder
        row("add_to_cart", -1, "c1", "i1"),  # Kitchen/Tea, Birch
        row("view_item", -1, "c1", "i2"),  # Kitchen, Alder
        row("view_item", -1, "c1", "i4"),  # Garden, no brand
        row("view_item", -1, "c1", "i3"),  # no category, Birch
        row("view_item", -1, "c2", "i4"),
    ]
    whole = 3 * VIEW + CART
    assert shares(rows, "c1", "category_1") == pytest.approx(
        {"Kitchen": (2 * VIEW + CART) / whole, "Garden": VIEW / whole}
    )
    assert shares(rows, "c1", "category_2") == {"Kitchen/Tea": 1}
    assert shares(rows, "c1", "category_3") == {}
    assert shares(rows, "c1", "brand") == pytest.approx(
        {"Alder": 2 * VIEW / (3 * VIEW + CART), "Birch": (VIEW + CART) / (3 * VIEW + CART)}
    )
    customer = one(build(rows).customers, customer_id="c1")
    assert (customer["categories"], customer["brands"], customer["explore_share"]) == (2, 2, 1)
    assert customer["category_concentration"] == pytest.approx((VIEW / whole) ** 2 + ((2 * VIEW + CART) / whole) ** 2)


def test_affinity_halves_over_time():
    rows = [row("view_item", -1 - HALF_LIFE_DAYS, "c1", "i0"), row("view_item", -1, "c1", "i4")]
    assert shares(rows, "c1", "category_1") == pytest.approx({"Kitchen": 1 / 3, "Garden": 2 / 3})


def test_prices_and_discounts():
    prices = {"i4": 1.0, "i5": 5.0, "i6": 10.0}  # all of Garden
    rows = [row("view_item", -k, "d1", i, price=p) for k in (30, 29, 28) for i, p in prices.items()]
    rows += [
        row("purchase", -9, "c1", "i6", 2.0, 7.0, "o1"),  # 30% under the usual price
        row("purchase", -8, "c1", "i6", 1.0, 10.0, "o2"),
        row("purchase", -7, "c1", "i6", 1.0, 9.6, "o3"),
    ]
    assert shares(rows, "c1", "discount") == {"deep": 0.5, "none": 0.5}
    assert shares(rows, "c1", "price_tier") == {"5": 1}
    customer = one(build(rows).customers, customer_id="c1")
    assert customer["price_percentile"] == pytest.approx(5 / 6)
    assert customer["explore_share"] == pytest.approx(1 / 3)


def test_a_customer_without_interactions_has_no_affinity():
    customer = one(build([row("login", -1, "c1"), row("view_item", -1, "c2", "i0")]).customers, customer_id="c1")
    assert [customer[c.name] for c in affinity.COLUMNS] == [None] * len(affinity.COLUMNS)


@examples(9)
@given(events(-120, 0, least=3))
def test_shares_of_a_facet_add_up_to_one(rows: list[Row]):
    table = build([*rows, row("view_item", -1, "c1", "i0")]).affinities
    sums = table.group_by("customer_id", "facet").agg(pl.col("share").sum())
    assert sums["share"].to_list() == pytest.approx([1] * sums.height, abs=1e-5)
    assert (table["share"] > 0).all()
