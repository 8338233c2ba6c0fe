from dataclasses import replace

import pytest

from features.common.clock import DAY, HOUR, SECOND
from features.tables.bots import PER_DAY, PER_HOUR
from tests.features.shop import AS_OF, Row, build, row, same_tables

HUMAN = [row("view_item", -3, "c1", "i0"), row("purchase", -2, "c1+d1", "i0", 1.0, 2.0, "o1")]
H = HOUR / DAY  # days


def pages(n: int, visitor: str, start: float, every: float, name: str = "view_item") -> list[Row]:
    """`n` events from `start`, `every` seconds."""
    return [row(name, start + k * every * SECOND / DAY, visitor, "i1") for k in range(n)]


def without_trace(rows: list[Row]) -> bool:
    """Whether the tables are those of the people alone, but for the list of bots."""
    human = build(HUMAN)
    return same_tables(human, replace(build(rows), bots=human.bots))


@pytest.mark.parametrize("name", ["view_item", "search", "add_to_cart"])
def test_a_visitor_too_fast_for_a_person_leaves_no_trace(name: str):
    fast = pages(PER_HOUR + 1, "d9", -1, 3600 / (PER_HOUR + 1) - 1, name)
    assert without_trace([*HUMAN, *fast])
    assert not without_trace([*HUMAN, *fast[1:]])


def test_bots_are_counted():
    fast = pages(PER_HOUR + 1, "d9", -1, 5)
    before = [row("purchase", -20, "c7+d9", "i2", 1.0, 1.0, "o7")]
    bots = build([*HUMAN, *before, *fast]).bots
    assert bots.select("client_id", "customer_id", "events").rows() == [("d9", None, PER_HOUR + 2)]
    assert bots["first"].item() == AS_OF - 20 * DAY


def test_a_visitor_who_never_sleeps_leaves_no_trace():
    steady = pages(PER_DAY + 1, "d9", -1, 86_400 / (PER_DAY + 1) - 1)
    assert without_trace([*HUMAN, *steady])


def test_all_events_of_a_bot_are_left_out():
    fast = pages(PER_HOUR + 1, "d9", -1, 5)
    before = [row("view_item", -30, "d9", "i2"), row("purchase", -20, "c7+d9", "i2", 1.0, 1.0, "o7")]
    assert without_trace([*HUMAN, *before, *fast])


def test_before_it_is_a_bot_a_visitor_counts():
    fast = pages(PER_HOUR + 1, "d9", -1, 5)
    last = fast[-1]["timestamp"]
    just_then = AS_OF - DAY + PER_HOUR * 5 * SECOND
    assert last.timestamp() * 1e6 == just_then
    before = build([*HUMAN, *fast], just_then)
    assert same_tables(before, build([*HUMAN, *fast[:-1]], just_then))
    assert before.anonymous.height == 1


def test_large_orders_and_long_lists_make_no_bot():
    order = [row("purchase", -1, "c3", f"p{k}", 1.0, 1.0, "big") for k in range(PER_DAY + 1)]
    lists = [row("view_item_list", -1, "c3", f"p{k}") for k in range(PER_DAY + 1)]
    customers = build([*HUMAN, *order, *lists]).customers
    assert customers["customer_id"].to_list() == ["c1", "c3"]


def test_a_customer_with_the_id_of_a_bot_is_not_one():
    fast = [r | {"client_id": "7"} for r in pages(PER_HOUR + 1, "d9", -1, 5)]
    person = row("purchase", -2, "c7", "i0", 1.0, 2.0, "o7") | {"customer_id": "7"}
    assert "7" in build([*HUMAN, *fast, person]).customers["customer_id"]
    alone = [r | {"client_id": None, "customer_id": "7"} for r in fast]
    other = row("view_item", -2, "d7", "i0") | {"client_id": "7"}
    tables = build([*HUMAN, *alone, other])
    assert "7" not in tables.customers["customer_id"]
    assert tables.anonymous["client_id"].to_list() == ["7"]


def test_two_visitors_on_one_day_are_two():
    half = pages(PER_HOUR, "d8", -1, 5) + pages(PER_HOUR, "d9", -1, 5)
    assert build([*HUMAN, *half]).anonymous.height == 2
