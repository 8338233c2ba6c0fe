from typing import Any

import numpy as np
import pytest

from features.clock import DAY
from features.snapshot import Snapshot
from tests.features.shop import AS_OF, Row, frame, row, snapshot
from training import queries
from training.queries import Queries

MINUTE = 1 / (24 * 60)
PAST = [
    row("purchase", -9, "c1", "i1"),
    row("view_item", -9, "c2", "i2"),
    row("login", -9, "c3"),
    *(row("view_item", -9, "d9", f"i{n}") for n in range(6)),
]


def future(rows: list[Row], days: float = 30) -> Any:
    return queries.window(frame(rows).lazy(), AS_OF, AS_OF + round(days * DAY))


def relevant(s: Snapshot, asked: Queries) -> dict[int, dict[str, int]]:
    """Query → item → grade."""
    out: dict[int, dict[str, int]] = {q: {} for q in range(len(asked))}
    for q, item, grade in zip(asked.query, s.items.at(asked.item), asked.grade, strict=True):
        out[int(q)][item] = int(grade)
    return out


def visits(s: Snapshot, rows: list[Row], **settings: int) -> list[tuple[list[tuple[str, float]], dict[str, int]]]:
    """What was known and what was relevant of each query, sorted."""
    asked = queries.predictive(future(rows), s, **({"limit": 100, "seed": 7} | settings))
    wanted = relevant(s, asked)
    events = zip(asked.visitors.query, s.items.at(asked.visitors.item), asked.visitors.weight, strict=True)
    known: dict[int, list[tuple[str, float]]] = {q: [] for q in wanted}
    for q, item, weight in events:
        known[int(q)].append((item, float(weight)))
    assert (asked.visitors.customers == -1).all()
    return sorted(((known[q], wanted[q]) for q in wanted), key=repr)


@pytest.fixture(scope="module")
def shop() -> Snapshot:
    return snapshot(PAST)


def test_the_window_is_half_open_consented_and_of_items():
    rows = [
        row("view_item", -1 / DAY, "c1", "before"),
        row("view_item", 0, "c1", "first"),
        row("view_item", 30 - 1 / DAY, "c1", "last"),
        row("view_item", 30, "c1", "after"),
        row("view_item", 1, "c1", "refused", consent=False),
        row("purchase", 1, "c1", "granted", consent=True),
        row("refund", 1, "c1", "returned"),
        row("login", 1, "c1"),
        row("tea_brewed", 1, "c1", "unknown"),
    ]
    assert sorted(future(rows)["item_id"]) == ["first", "granted", "last"]


def test_customers_with_history_are_asked_about_what_they_buy(shop: Snapshot):
    rows = [
        row("purchase", 5, "c2", "i4", 2.0, 1.0),
        row("purchase", 6, "c2", "i4", 1.0, 1.0),
        row("purchase", 3, "c2", "i1"),
        row("purchase", 3, "c1", "i5"),
        row("view_item", 3, "c1", "i2"),  # looked at only
        row("purchase", 3, "c1", "new"),  # cannot be proposed
        row("purchase", 3, "c3", "i1"),  # known, but has touched nothing
        row("purchase", 3, "c7", "i1"),  # unknown
        row("purchase", 3, "d9", "i3"),  # nobody's
        row("purchase", 3, "c1", "i3", consent=False),
    ]
    asked = queries.one_to_one(future(rows), shop)
    assert shop.customers.at(asked.visitors.customers) == ["c1", "c2"]
    assert relevant(shop, asked) == {0: {"i5": 3}, 1: {"i1": 3, "i4": 3}}
    assert len(asked.visitors.query) == 0
    assert (np.diff(asked.query * len(shop.items) + asked.item) > 0).all()


def test_nobody_to_ask(shop: Snapshot):
    rows = [row("purchase", 3, "c1", "new"), row("view_item", 3, "c1", "i1")]
    assert len(queries.one_to_one(future(rows), shop)) == 0
    assert len(queries.predictive(future(rows), shop, 9, 7)) == 0
    none = queries.predictive(future(rows), shop, 9, 7)
    assert none.labels(np.array([0]), np.array([1]), len(shop.items)).tolist() == [0]


