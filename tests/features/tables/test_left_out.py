import json

import pytest

from features.common.clock import DAY, HOUR, SECOND
from features.tables.bots import PER_HOUR
from features.tables.left_out import LeftOut
from tests.features.shop import Row, build, one, row


def fast(visitor: str, n: int = PER_HOUR + 1, **columns: object) -> list[Row]:
    return [row("view_item", -1 + k * 5 * SECOND / DAY, visitor, "i1", **columns) for k in range(n)]


def kiosk(customers: int, pages: int) -> list[Row]:
    """Many customers on one device, who together look at more pages an hour than a person."""
    rows = []
    for c in range(customers):
        rows += [row("view_item", -1 + k * HOUR / DAY / pages, f"c{c}+kiosk", "i1") for k in range(pages)]
        rows.append(row("purchase", -0.5, f"c{c}+kiosk", "i1", 1.0, 10.0, f"o{c}"))
    return rows


def test_customers_of_a_shared_device_are_no_bot():
    tables = build(kiosk(20, 100))
    assert tables.bots.is_empty()
    assert tables.customers["views_30d"].to_list() == [100] * 20
    assert tables.shared_devices.rows() == [("kiosk", 20, 2020, 20, 200.0)]
    assert tables.profiles.is_empty()


def test_what_happens_on_a_shared_device_without_a_customer_is_one_visitor():
    tables = build([*kiosk(2, 10), *fast("d1"), *fast("kiosk", client_id="kiosk", customer_id=None)])
    assert sorted(tables.bots["client_id"]) == ["d1", "kiosk"]
    assert tables.bots["events"].to_list() == [PER_HOUR + 1] * 2
    assert tables.customers["frequency"].to_list() == [1, 1]


def test_a_customer_is_a_bot_by_their_own_rate_only():
    rows = [*kiosk(1, 10), row("login", -2, "c1+kiosk"), *fast("c1+kiosk"), row("view_item", -2, "c1", "i2")]
    tables = build(rows)
    assert tables.bots.select("client_id", "customer_id").rows() == [(None, "c1")]
    assert tables.customers["customer_id"].to_list() == ["c0"]
    assert tables.shared_devices["customers"].to_list() == [2]


def test_a_customer_is_as_fast_as_on_all_shared_devices_together():
    half = PER_HOUR // 2 + 1
    rows = [*kiosk(2, 1), row("login", -3, "c5+other"), row("login", -3, "c6+other")]
    rows += [*fast("c5+kiosk", half), *fast("c5+other", half)]
    assert build(rows).bots["customer_id"].to_list() == ["c5"]


def test_orders_of_bots_are_told():
    # A guest's: an order of a customer counts, whatever the device.
    bought = [row("purchase", -2, "d9", "i2", 1.0, 30.0, "o7"), row("purchase", -2, "d9", "i3", 2.0, 5.0, "o7")]
    left_out = build([*fast("d9"), *bought, row("purchase", -2, "c1", "i1", 1.0, 60.0, "o1")]).left_out
    assert (left_out.bots, left_out.bot_orders, left_out.bot_value, left_out.value) == (1, 1, 40, 60)
    assert left_out.bot_value_share == pytest.approx(0.4)
    assert left_out.describe() == [
        "left out: 1 bot with 303 events, among them 1 order worth 40.00 (40.0% of what was bought)"
    ]


def test_every_row_before_the_instant_is_counted_once():
    rows = [
        row("view_item", -3, "c1", "i1"),
        row("view_item", -2, "c1", "i1", consent=False),
        row("tea_brewed", -2, "c1", consent=False),
        row("tea_brewed", -2, "c1"),
        row("tea_brewed", 1, "c1"),
        *(row("purchase", -1 + k / 9, "c1", "i1", 1.0, 5.0, "o1") for k in range(3)),
    ]
    left_out = build(rows).left_out
    assert (left_out.events, left_out.without_consent, left_out.repeated_orders) == (7, 2, 2)
    assert left_out.unknown_names == {"tea_brewed": 1}
    assert left_out.total == 5
    assert left_out.describe() == [
        "left out: 2 events without consent",
        "left out: 1 event with unknown names: tea_brewed (1)",
        "left out: 2 lines of orders that came before, as after a page reload",
    ]


def test_nothing_left_out_is_said():
    left_out = build([row("view_item", -3, "c1", "i1")]).left_out
    assert left_out.describe() == ["left out: nothing"]
    assert left_out.total == 0


def test_set_aside_and_shared_devices_are_named():
    left_out = build(kiosk(3, 1)).left_out.with_set_aside(4)
    lines = left_out.describe()
    assert lines[0].startswith("left out: 4 events far from all others in time")
    assert lines[1].startswith(
        "1 device shared by 3 customers, with 6 events (the largest is 'kiosk' with 3 customers)"
    )
    assert json.loads(json.dumps(left_out.as_dict()))["shared_devices"]["largest"]["client_id"] == "kiosk"
    assert LeftOut().as_dict().keys() == left_out.as_dict().keys()


def test_shared_devices_keep_their_customers_apart():
    rows = [*kiosk(2, 1), row("view_item", -1, "d1", "i5", client_id="kiosk")]
    tables = build(rows)
    assert one(tables.anonymous, client_id="kiosk", item_id="i5")["weight"] > 0
    assert tables.history.filter(item_id="i5").is_empty()
