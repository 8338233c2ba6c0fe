import pytest

from features.common.clock import DAY
from features.tables import behaviour
from tests.features.shop import Row, build, differences, one, row

TICK = 1 / DAY  # a microsecond

ROWS = [
    row("purchase", -90, "c1", "i1", 2.0, 3.0, "o1", session_id="s0"),
    row("purchase", -90, "c1", "i2", 1.0, 4.0, "o1", session_id="s0"),
    row("purchase", -30, "c1", "i1", 1.0, 3.0, "o2"),
    row("purchase", -2, "c1", "i1", 1.0, 5.0, "o3", session_id="s2"),
    row("purchase", -2, "c1", "i3", 1.0, 1.0, "o3", session_id="s2"),
    row("refund", -1, "c1", "i3", 1.0, 1.0, "o3"),
    row("refund", -1, "c1", "i1", 1.0, 3.0, "o2"),
    row("view_item", -7, "c1", "i1", session_id="s1"),
    row("view_item", -7 - TICK, "c1", "i2", session_id="s1"),
    row("view_item", -28 - TICK, "c1", "i4"),
    row("view_item", 0, "c1", "i4", session_id="s3"),
    row("add_to_cart", -28, "c1", "i1", session_id="s2"),
    row("add_to_cart", -90 - TICK, "c1", "i1", session_id="s0"),
    row("view_item", -1, "d1", "i1", session_id="s9"),
    row("purchase", -1, "c2", "i1", 4.0, 2.5),
    row("login", -3 + TICK, "c3"),
]


FAR = row("login", -300, "c1")


def customer(rows: list[Row], customer_id: str) -> Row:
    return one(build(rows).customers, customer_id=customer_id)


def test_a_customer_by_hand():
    expected = {
        "views_1d": 0,
        "views_7d": 1,
        "views_30d": 3,
        "views_90d": 3,
        "carts_7d": 0,
        "carts_30d": 1,
        "carts_90d": 1,
        "orders_1d": 0,
        "orders_3d": 1,
        "orders_30d": 2,
        "orders_90d": 3,
        "refunds_1d": 2,
        "logins_90d": 0,
        "last_views_days": 7,
        "last_carts_days": 28,
        "last_refunds_days": 1,
        "last_logins_days": None,
        "active_days_ago": 1,
        "known_days": 90,
        "trend_7d": 6 / (9 * 7 / 30 + 1),
        "trend_30d": 10 / (11 / 3 + 1),
        "sessions": 3,  # s0, s1, s2; s3 is not yet
        "sessions_30d": 2,
        "session_events": 8 / 3,
        "session_views": 2 / 3,
        "view_to_cart": 3 / 23,
        "cart_to_order": 6 / 5,
        "view_to_order": 6 / 53,
        "bounce_share": 0,
        "cart_abandonment": 0,
        "basket_items": 5 / 3,
        "basket_quantity": 2,
        "basket_value": 19 / 3,
        "price_paid": 19 / 6,
        "distinct_items": 3,
        "repeat_share": 2 / 5,
        "last_gap_days": 28,
        "order_gap_days": 44,
        "order_gap_spread": 16 / 44,
        "gap_ratio": 2 / 44,
        "refund_share": 4 / 19,
    }
    features = customer(ROWS, "c1")
    assert differences(features, expected) == {}


@pytest.mark.parametrize("window", behaviour.WINDOWS_DAYS)
@pytest.mark.parametrize("kind", behaviour.KINDS)
def test_windows_include_their_first_instant(kind: str, window: int):
    name, _ = behaviour.KINDS[kind]
    for days, count in ((-window, 1), (-window - TICK, 0)):
        features = customer([row(name, days, "c1", "i1"), FAR], "c1")
        assert features[f"{kind}_{window}d"] == count
        assert features[f"last_{kind}_days"] == pytest.approx(-days)


