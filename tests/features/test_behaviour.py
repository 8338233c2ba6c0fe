import pytest

from features import behaviour
from features.clock import DAY
from tests.features.shop import Row, build, one, row

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


def customer(rows: list[Row], who: str) -> Row:
    return one(build(rows).customers, customer_id=who)


def test_a_customer_by_hand():
    expected = {
        "views_7d": 1,
        "views_28d": 2,
        "views_90d": 3,
        "carts_7d": 0,
        "carts_28d": 1,
        "carts_90d": 1,
        "orders_7d": 1,
        "orders_28d": 1,
        "orders_90d": 3,
        "sessions": 3,  # s0, s1, s2; s3 is not yet
        "active_days_ago": 1,
        "known_days": 90,
        "basket_items": 5 / 3,
        "basket_quantity": 2,
        "price_paid": 19 / 6,
        "distinct_items": 3,
        "repeat_share": 2 / 5,
        "order_gap_days": 44,
        "gap_ratio": 2 / 44,
        "refund_share": 4 / 19,
    }
    assert list(expected) == [c.name for c in behaviour.COLUMNS]
    found = customer(ROWS, "c1")
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-6)


def test_one_order_has_no_gap():
    found = customer(ROWS, "c2")
    assert (found["order_gap_days"], found["gap_ratio"]) == (None, None)
    assert (found["sessions"], found["basket_quantity"], found["price_paid"]) == (0, 4, 2.5)
    assert (found["repeat_share"], found["refund_share"]) == (0, 0)


def test_two_orders_of_one_instant_are_not_overdue():
    found = customer([row("purchase", -3, "c1", "i1", 1.0, 1.0, o) for o in ("o1", "o2")], "c1")
    assert (found["frequency"], found["order_gap_days"], found["gap_ratio"]) == (2, 0, None)
    assert (found["distinct_items"], found["repeat_share"]) == (1, 0.5)


def test_without_orders_counts_are_zero_and_means_are_unknown():
    found = customer(ROWS, "c3")
    assert {found[f"{what}_{d}d"] for what in ("views", "carts", "orders") for d in (7, 28, 90)} == {0}
    assert found["distinct_items"] == 0
    means = ("basket_items", "basket_quantity", "price_paid", "repeat_share", "order_gap_days", "refund_share")
    assert [found[m] for m in means] == [None] * len(means)
    assert found["active_days_ago"] == found["known_days"] == pytest.approx(3, rel=1e-6)


def test_rows_of_one_event_are_one_order():
    rows = [row("purchase", -3, "c1", item, 1.0, 2.0, event_id="e9") for item in ("i1", "i2")]
    rows.append(row("purchase", -3, "c1", "i1", 1.0, 2.0, event_id="e8"))
    found = customer(rows, "c1")
    assert (found["frequency"], found["basket_items"]) == (2, 1.5)


def test_an_order_number_two_customers_share_is_two_orders():
    rows = [row("purchase", -3, who, "i1", 1.0, 2.0, "o1") for who in ("c1", "c2")]
    assert [customer(rows, c)["monetary"] for c in ("c1", "c2")] == [2, 2]
