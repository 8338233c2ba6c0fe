from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given

from features.common.clock import DAY
from features.tables.repeats import WINDOW_DAYS, drop_repeats
from tests.features.shop import AS_OF, Row, build, events, examples, frame, one, row, same_tables

MINUTE = 1 / (24 * 60)
BASKET = [("i1", 2.0, 10.0), ("i2", 1.0, 5.0)]


def order(days: float, event: str, visitor: str = "c1", number: str | None = "o1", name: str = "purchase") -> list[Row]:
    return [row(name, days, visitor, item, n, price, number, event_id=event) for item, n, price in BASKET]


def same_but_for_counts(a: Sequence[Row], b: Sequence[Row], as_of: int = AS_OF) -> bool:
    first, second = build(a, as_of), build(b, as_of)
    return same_tables(first, replace(second, left_out=first.left_out, shared_devices=first.shared_devices))


@pytest.mark.parametrize("later", [0.0, MINUTE, 1.0, WINDOW_DAYS - MINUTE])
def test_an_order_that_is_reported_three_times_counts_once(later: float):
    once = order(-20, "e1")
    three = [*once, *order(-20 + later / 2, "e2"), *order(-20 + later, "e3")]
    assert same_but_for_counts(once, three)
    assert build(three).left_out.repeated_orders == 4


def test_the_same_number_after_a_week_is_another_order():
    again = build([*order(-20, "e1"), *order(-20 + WINDOW_DAYS, "e2")])
    assert one(again.history, customer_id="c1", item_id="i1")["quantity"] == 4
    assert again.left_out.repeated_orders == 0


def test_orders_of_others_and_orders_without_a_number_do_not_repeat_one():
    tables = build(
        [
            *order(-3, "e1"),
            *order(-3 + MINUTE, "e2", "c2"),
            *order(-3, "e3", "c3", None),
            *order(-2.9, "e4", "c3", None),
        ]
    )
    assert tables.customers["frequency"].to_list() == [1, 1, 2]
    assert tables.left_out.repeated_orders == 0


def test_a_tracker_and_an_export_report_one_order():
    # The tracker knows only the device, which a login joins to the customer.
    rows = [row("login", -9, "c1+d1"), *order(-3, "e1", "d1"), *order(-3 + MINUTE, "e2", "c1")]
    customer = one(build(rows).customers, customer_id="c1")
    assert (customer["frequency"], customer["monetary"]) == (1, 25)
    guests = [*order(-3, "e1", "d1"), *order(-2, "e2", "d1")]
    assert one(build(guests).items, item_id="i1")["quantity_per_order"] == 2


def test_an_item_that_is_reported_later_belongs_to_the_order():
    late = row("purchase", -3 + MINUTE, "c1", "i3", 1.0, 4.0, "o1", event_id="e2")
    customer = one(build([*order(-3, "e1"), late]).customers, customer_id="c1")
    assert (customer["frequency"], customer["monetary"]) == (1, 29)


def back(days: float, pieces: float = 1.0, item: str = "i1") -> Row:
    return row("refund", days, "c1", item, pieces, 10.0, "o1", event_id=f"back{days}")


def test_equal_refunds_count_up_to_the_pieces_bought():
    bought = order(-20, "e1")
    once, twice = [*bought, back(-9)], [*bought, back(-9), back(-9 + MINUTE)]
    assert one(build(twice).history, customer_id="c1", item_id="i1")["quantity"] == 0
    assert build(twice).left_out.repeated_orders == 0
    assert same_but_for_counts(twice, [*twice, back(-9 + 2 * MINUTE), back(-8)])
    assert build([*twice, back(-8)]).left_out.repeated_orders == 1
    # One piece was bought of the other item.
    both = [*once, back(-9, item="i2"), back(-8, item="i2")]
    assert one(build(both).history, customer_id="c1", item_id="i2")["quantity"] == 0


def test_refunds_of_other_quantities_use_up_the_pieces_too():
    bought = [row("purchase", -20, "c1", "i1", 3.0, 10.0, "o1", event_id="e1")]
    back_once = [*bought, back(-9), back(-8, 2.0)]
    assert same_but_for_counts(back_once, [*back_once, back(-7), back(-6, 2.0)])


def test_equal_refunds_of_weights_fit_in_spite_of_rounding():
    rows = [row("purchase", -20, "c1", "i1", 0.3, 10.0, "o1", event_id="e1"), *(back(-9 + k, 0.1) for k in range(3))]
    assert abs(one(build(rows).history, customer_id="c1", item_id="i1")["quantity"]) < 1e-9
    assert build(rows).left_out.repeated_orders == 0


