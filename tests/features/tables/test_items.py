import polars as pl
import pytest

from features.common.clock import DAY, moment
from features.event_log.schema import CATALOG_SCHEMA, conform
from features.tables.columns import names
from features.tables.items import COLUMNS
from tests.features.shop import AS_OF, Row, build, differences, one, row

TICK = 1 / DAY  # a microsecond

# c1 and c2 come back for i1 after 363 and 333 days, c3 after 1; c4 buys it once.
SALES = [
    row("purchase", -364, "c1", "i1", 1.0, 4.0, "a1"),
    row("purchase", -1, "c1", "i1", 3.0, 6.0, "a2"),
    row("purchase", -1, "c1", "i2", 1.0, 9.0, "a2"),
    row("purchase", -336, "c2", "i1", 1.0, 4.0, "b1"),
    row("purchase", -3, "c2", "i1", 1.0, 6.0, "b2"),
    row("purchase", -30, "c3", "i1", 1.0, 5.0, "e1"),
    row("purchase", -29, "c3", "i1", 1.0, 5.0, "e2"),
    row("purchase", -90 - TICK, "c4", "i1", 2.0, 5.0, "f1"),
    row("refund", -2, "c1", "i1", 2.0, 1.0, "a2"),
]
BROWSING = [
    row("view_item", -7, "d1", "i1", price=6.5),
    row("view_item", -7 - TICK, "c2", "i1"),
    row("view_item", -28, "d1", "i1"),
    row("view_item", -28 - TICK, "d1", "i1"),
    row("add_to_cart", -28, "d1", "i1"),
    row("add_to_cart", -28 - TICK, "d1", "i1"),
    row("view_item", 0, "d1", "i1", price=99.0),
]


def item(rows: list[Row], item_id: str) -> Row:
    return one(build(rows).items, item_id=item_id)


def test_an_item_by_hand():
    expected = {
        "buyers_1d": 1,
        "buyers_3d": 2,
        "buyers_7d": 2,
        "buyers_28d": 2,
        "buyers_90d": 3,
        "buyers": 4,
        "buyers_last_year": 1,  # c1; c2 bought when the four weeks were over
        "trend": 3 / (2 / 4 + 1),
        "trend_90d": 3 / (3 * 28 / 90 + 1),
        "views_3d": 0,
        "views_7d": 1,
        "views_28d": 3,
        "carts_7d": 0,
        "carts_28d": 1,
        "view_trend": 2 / (3 / 4 + 1),
        "click_rate": None,
        "cart_rate": 2 / 23,
        "cart_buy_rate": 3 / 4,
        "buy_rate": 3 / 53,
        "removal_share": 1 / 12,
        "age_days": 364,
        "sold_last_days": 1,
        "seen_last_days": 1,
        "active_days_28d": 6,
        "price": 6,
        "price_mean": 52 / 10,
        "price_change": 60 / 52,
        "usual_price": 5,
        "discount": 0,
        "price_percentile": 1 / 2,
        "price_tier": 3,
        "repeat_share": 4 / 14,
        "repeat_gap_days": 333,
        "quantity_per_order": 10 / 7,
        "basket_items": 8 / 7,
        "refund_share": 2 / 20,
    }
    values = item(SALES + BROWSING, "i1")
    assert differences(values, expected) == {}


@pytest.mark.parametrize(("days", "count"), [(-364 - TICK, 0), (-364, 1), (-336 - TICK, 1), (-336, 0)])
def test_last_years_four_weeks_are_half_open(days: float, count: int):
    assert item([row("purchase", days, "c1", "i1")], "i1")["buyers_last_year"] == count


@pytest.mark.parametrize("window", [1, 3, 7, 28, 90])
def test_windows_include_their_first_instant(window: int):
    for days, count in ((-window, 1), (-window - TICK, 0)):
        assert item([row("purchase", days, "c1", "i1")], "i1")[f"buyers_{window}d"] == count


def test_prices_are_ranked_within_their_category():
    # i4, i5 and i6 are of Garden, where two cost the same; i3 is the only one without a category.
    prices = {"i4": 1.0, "i5": 5.0, "i6": 5.0, "i3": 9.0}
    table = build([row("view_item", -2, "d1", i, price=p) for i, p in prices.items()]).items
    ranked = {i: one(table, item_id=i) for i in prices}
    assert [ranked[i]["price_percentile"] for i in prices] == pytest.approx([1 / 6, 4 / 6, 4 / 6, 1 / 2])
    assert [ranked[i]["price_tier"] for i in prices] == [1, 4, 4, 3]


def test_the_usual_price_is_not_that_of_a_sale():
    rows = [row("view_item", -k, "d1", "i1", price=10.0) for k in (3, 4, 5, 6)]
    rows += [row("view_item", -2 + n / 100, "d1", "i1", price=7.0) for n in range(9)]
    values = item(rows, "i1")
    assert (values["price"], values["usual_price"]) == (7, 10)
    assert values["discount"] == pytest.approx(0.3)


