import pytest
from hypothesis import given

from features.common.clock import DAY
from features.tables.interactions import TOUCHES, WINDOW_DAYS
from tests.features.shop import AS_OF, Row, build, events, examples, row, snapshot

TICK = 1 / DAY  # a microsecond
FIRST = row("purchase", -3, "c0", "i0", 1.0, 2.0, "o1")


def interactions(rows: list[Row]) -> list[tuple[str, str, str, int]]:
    """(visitor, item, name, microseconds before the instant) of the table."""
    table = build([FIRST, *rows]).interactions
    assert table.columns == ["visitor", "t", "item_id", "name"]
    lines = [(visitor, item, name, AS_OF - t) for visitor, t, item, name in table.rows()]
    return [line for line in lines if line != ("customer/c0", "i0", "purchase", 3 * DAY)]


@pytest.mark.parametrize(
    ("days", "inside"),
    [(-WINDOW_DAYS - TICK, False), (-WINDOW_DAYS, True), (-1, True), (-TICK, True), (0, False), (TICK, False)],
)
def test_the_window_is_half_open(days: float, inside: bool):
    assert len(interactions([row("view_item", days, "c1", "i1")])) == inside


@pytest.mark.parametrize("name", ["view_item_list", "search", "remove_from_cart", "view_cart", "refund", "login"])
def test_other_events_are_not_in_the_table(name: str):
    assert interactions([row(name, -1, "c1", "i1")]) == []


@pytest.mark.parametrize("name", TOUCHES)
def test_a_repeated_interaction_is_one_row(name: str):
    result = interactions([row(name, -1, "c1", "i1"), row(name, -1, "c1", "i1"), row(name, -1, "c1", None)])
    assert result == [("customer/c1", "i1", name, DAY)]


def test_a_visitor_is_the_customer_or_else_the_client():
    result = interactions([row("view_item", -1, who, "i1") for who in ("c1", "d1", "c2+d2")])
    assert {visitor for visitor, *_ in result} == {"customer/c1", "client/d1", "customer/c2"}


def test_a_customer_and_a_client_of_the_same_name_are_two():
    result = interactions([row("view_item", -1, "c1", "i1"), row("view_item", -1, None, "i2", client_id="c1")])
    assert result == [("client/c1", "i2", "view_item", DAY), ("customer/c1", "i1", "view_item", DAY)]


@pytest.mark.parametrize("consent", [True, False, None])
def test_events_without_consent_are_left_out(consent: bool | None):
    result = interactions([row("view_item", -1, "d1", "i1", consent=consent)])
    assert len(result) == (consent is not False)


@examples(8)
@given(events(-70, 1))
def test_the_table_equals_that_of_a_loop(rows: list[Row]):
    table = build([FIRST, *rows]).interactions
    expected = {
        (
            f"customer/{r['customer_id']}" if r["customer_id"] else f"client/{r['client_id']}",
            r["timestamp"],
            r["item_id"],
            r["name"],
        )
        for r in [FIRST, *rows]
        if r["name"] in TOUCHES
    }
    recent = {e for e in expected if AS_OF - WINDOW_DAYS * DAY <= round(e[1].timestamp() * 1e6) < AS_OF}
    result = [(visitor, t, item, name) for visitor, t, item, name in table.rows()]
    assert result == sorted((v, round(t.timestamp() * 1e6), i, n) for v, t, i, n in recent)


def test_arrays_are_sorted_by_visitor_then_time():
    visits = [("d2", 5, "i1"), ("c1", 2, "i2"), ("d1", 1, "i3"), ("c1", 7, "i4"), ("d2", 4, "i5"), ("c1", 6, "i6")]
    fitting_data = snapshot([row("view_item", -days, who, item) for who, days, item in visits]).fitting_data
    assert fitting_data is not None
    visitor, item, kind, t = fitting_data.recent
    assert visitor.tolist() == [0, 1, 1, 2, 2, 2]
    assert item.tolist() == [2, 0, 4, 3, 5, 1]
    assert [(AS_OF - v) // DAY for v in t] == [1, 5, 4, 7, 6, 2]
    assert [TOUCHES[k] for k in kind] == ["view_item"] * 6
