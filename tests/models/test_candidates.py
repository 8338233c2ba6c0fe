import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.events import EventName
from features.snapshot import Snapshot
from features.visitors import KIND, Visitors
from models.bundle import Bundle
from models.candidates import history, popular
from models.candidates.als import Als
from models.candidates.base import top
from models.candidates.generators import GENERATORS, GeneratorName, Generators
from models.candidates.item_knn import Basis, ItemKnn
from tests.features.shop import examples, row, same_arrays, snapshot
from tests.models import fitted

SCORES = st.tuples(st.integers(1, 4), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-3, 6).map(float))
)


@examples(80)
@given(SCORES, st.integers(1, 12))
def test_top_proposes_the_best_within_the_budget(scores: np.ndarray, budget: int):
    rows, items = top(scores, budget)
    for r, line in enumerate(scores):
        chosen = items[rows == r]
        assert len(set(chosen)) == len(chosen) == min(budget, (line > 0).sum())
        assert (line[chosen] > 0).all()
        left = np.delete(line, chosen)
        if len(chosen) and len(left):
            assert left.max() <= line[chosen].min()


@examples(40)
@given(st.permutations(range(-3, 6)), st.integers(1, 12))
def test_top_is_what_a_sort_says_where_nothing_ties(line: list[int], budget: int):
    _, items = top(np.array([line], np.float32), budget)
    best = sorted((n for n, v in enumerate(line) if v > 0), key=lambda n: -line[n])[:budget]
    assert set(items.tolist()) == set(best)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_visitors_scores_do_not_depend_on_the_others(bundle: Bundle, name: GeneratorName):
    s, generators = bundle.snapshot, bundle.generators
    visitors = fitted.visitors_of(s, 12, 6)
    whole = np.ascontiguousarray(generators.scores(name, s, visitors))
    assert whole.shape == (18, len(s.items))
    assert (whole > 0).any()
    for q in range(len(visitors)):
        alone = generators.scores(name, s, visitors.slice(q, q + 1))
        assert same_arrays(np.ascontiguousarray(alone[0]), whole[q])
    halves = [generators.scores(name, s, visitors.slice(a, a + 9)) for a in (0, 9)]
    assert same_arrays(np.concatenate(halves), whole)


def dense_taste(s: Snapshot) -> np.ndarray:
    """float64[customers × items], NaN for a pair that is not there."""
    out = np.full((len(s.customers), len(s.items)), np.nan)
    for customer in range(len(s.customers)):
        for at in range(s.history.indptr[customer], s.history.indptr[customer + 1]):
            bought, carts, views = (
                float(s.history.column(c)[at]) for c in ("bought_decayed", "carts_decayed", "views_decayed")
            )
            out[customer, s.history.items[at]] = bought + 0.4 * carts + 0.1 * views
    return out


def test_als_folds_in_by_the_closed_form(bundle: Bundle):
    als, taste = bundle.generators.als, dense_taste(bundle.snapshot)
    y = als.items.astype(np.float64)
    for customer, line in enumerate(taste):
        known = ~np.isnan(line)
        c = np.where(known, 1 + als.alpha * np.log1p(np.nan_to_num(line)), 1.0)
        left = y.T @ np.diag(c) @ y + als.regularization * np.eye(y.shape[1])
        expected = np.linalg.solve(left, y.T @ np.where(known, c, 0.0))
        np.testing.assert_allclose(als.customers[customer], expected, rtol=1e-3, atol=1e-5)


def test_als_scores_customers_and_no_strangers(bundle: Bundle):
    als = bundle.generators.als
    scores = als.scores(Visitors.of_customers(np.array([3, -1])))
    np.testing.assert_allclose(scores[0], als.items @ als.customers[3], rtol=1e-5)
    assert not scores[1].any()


def test_als_puts_what_was_bought_before_what_was_not(bundle: Bundle):
    s, als = bundle.snapshot, bundle.generators.als
    at = s.history.column("orders") > 0
    customers = np.repeat(np.arange(len(s.customers)), np.diff(s.history.indptr))[at]
    scores = als.scores(Visitors.of_customers(np.arange(len(s.customers))))
    assert scores[customers, s.history.items[at]].mean() > 3 * scores.mean()