def test_labels_are_the_grades_of_the_pairs_that_are_relevant(shop: Snapshot):
    rows = [row("purchase", 3, "c1", "i1"), row("purchase", 3, "c2", "i0"), row("purchase", 3, "c2", "i5")]
    asked = queries.one_to_one(future(rows), shop)
    n = len(shop.items)
    query, item = np.divmod(np.arange(2 * n), n)
    wanted = {(0, "i1"), (1, "i0"), (1, "i5")}
    expected = [3 * ((q, shop.items.at(np.array([i]))[0]) in wanted) for q, i in zip(query, item, strict=True)]
    assert asked.labels(query, item, n).tolist() == expected


SESSION = [
    row("view_item", 1, "d1", "i1", session_id="s1"),
    row("view_item", 1 + MINUTE, "d1", "i2", session_id="s1"),
    row("add_to_cart", 1 + 2 * MINUTE, "d1", "i2", session_id="s1"),
    row("view_item", 1 + 3 * MINUTE, "d1", "i1", session_id="s1"),
    row("purchase", 1 + 4 * MINUTE, "d1", "i2", session_id="s1"),
]
# What is known and what is relevant, if the visit is cut at each of its instants.
CUTS = [
    ([], {"i1": 1, "i2": 3}),
    ([("i1", 1.0)], {"i1": 1, "i2": 3}),
    ([("i1", 1.0), ("i2", 1.0)], {"i1": 1, "i2": 3}),
    ([("i1", 1.0), ("i2", 1.0), ("i2", 2.0)], {"i1": 1, "i2": 3}),
    ([("i1", 1.0), ("i2", 1.0), ("i2", 2.0), ("i1", 1.0)], {"i2": 3}),
]


def test_what_came_before_the_moment_is_known_and_what_comes_from_it_is_relevant(shop: Snapshot):
    met = []
    for seed in range(40):
        (query,) = visits(shop, SESSION, seed=seed)
        assert query in CUTS
        met.append(CUTS.index(query))
    assert set(met) == set(range(len(CUTS)))


def test_an_instant_is_never_cut_in_two(shop: Snapshot):
    rows = [row("view_item", 1, "d1", f"i{n}", session_id="s1") for n in range(4)]
    for seed in range(12):
        assert visits(shop, rows, seed=seed) == [([], {f"i{n}": 1 for n in range(4)})]


def test_the_order_of_rows_decides_nothing(shop: Snapshot):
    numbered = [r | {"event_id": f"e{n}"} for n, r in enumerate(SESSION)]
    for seed in range(5):
        assert visits(shop, numbered, seed=seed) == visits(shop, numbered[::-1], seed=seed)


def test_without_sessions_half_an_hour_of_silence_ends_a_visit(shop: Snapshot):
    at = [0, 30, 60 + 1 / 60_000_000, 61]  # the second pause is a microsecond too long
    rows = [row("view_item", 1 + m * MINUTE, "d1", f"i{n}") for n, m in enumerate(at)]
    rows += [row("view_item", 1 + MINUTE, "d2", "i5")]
    items = [sorted({i for i, _ in known} | set(wanted)) for known, wanted in visits(shop, rows)]
    assert sorted(items) == [["i0", "i1"], ["i2", "i3"], ["i5"]]


def test_visits_of_customers_with_history_are_left_out(shop: Snapshot):
    rows = [row("view_item", 1, who, "i4") for who in ("c1", "c2", "c3", "c7", "d1")]
    rows += [row("view_item", 1, "d2", "new"), row("view_item", 1, "d3", "i1", consent=False)]
    assert visits(shop, rows) == [([], {"i4": 1})] * 3  # c3 has touched nothing yet, c7 and d1 are not known


def test_no_more_visits_than_asked_for_and_the_same_ones_each_time(shop: Snapshot):
    rows = [row("view_item", 1 + n / 10, f"d{n}", f"i{n % 6}", session_id=f"s{n}") for n in range(30)]
    few = visits(shop, rows, limit=7)
    assert len(few) == 7
    assert visits(shop, rows[::-1], limit=7) == few
    assert any(visits(shop, rows, limit=7, seed=s) != few for s in range(3))
    assert len(visits(shop, rows, limit=30)) == 30


def test_the_same_session_number_of_two_visitors_is_two_visits(shop: Snapshot):
    """GA4 numbers a client's sessions by the second they start in: across clients the numbers repeat."""
    rows = [row("view_item", 1, who, item, session_id="1714521600") for who, item in (("d1", "i1"), ("d2", "i2"))]
    assert visits(shop, rows) == [([], {"i1": 1}), ([], {"i2": 1})]
