"""Simple methods on small shops, and on the simulated one against the slow way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.schema import EventName
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors
from models.bundle import Bundle
from models.candidates.generators import Generators
from tests.features.shop import examples, row, snapshot
from tests.models import fitted
from training.evaluation import baselines
from training.evaluation.baselines import CUSTOMER_BASELINES, VISIT_BASELINES, Baseline

# Best sellers: i5 of three customers, i4 of two, then i1, i2 and i3 of c1 alone.
SALES = [
    *(row("purchase", -9, who, "i5") for who in ("c2", "c3", "c4")),
    *(row("purchase", -8, who, "i4") for who in ("c2", "c3")),
    row("purchase", -7, "c1", "i1", 1.0, 1.0, "o1"),
    row("purchase", -6, "c1", "i1", 1.0, 1.0, "o2"),
    row("purchase", -5, "c1", "i2", 9.0, 1.0, "o3"),
    row("purchase", -3, "c1", "i3", 1.0, 1.0, "o4"),
]


def customers(s: Snapshot, *customers: str) -> Visitors:
    return Visitors.of_customers(s.customers.find(list(customers)))


def visit(s: Snapshot, *touches: tuple[EventName, str]) -> Visitors:
    items = s.items.find([item for _, item in touches])
    kinds = np.array([KIND[name] for name, _ in touches], np.uint8)
    return Visitors.from_events(np.array([-1]), np.zeros(len(touches), np.int64), items, kinds)


def rank_ids(name: Baseline, s: Snapshot, visitors: Visitors, depth: int = 5) -> tuple[list[str], list[str]]:
    generators = Generators.fit(s, fitted.CONFIG)
    both = baselines.rank(name, generators, s, visitors, depth)
    everything, new = ([s.items.at(np.array([i]))[0] if i >= 0 else "" for i in lists[0]] for lists in both)
    return everything, new


def test_own_purchases_are_ordered_by_orders_then_recency_and_filled_up_with_best_sellers():
    s = snapshot(SALES)
    everything, new = rank_ids("own_purchases", s, customers(s, "c1"))
    assert everything == ["i1", "i3", "i2", "i5", "i4"]
    assert new == ["i5", "i4", "", "", ""]  # there are no other items


def test_popular_ranks_best_sellers_and_leaves_out_purchases_from_new_items():
    s = snapshot(SALES)
    everything, new = rank_ids("popular", s, customers(s, "c4"))
    assert everything[:2] == ["i5", "i4"]
    assert new[0] == "i4"
    assert set(new[:4]) == {"i1", "i2", "i3", "i4"}


@pytest.mark.parametrize("looks", [10, 13])
def test_tifu_knn_weights_own_vector_and_neighbours_seven_to_three(looks: int):
    # c1's only neighbour is c2, so the neighbours' mean is c2's vector. c1 has looked at i3, as often as said.
    day = 60.0
    rows = [
        row("purchase", -day, "c1", "i1"),
        *(row("view_item", -day + n / 1440, "c1", "i3", session_id="s") for n in range(looks)),
        row("purchase", -day, "c2", "i1", 1.0, 1.0, "o"),
        row("purchase", -day, "c2", "i2", 1.0, 1.0, "o"),
        *(row("purchase", -1, f"c{n}", "i5") for n in (7, 8, 9)),
    ]
    s = snapshot(rows)
    decay = 0.5 ** (day / 90)
    own_i3, theirs_i2 = 0.1 * looks * decay, 1 + decay
    expected = ["i3", "i2"] if 0.7 * own_i3 > 0.3 * theirs_i2 else ["i2", "i3"]
    assert (looks == 10) == (expected == ["i2", "i3"])
    assert [i for i in rank_ids("tifu_knn", s, customers(s, "c1"))[0] if i in ("i2", "i3")] == expected


def test_visit_items_are_ordered_latest_first():
    s = snapshot(SALES)
    touches: list[tuple[EventName, str]] = [
        ("view_item", "i3"),
        ("view_item", "i2"),
        ("view_item", "i3"),
        ("search", "i1"),
    ]
    everything, new = rank_ids("visit_items", s, visit(s, *touches))
    assert everything[:2] == ["i3", "i2"]
    assert not {"i3", "i2"} & set(new)  # what is in the visit already is no discovery
    assert set(everything) == {"i1", "i2", "i3", "i4", "i5"}


def test_customers_and_visits_have_different_baselines():
    s = snapshot(SALES)
    assert baselines.select_baselines(customers(s, "c1", "c2")) == CUSTOMER_BASELINES
    assert baselines.select_baselines(visit(s, ("view_item", "i1"))) == VISIT_BASELINES


@pytest.mark.parametrize("name", CUSTOMER_BASELINES)
def test_lists_are_full_without_repeats_and_new_lists_hold_no_purchases(name: Baseline, bundle: Bundle):
    s = bundle.snapshot
    visitors = Visitors.of_customers(np.arange(0, len(s.customers), 7))
    everything, new = baselines.rank(name, bundle.generators, s, visitors, 20)
    for customer, items, fresh in zip(visitors.customers, everything, new, strict=True):
        own = slice(s.history.indptr[customer], s.history.indptr[customer + 1])
        bought = set(s.history.items[own][s.history.column("orders")[own] > 0].tolist())
        assert len(set(items.tolist())) == 20
        assert items.min() >= 0
        assert not bought & set(fresh.tolist())
        assert len(set(fresh.tolist()) - {-1}) == min(20, len(s.items) - len(bought))


@pytest.mark.parametrize("name", ["als", "item_knn"])
def test_a_generator_baseline_is_its_list_filled_up_with_best_sellers(name: Baseline, bundle: Bundle):
    s, visitors = bundle.snapshot, Visitors.of_customers(np.arange(40))
    top, _ = baselines.rank(name, bundle.generators, s, visitors, 20)
    alone = fitted.best(bundle.generators, name, s, visitors, len(s.items))  # type: ignore[arg-type]
    popular = fitted.best(bundle.generators, "popular", s, visitors, len(s.items))
    for items, own, best in zip(top, alone, popular, strict=True):
        head = [i for i in own.tolist() if i >= 0]
        assert items.tolist() == [*head, *(i for i in best.tolist() if i not in head)][:20]


@examples(60)
@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=n, max_size=n), min_size=1, max_size=4),
            st.permutations(range(n)),
            st.integers(1, 8),
        )
    )
)
def test_scores_are_ranked_with_ties_in_the_given_order(case: tuple[list[list[float]], list[int], int]):
    score, order, depth = case
    top = baselines.rank_scores(np.array(score, np.float32), np.array(order), depth)
    for values, items in zip(score, top.tolist(), strict=True):
        good = sorted((i for i in order if values[i] >= 0), key=lambda i: (-values[i], order.index(i)))
        assert items == (good + [-1] * depth)[:depth]