def test_als_onto_the_same_snapshot_is_the_same(bundle: Bundle):
    als = bundle.generators.als
    again = als.onto(bundle.snapshot, np.arange(len(bundle.snapshot.items)))
    assert all(same_arrays(array, again.arrays()[name]) for name, array in als.arrays().items())


def test_als_gives_new_items_no_vector_and_folds_customers_in_anew():
    old = snapshot([row("purchase", -d, f"c{d % 3}", f"i{d % 4}", 1.0, 1.0, f"o{d}") for d in range(1, 20)])
    new = snapshot([row("purchase", -d, f"c{d % 4}", f"i{d % 5 + 1}", 1.0, 1.0, f"o{d}") for d in range(1, 20)])
    fit = Generators.fit(old, fitted.CONFIG)
    moved = fit.onto(old, new)
    assert [new.items.at(np.array([n]))[0] for n in range(5)] == ["i1", "i2", "i3", "i4", "i5"]
    assert same_arrays(moved.als.items[:3], fit.als.items[1:4])
    assert not moved.als.items[3:].any()
    assert moved.als.customers.shape == (4, fit.als.items.shape[1])
    assert moved.als.customers.any(axis=1).all()
    assert moved.item_knn.indptr[-1] == moved.item_knn.indptr[3]
    assert not (moved.item_knn.indices > 2).any()


def dense(knn: ItemKnn) -> np.ndarray:
    out = np.zeros((len(knn.indptr) - 1,) * 2, np.float32)
    for i in range(len(out)):
        row_ = slice(knn.indptr[i], knn.indptr[i + 1])
        out[i, knn.indices[row_]] = knn.data[row_]
    return out


@examples(40)
@given(st.permutations(range(-1, 6)), st.integers(0, 7), st.integers(0, 99))
def test_neighbours_move_with_their_items(places: list[int], keep: int, seed: int):
    rng = np.random.default_rng(seed)
    similar = np.where(rng.random((6, 6)) < 0.5, rng.random((6, 6), np.float32), np.float32(0))
    rows, columns = np.nonzero(similar)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=6))])
    knn = ItemKnn(indptr, columns.astype(np.int32), similar[rows, columns], 2, 0.8)
    items = np.array(places[:keep], np.int64)
    moved = dense(knn.onto(items, 6))
    expected = np.zeros((keep, keep), np.float32)
    for i, a in enumerate(items):
        for j, b in enumerate(items):
            if a >= 0 and b >= 0:
                expected[i, j] = similar[a, b]
    assert same_arrays(moved, expected)


def test_neighbours_are_taken_by_the_same_visitors_and_never_oneself(bundle: Bundle):
    s = snapshot(
        [row("purchase", -1, who, item) for who, item in (("c1", "i1"), ("c1", "i2"), ("c2", "i1"), ("c2", "i3"))]
        + [row("view_item", -1, "d1", item) for item in ("i4", "i5")]
        + [row("view_item", -1, "c3", "i6")]
    )
    similar = dense(ItemKnn.fit(s, fitted.CONFIG.item_knn))
    assert {(i + 1, j + 1) for i, j in zip(*np.nonzero(similar), strict=True)} == {
        (1, 2), (2, 1), (1, 3), (3, 1), (4, 5), (5, 4),
    }  # fmt: skip
    large = bundle.generators.item_knn
    assert not dense(large).diagonal().any()
    assert np.diff(large.indptr).max() <= fitted.CONFIG.item_knn.neighbours
    assert (large.data > 0).all()