@pytest.mark.parametrize("bought", [[], order(-1, "e1"), order(-20, "e1", "c2"), order(-20, "e1", number="o2")])
def test_equal_refunds_of_what_the_order_is_not_known_to_hold_count_once(bought: list[Row]):
    assert same_but_for_counts([*bought, back(-9)], [*bought, back(-9), back(-8)])


def test_a_repeated_purchase_makes_no_room_for_refunds():
    bought = [row("purchase", -20 + k, "c1", "i1", 1.0, 10.0, "o1", event_id=f"e{k}") for k in range(2)]
    assert same_but_for_counts([bought[0], back(-9)], [*bought, back(-9), back(-8)])


def test_equal_refunds_among_rows_in_memory_count_up_to_the_pieces_bought():
    rows = frame([*order(-20, "e1"), back(-9), back(-8), back(-7), back(-6, item="i2"), back(-5, item="i2")])
    rows = rows.with_columns(pl.col("name").cast(pl.String), t=pl.col("timestamp").dt.timestamp("us"))
    assert drop_repeats(rows)["event_id"].to_list() == ["e1", "e1", "back-9", "back-8", "back-6"]


def test_lines_of_one_order_that_have_event_ids_of_their_own_all_count():
    lines = [("i1", 1.0), ("i1", 1.0), ("i2", 1.0)]
    rows = [row("purchase", -3, "c1", item, n, 10.0, "o1", event_id=f"l{k}") for k, (item, n) in enumerate(lines)]
    # The other orders show that this log has an event per line.
    rows += [row("purchase", -2, "c2", "i1", 1.0, 10.0, "o2", event_id=f"m{k}") for k in range(3)]
    tables = build(rows)
    assert tables.customers["monetary"].to_list() == [30, 30]
    assert tables.left_out.repeated_orders == 0
    again = [r | {"event_id": f"{r['event_id']}-again", "timestamp": r["timestamp"].replace(minute=9)} for r in rows]
    assert same_but_for_counts(rows, [*rows, *again])


def test_no_customer_decides_that_the_log_has_an_event_per_line():
    """By a token of their own: refunds, of which an order may have several, each with one item and an id of its own."""
    page, shop = ([row("purchase", -3, f"c{n}", "i1", 1.0, 10.0, f"o{n}", event_id=f"{sender}e{n}") for n in range(5)]
                  for sender in ("v:0123abcd:", ""))  # fmt: skip
    false = [
        row("refund", -2, "attacker", item, 1.0, 10.0, f"false{n}", event_id=f"v:89abcdef:r{n}{item}")
        for n in range(20)
        for item in ("i1", "i2")
    ]
    tables = build([*page, *shop, *false])
    assert tables.customers.filter(pl.col("customer_id") != "attacker")["monetary"].to_list() == [10.0] * 5
    assert tables.left_out.repeated_orders == 5


def test_a_repeat_is_one_as_soon_as_it_comes_and_leaves_no_trace_before():
    first, again = order(-3, "e1"), order(-2, "e2")
    at = AS_OF - 2 * DAY
    assert same_tables(build(first, at), build([*first, *again], at))
    assert same_but_for_counts(first, [*first, *again])


@examples(40)
@given(events(-30, 0))
def test_reporting_every_order_again_changes_nothing(rows: list[Row]):
    # Every order gets a number of its own, so that none repeats another before.
    numbered = [
        r | ({"order_id": f"{r['order_id']}-{n}"} if r["name"] in ("purchase", "refund") else {"order_id": None})
        for n, r in enumerate(rows)
    ]
    original = [r | {"event_id": f"e{n}"} for n, r in enumerate(numbered)]
    again = [
        r | {"event_id": f"{r['event_id']}-again", "timestamp": r["timestamp"] + (AS_OF_TIME - r["timestamp"]) / 9}
        for r in original
        if r["name"] in ("purchase", "refund") and r["item_id"]
    ]
    if original:
        assert same_but_for_counts(original, [*original, *again])


AS_OF_TIME = row("login", 0, "c1")["timestamp"]


def test_repeats_among_rows_in_memory():
    rows = frame([*order(-20, "e1"), *order(-19, "e2"), *order(-12, "e3"), *order(-3, "e4", number=None)])
    rows = rows.with_columns(pl.col("name").cast(pl.String), t=pl.col("timestamp").dt.timestamp("us"))
    kept = drop_repeats(rows)
    assert kept["event_id"].to_list() == ["e1", "e1", "e3", "e3", "e4", "e4"]
    assert kept.columns == rows.columns
