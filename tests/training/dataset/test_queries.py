"""Queries of a boundary: which visitors they are of, what is known at each, and which items are relevant."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.clock import DAY
from features.event_log.schema import EventName
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND
from features.tables.bots import PER_HOUR
from tests.features.shop import AS_OF, Row, examples, frame, row, snapshot
from training.dataset import queries
from training.dataset.queries import GRADES, Queries

MINUTE = 1 / (24 * 60)
PAST = [
    row("purchase", -9, "c1", "i1"),
    row("view_item", -9, "c2", "i2"),
    row("login", -9, "c3"),
    *(row("view_item", -9, "d9", f"i{n}") for n in range(6)),
]


def future(rows: list[Row], days: float = 30) -> Any:
    return queries.read_window(frame(rows).lazy(), AS_OF, AS_OF + round(days * DAY))


def sorted_by_minute(visit: list[Any]) -> list[Any]:
    return sorted(visit, key=lambda touch: touch[0])


def relevant(s: Snapshot, result: Queries) -> dict[int, dict[str, int]]:
    """Query → item → grade."""
    out: dict[int, dict[str, int]] = {q: {} for q in range(len(result))}
    for q, item, grade in zip(result.query, s.items.at(result.item), result.grade, strict=True):
        out[int(q)][item] = int(grade)
    return out


def visits(s: Snapshot, rows: list[Row], **settings: int) -> list[tuple[list[tuple[str, float]], dict[str, int]]]:
    """What is known at each query (item, weight), and what is relevant (item → grade), sorted."""
    result = queries.visit_queries(future(rows), s, **({"limit": 100, "seed": 7} | settings))["predictive"]
    labels = relevant(s, result)
    events = zip(result.visitors.query, s.items.at(result.visitors.item), result.visitors.weight, strict=True)
    known: dict[int, list[tuple[str, float]]] = {q: [] for q in labels}
    for q, item, weight in events:
        known[int(q)].append((item, float(weight)))
    assert (result.visitors.customers == -1).all()
    return sorted(((known[q], labels[q]) for q in labels), key=repr)


@pytest.fixture(scope="module")
def shop() -> Snapshot:
    return snapshot(PAST)


def test_the_window_is_half_open_and_has_consented_events_of_visits_only():
    rows = [
        row("view_item", -1 / DAY, "c1", "before"),
        row("view_item", 0, "c1", "first"),
        row("view_item", 30 - 1 / DAY, "c1", "last"),
        row("view_item", 30, "c1", "after"),
        row("view_item", 1, "c1", "refused", consent=False),
        row("purchase", 1, "c1", "granted", consent=True),
        row("refund", 1, "c1", "returned"),
        row("login", 1, "c1"),
        row("view_item_list", 1, "c1", "shown"),
        row("tea_brewed", 1, "c1", "unknown"),
        row("search", 1, "c1", query="tea"),
        row("remove_from_cart", 1, "c1", "removed"),
    ]
    assert sorted(future(rows)["item_id"].fill_null("")) == ["", "first", "granted", "last", "removed"]


def test_what_customers_with_history_buy_is_relevant(shop: Snapshot):
    rows = [
        row("purchase", 5, "c2", "i4", 2.0, 1.0),
        row("purchase", 6, "c2", "i4", 1.0, 1.0),
        row("purchase", 3, "c2", "i1"),
        row("purchase", 3, "c1", "i5"),
        row("view_item", 3, "c1", "i2"),  # looked at only
        row("purchase", 3, "c1", "new"),  # not in the snapshot
        row("purchase", 3, "c3", "i1"),  # known, but has touched nothing
        row("purchase", 3, "c7", "i1"),  # unknown
        row("purchase", 3, "d9", "i3"),  # without a customer
        row("purchase", 3, "c1", "i3", consent=False),
    ]
    result = queries.customer_queries(future(rows), shop)
    assert shop.customers.at(result.visitors.customers) == ["c1", "c2"]
    assert relevant(shop, result) == {0: {"i5": 3}, 1: {"i1": 3, "i4": 3}}
    assert len(result.visitors.query) == 0
    assert (np.diff(result.query * len(shop.items) + result.item) > 0).all()


def test_events_of_bots_are_left_out(shop: Snapshot):
    visit = [row("view_item", 3 + n / 1440, "d5", "i1") for n in range(3)]
    fast = [row("view_item", 2 + n / 17_280, "d9", "i1") for n in range(PER_HOUR + 1)]
    assert future([*visit, *fast]).height == 3
    assert future([*visit, *fast[1:]]).height == 3 + PER_HOUR


@pytest.mark.parametrize("ordered", [-9, 3])
def test_a_flood_takes_no_label_of_a_customer_with_orders(ordered: float):
    rows = [row("purchase", ordered, "c1", "i1"), row("view_item", 5, "c1", "i2"), row("view_item", 5, "~d1", "i3")]
    fast = [row("view_item", 2 + n / 17_280, "c1", "i1") for n in range(PER_HOUR + 1)]
    clean = future(rows)
    assert future([*rows, *fast]).equals(clean)
    assert "i2" in clean["item_id"]
    assert "i3" not in clean["item_id"]


def test_without_anything_relevant_there_are_no_queries(shop: Snapshot):
    rows = [row("purchase", 3, "c1", "new"), row("view_item", 3, "c1", "i1")]
    assert len(queries.customer_queries(future(rows), shop)) == 0
    assert len(queries.visit_queries(future(rows), shop, 9, 7)["predictive"]) == 0
    none = queries.visit_queries(future(rows), shop, 9, 7)["predictive"]
    assert none.labels(np.array([0]), np.array([1]), len(shop.items)).tolist() == [0]


def test_labels_are_the_grades_of_relevant_pairs(shop: Snapshot):
    rows = [row("purchase", 3, "c1", "i1"), row("purchase", 3, "c2", "i0"), row("purchase", 3, "c2", "i5")]
    result = queries.customer_queries(future(rows), shop)
    n = len(shop.items)
    query, item = np.divmod(np.arange(2 * n), n)
    pairs = {(0, "i1"), (1, "i0"), (1, "i5")}
    expected = [3 * ((q, shop.items.at(np.array([i]))[0]) in pairs) for q, i in zip(query, item, strict=True)]
    assert result.labels(query, item, n).tolist() == expected


SESSION = [
    row("view_item", 1, "d1", "i1", session_id="s1"),
    row("view_item", 1 + MINUTE, "d1", "i2", session_id="s1"),
    row("add_to_cart", 1 + 2 * MINUTE, "d1", "i2", session_id="s1"),
    row("view_item", 1 + 3 * MINUTE, "d1", "i1", session_id="s1"),
    row("purchase", 1 + 4 * MINUTE, "d1", "i2", session_id="s1"),
]
# What is known and what is relevant with a query at each instant of the visit.
CUTS = [
    ([], {"i1": 1, "i2": 3}),
    ([("i1", 1.0)], {"i1": 1, "i2": 3}),
    ([("i1", 1.0), ("i2", 1.0)], {"i1": 1, "i2": 3}),
    ([("i1", 1.0), ("i2", 1.0), ("i2", 2.0)], {"i1": 1, "i2": 3}),
    ([("i1", 1.0), ("i2", 1.0), ("i2", 2.0), ("i1", 1.0)], {"i2": 3}),
]


def test_events_before_a_query_are_known_and_those_from_it_on_are_relevant(shop: Snapshot):
    positions = []
    for seed in range(40):
        (query,) = visits(shop, SESSION, seed=seed)
        assert query in CUTS
        positions.append(CUTS.index(query))
    assert set(positions) == set(range(len(CUTS)))


# Minute, name, item and price; a search has no item, and the catalog does not know "new".
Touch = tuple[int, EventName, str | None, float | None]
RICH: list[Touch] = [
    (0, "search", None, None),
    (1, "view_item", "i1", 3.5),
    (2, "view_item", "new", 9.0),
    (2, "add_to_cart", "i2", 4.0),
    (4, "remove_from_cart", "i2", None),
    (4, "login", None, None),
    (6, "view_item", "i3", None),
    (9, "view_cart", None, None),
]
TOUCHES = st.tuples(
    st.integers(0, 5),
    st.sampled_from(["view_item", "add_to_cart", "purchase", "remove_from_cart", "search"]),
    st.sampled_from(["i1", "i2", "new"]),
    st.sampled_from([None, 2.0]),
)
Known = list[tuple[int, int, float, float]]  # kind, item, age and price, -1 where there is none


def outcomes(s: Snapshot, visit: list[Touch]) -> list[tuple[Known, dict[str, int]]]:
    """What is known and what is relevant with a query at each instant at which an item is touched."""
    find = {item: n for n, item in enumerate(s.items.values.to_pylist())}
    touches = [(m, item, GRADES[name]) for m, name, item, _ in visit if name in GRADES and item in find]
    out = []
    for instant in sorted({m for m, *_ in touches}):
        known = [
            (KIND[name], -1 if name == "search" else find.get(item or "", -1), 60.0 * (instant - m), price or -1)
            for m, name, item, price in visit
            if m < instant and name in KIND
        ]
        late = sorted((grade, item) for m, item, grade in touches if m >= instant)
        out.append((known, {item: grade for grade, item in late if item}))
    return out


def query_of(s: Snapshot, visit: list[Touch], seed: int) -> tuple[Known, dict[str, int]]:
    rows = [row(name, 1 + m * MINUTE, "d1", item, price=price, session_id="s1") for m, name, item, price in visit]
    numbered = [r | {"event_id": f"e{n:02}"} for n, r in enumerate(rows)]
    result = queries.visit_queries(future(numbered), s, 9, seed)["predictive"]
    v = result.visitors
    known = zip(v.kind.tolist(), v.item.tolist(), v.age.tolist(), np.nan_to_num(v.price, nan=-1).tolist(), strict=True)
    return list(known), relevant(s, result)[0]


def test_a_query_knows_kinds_ages_and_prices_of_searches_removals_and_new_items(shop: Snapshot):
    expected = outcomes(shop, RICH)
    assert [len(known) for known, _ in expected] == [1, 2, 5]
    assert expected[-1][0] == [
        (KIND["search"], -1, 360, -1),
        (KIND["view_item"], 1, 300, 3.5),
        (KIND["view_item"], -1, 240, 9),
        (KIND["add_to_cart"], 2, 240, 4),
        (KIND["remove_from_cart"], 2, 120, -1),
    ]
    actual = [query_of(shop, RICH, seed) for seed in range(25)]
    assert all(a in expected for a in actual)
    assert all(e in actual for e in expected)


@examples(60)
@given(visit=st.lists(TOUCHES, min_size=1, max_size=7).map(sorted_by_minute), seed=st.integers(0, 999))
def test_nothing_at_or_after_a_query_is_known(shop: Snapshot, visit: list[Touch], seed: int):
    visit = [*visit, (6, "view_item", "i3", None)]
    assert query_of(shop, visit, seed) in outcomes(shop, visit)


def test_no_query_is_between_a_click_and_the_view_it_opens(shop: Snapshot):
    """There, a ranker would be rewarded for repeating the item that was clicked a second ago."""
    click: list[Touch] = [(1, "select_item", "i1", None), (2, "view_item", "i1", None), (3, "view_item", "i2", None)]
    lengths = {len(known) for known, _ in (query_of(shop, click, seed) for seed in range(20))}
    assert lengths == {0, 2}
    other: list[Touch] = [(1, "select_item", "i3", None), *click[1:]]
    lengths = {len(known) for known, _ in (query_of(shop, other, seed) for seed in range(20))}
    assert lengths == {0, 1, 2}


def test_visits_without_a_relevant_item_are_left_out(shop: Snapshot):
    rows = [row("search", 1, "d1"), row("view_item", 1, "d2", "new"), row("remove_from_cart", 1, "d3", "i1")]
    assert len(queries.visit_queries(future(rows), shop, 9, 7)["predictive"]) == 0


def test_a_search_continues_a_visit_without_a_session(shop: Snapshot):
    rows = [row("view_item", 1, "d1", "i1"), row("view_item", 1 + 50 * MINUTE, "d1", "i2")]
    assert len(queries.visit_queries(future(rows), shop, 9, 7)["predictive"]) == 2
    assert (
        len(queries.visit_queries(future([*rows, row("search", 1 + 25 * MINUTE, "d1")]), shop, 9, 7)["predictive"]) == 1
    )


def test_events_of_one_instant_stay_together(shop: Snapshot):
    rows = [row("view_item", 1, "d1", f"i{n}", session_id="s1") for n in range(4)]
    for seed in range(12):
        assert visits(shop, rows, seed=seed) == [([], {f"i{n}": 1 for n in range(4)})]


def test_the_order_of_rows_does_not_matter(shop: Snapshot):
    numbered = [r | {"event_id": f"e{n}"} for n, r in enumerate(SESSION)]
    for seed in range(5):
        assert visits(shop, numbered, seed=seed) == visits(shop, numbered[::-1], seed=seed)


def test_without_sessions_half_an_hour_without_events_ends_a_visit(shop: Snapshot):
    at = [0, 30, 60 + 1 / 60_000_000, 61]  # the second pause is a microsecond too long
    rows = [row("view_item", 1 + m * MINUTE, "d1", f"i{n}") for n, m in enumerate(at)]
    rows += [row("view_item", 1 + MINUTE, "d2", "i5")]
    for seed in range(8):
        items = sorted(sorted(labels) for _, labels in visits(shop, rows, seed=seed))
        assert all(i in (["i0", "i1"], ["i1"], ["i2", "i3"], ["i3"], ["i5"]) for i in items)
        assert [i[-1] for i in items] == ["i1", "i3", "i5"]


def test_earlier_visits_since_the_boundary_are_known_too(shop: Snapshot):
    rows = [row("view_item", 1, "d1", "i0"), row("view_item", 2, "d1", "i1"), row("view_item", 2, "d2", "i5")]
    assert sorted(visits(shop, rows), key=str) == sorted(
        [([], {"i0": 1}), ([], {"i5": 1}), ([("i0", 1.0)], {"i1": 1})], key=str
    )


def known_visits(s: Snapshot, rows: list[Row], seed: int = 7) -> list[tuple[str, list[str], dict[str, int]]]:
    """Customer, items known and relevant, of each query inside a visit of a customer with history."""
    result = queries.visit_queries(future(rows), s, 100, seed)["one_to_one_visit"]
    known: list[list[str]] = [[] for _ in range(len(result))]
    for q, item in zip(result.visitors.query.tolist(), s.items.at(result.visitors.item), strict=True):
        known[q].append(item)
    labels = relevant(s, result)
    return sorted(
        (customer, known[n], labels[n]) for n, customer in enumerate(s.customers.at(result.visitors.customers))
    )


def test_visits_of_customers_with_history_have_queries(shop: Snapshot):
    """From the second instant on: at the first, nothing of the visit is known."""
    visit = [row("view_item", 1 + n * MINUTE, "c1", f"i{n}") for n in range(3)]
    others = [row("view_item", 1 + n * MINUTE, visitor, f"i{n}") for n in range(3) for visitor in ("c3", "c7", "d1")]
    samples = [known_visits(shop, [*visit, *others], seed) for seed in range(20)]
    assert sorted({tuple(map(str, sample)) for sample in samples if sample}) == [
        (str(("c1", ["i0", "i1"], {"i2": 1})),),
        (str(("c1", ["i0"], {"i1": 1, "i2": 1})),),
    ]
    assert [] in samples


def test_a_login_adds_the_events_before_it_to_the_customers(shop: Snapshot):
    def view(minute: int, item: str, customer: str | None) -> Row:
        return row("view_item", 1 + minute * MINUTE, "d1", item, session_id="s") | {"customer_id": customer}

    rows = [view(0, "i0", None), view(1, "i1", None), view(2, "i2", "c1"), view(3, "i3", "c1"), view(4, "i4", None)]
    samples = [known_visits(shop, rows, seed) for seed in range(30)]
    lengths = {len(known) for ((_, known, _),) in samples}
    assert lengths == {2, 3, 4}  # before the login, the visitor is no known customer
    assert all(
        customer == "c1" and known == [f"i{n}" for n in range(len(known))] for ((customer, known, _),) in samples
    )
    anonymous = [visits(shop, rows, seed=seed) for seed in range(30)]
    assert {len(known) for ((known, _),) in anonymous} == {0, 1}


def test_events_of_another_customer_on_the_same_device_are_not_known(shop: Snapshot):
    def view(day: float, item: str, customer: str) -> Row:
        return row("view_item", day, "d1", item, session_id=f"s{day:.0f}") | {"customer_id": customer}

    rows = [view(1, "i0", "c1"), view(2, "i1", "c2"), view(2 + MINUTE, "i2", "c2"), view(3, "i3", "c1")]
    for seed in range(10):
        for customer, known, _ in known_visits(shop, rows, seed):
            assert set(known) <= ({"i0"} if customer == "c1" else {"i1"})


def test_the_predictive_recommender_has_no_visits_of_customers_with_history(shop: Snapshot):
    rows = [row("view_item", 1, customer, "i4") for customer in ("c1", "c2", "c3", "c7", "d1")]
    rows += [row("view_item", 1, "d2", "new"), row("view_item", 1, "d3", "i1", consent=False)]
    assert visits(shop, rows) == [([], {"i4": 1})] * 3  # c3 has no item events yet, c7 and d1 are not known


def test_visits_are_limited_and_the_same_ones_each_time(shop: Snapshot):
    rows = [row("view_item", 1 + n / 10, f"d{n}", f"i{n % 6}", session_id=f"s{n}") for n in range(30)]
    few = visits(shop, rows, limit=7)
    assert len(few) == 7
    assert visits(shop, rows[::-1], limit=7) == few
    assert any(visits(shop, rows, limit=7, seed=s) != few for s in range(3))
    assert len(visits(shop, rows, limit=30)) == 30


def test_the_same_session_number_of_two_visitors_is_two_visits(shop: Snapshot):
    """GA4 numbers a client's sessions by the second they start in: across clients the numbers repeat."""
    rows = [
        row("view_item", 1, customer, item, session_id="1714521600") for customer, item in (("d1", "i1"), ("d2", "i2"))
    ]
    assert visits(shop, rows) == [([], {"i1": 1}), ([], {"i2": 1})]