def test_item_knn_scores_are_sums_over_the_visitors_items(bundle: Bundle):
    s, knn = bundle.snapshot, bundle.generators.item_knn
    similar, taste = dense(knn).astype(np.float64), dense_taste(s)
    visitors = fitted.visitors_of(s, 20, 8)
    back = np.full(taste.shape, np.inf)
    for customer in range(len(s.customers)):
        own = slice(s.history.indptr[customer], s.history.indptr[customer + 1])
        back[customer, s.history.items[own]] = np.nan_to_num(s.history.column("baskets_back")[own], nan=np.inf)
    for q, customer in enumerate(visitors.customers):
        visit = np.zeros(len(s.items))
        touched = np.flatnonzero(visitors.query == q)
        for n, event in enumerate(touched):
            if visitors.item[event] >= 0:
                visit[visitors.item[event]] += visitors.weight[event] * 0.8 ** (len(touched) - 1 - n)
        none = np.zeros(len(s.items))
        weights: dict[Basis, np.ndarray] = {
            "history": np.log1p(np.nan_to_num(taste[customer])) if customer >= 0 else none,
            "last_baskets": (back[customer] < 2).astype(float) if customer >= 0 else none,
            "visit": visit,
        }
        for basis, weight in weights.items():
            found = knn.scores(s, visitors.slice(q, q + 1), basis)[0]
            np.testing.assert_allclose(found, weight @ similar, rtol=1e-4, atol=1e-6)


def test_what_was_taken_out_of_the_cart_draws_its_neighbours_as_a_view_does(bundle: Bundle):
    visits: tuple[tuple[tuple[EventName, int], ...], ...] = (
        (("add_to_cart", 7), ("view_item", 3), ("remove_from_cart", 7)),
        (("view_item", 7), ("view_item", 3), ("search", -1)),
        (("remove_from_cart", 7), ("view_item", 3), ("add_to_cart", 7)),
    )
    removed, viewed, put_back = (
        bundle.generators.item_knn.scores(
            bundle.snapshot,
            Visitors.of(
                np.array([-1]),
                np.zeros(3, np.int64),
                np.array([item for _, item in visit]),
                np.array([KIND[name] for name, _ in visit]),
            ),
            "visit",
        )
        for visit in visits
    )
    assert same_arrays(removed, viewed)
    assert (put_back >= viewed).all()
    assert (put_back > viewed).any()


def test_history_scores_what_was_touched_and_recent_orders_most(bundle: Bundle):
    s = bundle.snapshot
    taste = dense_taste(s)
    scores = history.scores(s, Visitors.of_customers(np.array([5, -1, 0])))
    assert ((scores[0] > 0) == ~np.isnan(taste[5])).all()
    assert not scores[1].any()
    rows = [row("purchase", -d, "c1", item, 1.0, 1.0, f"o{d}") for d, item in ((9, "i1"), (5, "i2"), (1, "i3"))]
    line = history.scores(snapshot([*rows, row("view_item", -1, "c1", "i4")]), Visitors.of_customers(np.array([0])))[0]
    assert np.argsort(-line).tolist() == [2, 1, 0, 3]
    assert line[3] == pytest.approx(0.1, rel=0.01)


def test_popular_is_by_buyers_then_views_and_leaves_nothing_out():
    rows = [row("purchase", -1, f"c{n}", "i3") for n in range(3)] + [row("purchase", -1, f"c{n}", "i2") for n in (0, 1)]
    rows += [row("view_item", -1, f"d{n}", "i1") for n in range(9)] + [row("purchase", -60, "c1", "i5")]
    rows += [row("view_item", -40, "d1", "i4")]
    s = snapshot(rows)
    score = popular.popularity(s)
    assert [s.items.at(np.array([n]))[0] for n in np.argsort(-score)] == ["i3", "i2", "i5", "i1", "i4"]
    assert (score > 0).all()
    assert popular.scores(s, Visitors.of_customers(np.array([0, -1]))).tolist() == [score.tolist()] * 2


def test_generators_come_back_from_their_arrays(bundle: Bundle):
    again = Generators.from_arrays(bundle.generators.arrays())
    assert all(same_arrays(a, again.arrays()[name]) for name, a in bundle.generators.arrays().items())
    assert isinstance(again.als, Als)
    assert (again.item_knn.last_baskets, again.item_knn.visit_decay) == (2, 0.8)