def test_sessions_by_hand():
    visit = [
        row("view_item", -5, "c1", "i1", session_id="s1"),
        row("search", -5 + 30 / 86_400, "c1", session_id="s1"),
        row("add_to_cart", -5 + 90 / 86_400, "c1", "i1", session_id="s1"),
        row("view_item_list", -5 + 900 / 86_400, "c1", "i2", session_id="s1"),
        row("view_item", -4, "c1", "i1", session_id="s2"),
        row("add_to_cart", -3, "c1", "i1", session_id="s3"),
        row("purchase", -3 + 60 / 86_400, "c1", "i1", session_id="s3"),
    ]
    features = customer(visit, "c1")
    expected = {
        "sessions": 3,
        "session_seconds": (90 + 0 + 60) / 3,
        "session_events": 2,
        "dwell_seconds": 150 / 3,
        "bounce_share": 1 / 3,
        "cart_abandonment": 1 / 2,
        "searches_per_session": 1 / 3,
    }
    assert differences(features, expected) == {}


def test_shares_by_hour_and_weekday():
    # 2024-05-01 is a Wednesday.
    hours = [row("view_item", -1 + hour / 24, "c1", "i1") for hour in (0, 5.99, 6, 23.99)]
    features = customer([*hours, row("view_item", -3.5, "c1", "i1")], "c1")
    shares = [features[f"{part}_share"] for part in behaviour.DAY_PARTS]
    assert shares == pytest.approx([2 / 5, 1 / 5, 1 / 5, 1 / 5])
    assert [features[f"{day}_share"] for day in behaviour.WEEKDAYS] == pytest.approx([0, 0.8, 0, 0, 0, 0.2, 0])


def test_a_discount_is_against_the_items_usual_price():
    views = [row("view_item", -k, "d1", "i1", price=10.0) for k in (20, 15, 10)]
    sales = [
        row("purchase", -9, "c1", "i1", 3.0, 8.0, "o1"),  # 20% off
        row("purchase", -8, "c1", "i1", 1.0, 10.0, "o2"),
        row("purchase", -7, "c2", "i1", 1.0, 12.0, "o3"),  # dearer is no discount
    ]
    features = customer([*views, *sales], "c1")
    assert (features["discount_share"], features["discount_depth"]) == pytest.approx((3 / 4, 0.15))
    assert customer([*views, *sales], "c2")["discount_depth"] == 0


def test_one_order_has_no_gap():
    features = customer(ROWS, "c2")
    assert (features["order_gap_days"], features["gap_ratio"]) == (None, None)
    assert (features["sessions"], features["basket_quantity"], features["price_paid"]) == (0, 4, 2.5)
    assert (features["repeat_share"], features["refund_share"]) == (0, 0)


def test_two_orders_of_one_instant_are_not_overdue():
    features = customer([row("purchase", -3, "c1", "i1", 1.0, 1.0, o) for o in ("o1", "o2")], "c1")
    assert (features["frequency"], features["order_gap_days"], features["gap_ratio"]) == (2, 0, None)
    assert (features["distinct_items"], features["repeat_share"]) == (1, 0.5)


def test_without_orders_counts_are_zero_and_means_are_unknown():
    features = customer(ROWS, "c3")
    assert {features[f"{kind}_{d}d"] for kind in ("views", "carts", "orders") for d in (7, 30, 90)} == {0}
    assert features["distinct_items"] == 0
    means = ("basket_items", "basket_quantity", "price_paid", "repeat_share", "order_gap_days", "refund_share")
    assert [features[m] for m in means] == [None] * len(means)
    assert features["active_days_ago"] == features["known_days"] == pytest.approx(3, rel=1e-6)


def test_rows_of_one_event_are_one_order():
    rows = [row("purchase", -3, "c1", item, 1.0, 2.0, event_id="e9") for item in ("i1", "i2")]
    rows.append(row("purchase", -3, "c1", "i1", 1.0, 2.0, event_id="e8"))
    features = customer(rows, "c1")
    assert (features["frequency"], features["basket_items"]) == (2, 1.5)


def test_an_order_number_two_customers_share_is_two_orders():
    rows = [row("purchase", -3, who, "i1", 1.0, 2.0, "o1") for who in ("c1", "c2")]
    assert [customer(rows, c)["monetary"] for c in ("c1", "c2")] == [2, 2]