def test_the_click_rate_of_lists():
    rows = [row("view_item_list", -k, "d1", "i1") for k in (1, 2, 28, 28 + TICK)] + [row("select_item", -1, "d1", "i1")]
    assert item(rows, "i1")["click_rate"] == pytest.approx(2 / 23)


def test_a_guest_is_a_buyer():
    sales = [row("purchase", -k, "d1", "i1", 1.0, 4.0, f"g{k}") for k in (2, 9)]
    tables = build([*sales, row("purchase", -1, "c1", "i1", 1.0, 4.0, "o1")])
    values = one(tables.items, item_id="i1")
    assert (values["buyers"], values["buyers_7d"], values["price_mean"], values["repeat_gap_days"]) == (2, 2, 4, 7)
    assert tables.customers["customer_id"].to_list() == ["c1"]
    assert tables.history["customer_id"].to_list() == ["c1"]


def test_buyers_are_counted_once():
    rows = [row("purchase", -k, who, "i1", 1.0, 1.0, f"{who}{k}") for k in (1, 2, 5) for who in ("c1", "c2")]
    values = item(rows, "i1")
    assert (values["buyers"], values["buyers_1d"], values["buyers_7d"]) == (2, 2, 2)


def test_the_gap_of_two_repeat_buyers_is_between_theirs():
    rows = [row("purchase", -k, "c1", "i1") for k in (10, 20, 30)] + [row("purchase", -k, "c2", "i1") for k in (1, 5)]
    assert item(rows, "i1")["repeat_gap_days"] == pytest.approx(7)
    assert item(rows[:1], "i1")["repeat_gap_days"] is None


@pytest.mark.parametrize(
    ("last", "price"),
    [
        ([row("view_item", -1, "d1", "i1", price=5.0), row("add_to_cart", -1, "d1", "i1", price=7.0)], 7),
        ([row("view_item", -1, "d1", "i1")], 2),
        ([row("refund", -1, "c1", "i1", 1.0, 8.0)], 2),
        ([row("view_item", 0, "d1", "i1", price=8.0)], 2),
    ],
)
def test_the_price_is_that_of_the_last_instant_that_has_one(last: list[Row], price: float):
    rows = [row("view_item", -9, "d1", "i1", price=9.0), row("purchase", -5, "c1", "i1", 1.0, 2.0), *last]
    for ordered in (rows, rows[::-1]):
        assert item(ordered, "i1")["price"] == price


def test_an_item_that_was_only_viewed():
    values = item(SALES + BROWSING + [row("view_item", -2, "d1", "i5")], "i5")
    assert (values["buyers"], values["buyers_28d"], values["buyers_last_year"]) == (0, 0, 0)
    unknown = ("sold_last_days", "price", "price_mean", "repeat_gap_days", "quantity_per_order", "basket_items")
    assert [values[k] for k in unknown] == [None] * len(unknown)
    assert values["refund_share"] == 0
    assert values["buy_rate"] == pytest.approx(1 / 51)


def test_rates_need_a_view():
    values = item(SALES, "i2")
    assert (values["cart_rate"], values["buy_rate"]) == (None, None)
    assert values["basket_items"] == 2


def test_columns_of_the_catalog_are_added():
    table = build([row("view_item", -2, "d1", i) for i in ("i0", "i3", "unlisted")]).items
    assert table.select("item_id", "category", "brand").rows() == [
        ("i0", "Kitchen/Tea", "Alder"),
        ("i3", None, "Birch"),
        ("unlisted", None, None),
    ]


def test_an_item_on_sale_without_events_is_in_the_table():
    """Its counts are those of an item with a single event, long ago, that no column counts."""
    long, event_time = moment(AS_OF - 4 * DAY), moment(AS_OF + DAY)
    listed = {
        "item_id": ["early", "now", "tick", "undated", "by events", "listed"],
        "first_seen": [long, moment(AS_OF), moment(AS_OF - 1), None, long, long],
        "updated_at": [None, None, None, None, event_time, None],
        "price": [2.5] * 6,  # may come from later events
    }
    catalog = conform(pl.DataFrame(listed).with_columns(category=pl.lit("Tea")), CATALOG_SCHEMA)
    table = build([row("login", -9, "c1"), row("view_item_list", -300, "d1", "listed")], catalog=catalog).items
    assert table["item_id"].to_list() == ["early", "listed", "tick"]
    early, with_event = one(table, item_id="early"), one(table, item_id="listed")
    assert (early["age_days"], early["price"], early["category"]) == (4.0, None, "Tea")
    own = ("age_days", "seen_last_days", "click_rate")  # of the one that was shown in a list
    assert not differences(early, {k: with_event[k] for k in names(COLUMNS) if k not in own})
