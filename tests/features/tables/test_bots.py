from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY, HOUR, SECOND
from features.tables.bots import PER_DAY, PER_HOUR, UNPROVEN
from serving.identity import client_ids
from tests.features.shop import AS_OF, Row, build, events, examples, row, same_tables

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
    before = [row("purchase", -20, "d9", "i2", 1.0, 1.0, "o7")]
    bots = build([*HUMAN, *before, *fast]).bots
    assert bots.select("client_id", "customer_id", "reason", "events").rows() == [("d9", None, "bot", PER_HOUR + 2)]
    assert bots["first"].item() == AS_OF - 20 * DAY


def test_a_visitor_who_never_sleeps_leaves_no_trace():
    steady = pages(PER_DAY + 1, "d9", -1, 86_400 / (PER_DAY + 1) - 1)
    assert without_trace([*HUMAN, *steady])


def test_all_events_of_a_bot_are_left_out():
    fast = pages(PER_HOUR + 1, "d9", -1, 5)
    before = [row("view_item", -30, "d9", "i2"), row("purchase", -20, "d9", "i2", 1.0, 1.0, "o7")]
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


# Customers with an order and a visit a day, whom somebody wants out of the tables.
PEOPLE = [f"c{n}" for n in range(6)]
CLEAN = [
    *(row("purchase", -9 - n, f"{c}+d{n}", "i0", 1.0, 10.0 + n, f"o{n}") for n, c in enumerate(PEOPLE)),
    *(row("view_item", -4 - n / 9, f"{c}+d{n}", f"i{n % 3}") for n, c in enumerate(PEOPLE)),
    *(row("view_item", -3 - n / 9, f"d{n}", "i4") for n in range(6)),
    row("login", -5, "c0+kiosk"),
    row("login", -5, "c1+kiosk"),
]


def customers(rows: list[Row], as_of: int = AS_OF) -> pl.DataFrame:
    return build(rows, as_of).customers


def flood(visitor: str, day: float = -1) -> list[Row]:
    return pages(PER_HOUR + 1, visitor, day, 3600 / (PER_HOUR + 1) - 0.1)


@pytest.mark.parametrize("where", ["c0", "d0", "c0+d0", "kiosk", "c0+kiosk"])
def test_a_flood_in_a_customers_name_changes_nothing_of_the_customer(where: str):
    rows = flood(where.replace("kiosk", "d9")) if "kiosk" not in where else flood(where)
    rows = [r | ({"client_id": "kiosk"} if "kiosk" in where else {}) for r in rows]
    flooded = build([*CLEAN, *rows])
    assert flooded.customers.equals(customers(CLEAN))
    assert flooded.history.equals(build(CLEAN).history)
    assert flooded.bots["reason"].to_list() == ["burst"]
    assert flooded.left_out.burst_events == len(rows)
    assert (flooded.left_out.bots, flooded.left_out.bot_orders) == (0, 0)


def test_fifty_customers_flooded_stay():
    shop = [
        row(name, -20 + n / 40 + day, f"c{n}", f"i{n % 5}", 1.0, 9.0, f"o{n}")
        for n in range(300)
        for name, day in (("view_item", 0), ("purchase", 0.1), ("view_item", 1))
    ]
    attack = [r for n in range(50) for r in flood(f"c{n}", -2)]
    flooded, clean = build([*shop, *attack]), build(shop)
    assert flooded.customers.equals(clean.customers)
    assert flooded.left_out.describe() == [
        f"left out: {50 * (PER_HOUR + 1):,} events of 50 customers or devices in hours with too many for a person; "
        "their orders and other hours count"
    ]


def test_a_flood_through_devices_of_nobody_takes_no_customer():
    rows = [r for n in range(20) for r in pages(PER_HOUR, f"x{n}", -2, 5)]
    columns = ["customer_id", "frequency", "monetary", "views_30d", "segment"]
    assert customers([*CLEAN, *rows]).select(columns).equals(customers(CLEAN).select(columns))


def test_the_other_hours_of_a_flooded_day_count():
    rows = [*CLEAN, row("view_item", -0.2, "c0", "i6"), *flood("c0")]
    assert customers(rows).equals(customers([*CLEAN, row("view_item", -0.2, "c0", "i6")]))


def test_a_customer_who_never_sleeps_loses_the_day_and_no_order():
    steady = pages(PER_DAY + 1, "c0", -1, 86_400 / (PER_DAY + 1) - 1)
    order = row("purchase", -0.5, "c0", "i6", 1.0, 5.0, "during")
    assert customers([*CLEAN, *steady, order]).equals(customers([*CLEAN, order]))


