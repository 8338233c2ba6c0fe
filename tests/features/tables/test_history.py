import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY
from features.ranking.visitors import Visitors
from features.tables import history
from features.tables.history import Histories
from tests.features.shop import Row, build, examples, one, row

TICK = 1 / DAY  # a microsecond

ROWS = [
    row("purchase", -180, "c1", "i1", 2.0, 1.0, "o1"),
    row("purchase", -180, "c1", "i2", 1.0, 1.0, "o1"),
    row("purchase", -90, "c1", "i1", 3.0, 1.0, "o2"),
    row("purchase", -10, "c1", "i3", 1.0, 1.0, "o3"),
    row("refund", -5, "c1", "i1", 4.0, 1.0, "credit note"),
    row("view_item", -45, "c1", "i1"),
    row("view_item", -90, "c1", "i1"),
    row("view_item", 0, "c1", "i1"),
    row("add_to_cart", -270, "c1", "i1"),
    row("refund", -5, "c1", "i5", 1.0, 1.0, "o9"),
    row("view_item", -TICK, "c2", "i4"),
    row("view_item", -1, "c2", "i3", consent=False),
    row("view_item", -90, "d1", "i1"),
    row("add_to_cart", -90, "d1", "i1"),
    row("purchase", -90, "d1", "i1"),
    row("search", -1, "d1", "i2"),
    row("view_item", -90, "d2", "i2"),
]


def pair(customer: str, item: str, rows: list[Row] = ROWS) -> Row:
    return one(build(rows).history, customer_id=customer, item_id=item)


def test_a_pair_by_hand():
    expected = {
        "orders": 2,
        "quantity": 1,
        "bought_decayed": 1 / 4 + 1 / 2,
        "bought_by_basket": 0.7**2 + 0.7,
        "bought_first_days": 180,
        "bought_last_days": 90,
        "baskets_back": 1,
        "views_decayed": 0.5**0.5 + 0.5,
        "viewed_last_days": 45,
        "carts_decayed": 1 / 8,
    }
    assert list(expected) == [c.name for c in history.COLUMNS]
    values = pair("c1", "i1")
    assert {k: values[k] for k in expected} == pytest.approx(expected, rel=1e-6)


def test_baskets_are_counted_from_the_latest():
    assert [pair("c1", i)["baskets_back"] for i in ("i1", "i2", "i3")] == [1, 2, 0]
    assert [pair("c1", i)["bought_by_basket"] for i in ("i2", "i3")] == pytest.approx([0.49, 1])


def test_two_orders_of_one_instant_are_counted_by_their_number():
    rows = [row("purchase", -3, "c1", i, 1.0, 1.0, o) for i, o in (("i1", "o2"), ("i2", "o1"))]
    for ordered in (rows, rows[::-1]):
        assert [pair("c1", i, ordered)["baskets_back"] for i in ("i1", "i2")] == [0, 1]


def test_an_item_that_was_only_viewed():
    values = pair("c2", "i4")
    assert (values["orders"], values["quantity"], values["bought_decayed"], values["bought_by_basket"]) == (0, 0, 0, 0)
    never = ("bought_first_days", "bought_last_days", "baskets_back")
    assert [values[k] for k in never] == [None] * 3
    assert values["views_decayed"] == pytest.approx(1)


def test_only_purchases_carts_and_views_make_a_pair():
    pairs = build(ROWS).history.select("customer_id", "item_id").rows()
    assert pairs == [("c1", "i1"), ("c1", "i2"), ("c1", "i3"), ("c2", "i4")]


def test_interactions_of_clients_without_a_customer():
    anonymous = build(ROWS).anonymous
    assert anonymous.select("client_id", "item_id").rows() == [("d1", "i1"), ("d2", "i2")]
    assert anonymous["weight"].to_list() == pytest.approx([(0.1 + 0.4 + 1.0) / 2, 0.1 / 2], rel=1e-6)


def matrix(customers: int, pairs: set[tuple[int, int]]) -> Histories:
    rows, items = (np.array([p[k] for p in sorted(pairs)], np.int64) for k in (0, 1))
    values = np.arange(len(pairs) * len(history.COLUMNS)).reshape(len(pairs), len(history.COLUMNS))
    return Histories.build(rows, items, values, customers)


@st.composite
def lookups(draw: st.DrawFn) -> tuple[int, set[tuple[int, int]], list[int], list[int]]:
    customers, items = draw(st.integers(0, 6)), 9
    cells = st.tuples(st.integers(0, max(0, customers - 1)), st.integers(0, items - 1))
    pairs = draw(st.sets(cells, max_size=30)) if customers else set()
    queries = draw(st.lists(st.tuples(st.integers(-1, customers - 1), st.integers(0, items - 1)), max_size=20))
    return customers, pairs, [c for c, _ in queries], [i for _, i in queries]


@examples(150)
@given(lookups())
def test_pairs_are_looked_up_as_in_a_dict(shop: tuple[int, set[tuple[int, int]], list[int], list[int]]):
    customers, pairs, rows, items = shop
    histories = matrix(customers, pairs)
    place = {p: n for n, p in enumerate(sorted(pairs))}
    visitors = Visitors.of_customers(np.array(rows, np.int64))
    positions = visitors.find(histories, np.arange(len(rows)), np.array(items, np.int64))
    assert positions.tolist() == [place.get(p, -1) for p in zip(rows, items, strict=True)]

    query, position = histories.gather(visitors.customers)
    expected = [(q, n) for q, c in enumerate(rows) for n, p in enumerate(sorted(pairs)) if p[0] == c]
    assert list(zip(query.tolist(), position.tolist(), strict=True)) == expected


def test_visitors_keep_the_pairs_of_one_history_only():
    visitors = Visitors.of_customers(np.array([1, -1, 0]))
    for histories in (matrix(2, {(0, 3), (1, 1)}), matrix(2, {(0, 2), (0, 4)})):
        for _ in range(2):
            stored, gathered = visitors.pairs(histories), histories.gather(visitors.customers)
            assert all(np.array_equal(a, b) for a, b in zip(stored, gathered, strict=True))


def test_a_column_by_its_name():
    histories = matrix(2, {(0, 3), (1, 1)})
    assert histories.column("quantity").tolist() == [1, 11]
    assert histories.values.dtype == np.float32


def test_a_history_without_pairs():
    histories = matrix(0, set())
    assert Visitors.of_customers(np.array([-1, -1])).find(histories, np.arange(2), np.array([0, 5])).tolist() == [
        -1,
        -1,
    ]
    assert all(len(part) == 0 for part in histories.gather(np.array([-1])))
    assert build([row("login", -1, "c1"), row("view_item", -1, "d1", "i1")]).history.is_empty()


def test_a_customers_items_rise_within_the_row():
    table = build(ROWS).history
    assert table.equals(table.sort("customer_id", "item_id"))
    assert table.select(pl.struct("customer_id", "item_id").is_unique().all()).item()