def test_orders_in_a_burst_count():
    order = row("purchase", -1 + 0.01, "d0", "i6", 1.0, 5.0, "during")  # a guest on the customer's device
    refund = row("refund", -1 + 0.02, "c0+d0", "i0", 1.0, 2.0, "o0")
    flooded = build([*CLEAN, *flood("d0"), order, refund])
    assert flooded.customers.equals(customers([*CLEAN, order, refund]))


def test_a_guests_order_makes_its_customer_one_who_ordered():
    rows = [row("login", -9, "c8+d8"), row("purchase", -8, "d8", "i1", 1.0, 4.0, "o8")]
    assert customers([*CLEAN, *rows, *flood("c8"), *flood("d8", -2)]).equals(customers([*CLEAN, *rows]))


def test_whoever_never_ordered_is_a_bot_by_rate():
    rows = [row("view_item", -9, "c8", "i1"), *flood("c8"), row("login", -3, "c9+d8"), *flood("d8")]
    flooded = build([*CLEAN, *rows])
    assert sorted(flooded.bots.filter(reason="bot").select("client_id", "customer_id").rows(), key=str) == [
        ("d8", None),
        (None, "c8"),
    ]
    assert flooded.customers.equals(customers(CLEAN))


def test_an_order_protects_from_its_instant_on():
    rows = [row("view_item", -9, "c8", "i1"), *flood("c8", -3), row("purchase", -1, "c8", "i1", 1.0, 4.0, "o8")]
    before, after = (customers([*CLEAN, *rows], AS_OF - round(1.1 * DAY)), customers([*CLEAN, *rows]))
    assert "c8" not in before["customer_id"]
    assert after.filter(customer_id="c8")["views_30d"].item() == 1
    assert before.equals(customers([*CLEAN, *rows[:-1]], AS_OF - round(1.1 * DAY)))


@examples(25)
@given(
    events(-20, 0, least=4),
    st.lists(st.tuples(st.sampled_from(["d0", "d1", "d2", "d9"]), st.integers(-20, -1)), min_size=1, max_size=2),
)
def test_no_flood_without_a_customer_removes_one_with_orders(rows: list[Row], floods: list[tuple[str, int]]):
    flooded = [*rows, *(r for device, day in floods for r in flood(device, day))]
    flooded = [*flooded, row("view_item", -20, "c9", "i0")]
    for as_of in (AS_OF - 5 * DAY, AS_OF):
        seen = [r for r in [*rows, row("view_item", -20, "c9", "i0")] if r["timestamp"].timestamp() * 1e6 < as_of]
        before = customers(seen, as_of).filter(pl.col("recency_days").is_not_null())
        after = customers(flooded, as_of)
        assert set(before["customer_id"]) <= set(after["customer_id"])
        columns = ["customer_id", "recency_days", "frequency", "monetary"]
        assert before.select(columns).equals(after.filter(pl.col("recency_days").is_not_null()).select(columns))


def test_unproven_devices_weigh_nothing():
    mine, beside = f"{UNPROVEN}d7", row("view_item", -2, "c0", "i6") | {"client_id": f"{UNPROVEN}d8"}
    unproven = [row(name, -2, mine, "i5") for name in ("view_item", "add_to_cart", "purchase", "search", "login")]
    clean, tables = build([*CLEAN, row("view_item", -2, "c0", "i6")]), build([*CLEAN, *unproven, *flood(mine), beside])
    for name in ("customers", "items", "history", "anonymous", "profiles", "interactions", "shared_devices"):
        assert getattr(tables, name).equals(getattr(clean, name)), name
    assert tables.bots.select("client_id", "reason", "events").rows() == [(mine, "unproven", 5 + PER_HOUR + 1)]
    left_out = tables.left_out
    assert (left_out.bots, left_out.unproven_devices, left_out.unproven_events) == (0, 1, 306)
    assert left_out.describe()[0] == (
        "left out: 1 device that did not prove itself, with 306 events (to count them: signed client ids, "
        "docs/storefront.md, or USUAL_CLIENT_IDS=any)"
    )


def test_no_link_makes_an_unproven_device_a_customers():
    claim = row("login", -2, "c0") | {"client_id": f"{UNPROVEN}d7"}
    assert build([*CLEAN, claim]).profiles.equals(build(CLEAN).profiles)


def test_the_server_and_the_tables_mark_unproven_devices_alike():
    assert client_ids.UNPROVEN == UNPROVEN
