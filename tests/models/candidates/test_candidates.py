import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.schema import EventName
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors
from models.bundle import Bundle
from models.candidates.als import Als
from models.candidates.buy_again import BuyAgain
from models.candidates.covisit import Covisit
from models.candidates.generators import Generators
from models.candidates.item_knn import ItemKnn
from models.candidates.registry import GENERATORS, GeneratorName
from models.candidates.scores import Scores
from models.candidates.similarity import ItemSimilarity
from tests.features.shop import examples, row, same_arrays, snapshot
from tests.models import fitted


@pytest.mark.parametrize("name", GENERATORS)
def test_a_visitors_scores_do_not_depend_on_the_others(bundle: Bundle, name: GeneratorName):
    s, generators = bundle.snapshot, fitted.with_active(bundle, name)
    visitors = fitted.visitors_of(s, 12, 6)

    def scores(start: int, stop: int) -> np.ndarray:
        return fitted.dense(generators.scores(name, s, visitors.slice(start, stop)), stop - start, len(s.items))

    whole = scores(0, 18)
    assert whole.dtype == np.float32
    assert (whole > 0).any()
    for q in range(len(visitors)):
        assert same_arrays(scores(q, q + 1)[0], whole[q])
    assert same_arrays(np.concatenate([scores(0, 9), scores(9, 18)]), whole)


@pytest.mark.parametrize("name", GENERATORS)
def test_scores_do_not_depend_on_the_batch_when_a_long_visit_repeats_items(bundle: Bundle, name: GeneratorName):
    """Sums of many equal keys: the order in which they are added must be the visitor's own."""
    s, generators = bundle.snapshot, fitted.with_active(bundle, name)
    rng = np.random.default_rng(5)
    steady, restless = np.sort(rng.integers(0, 3, 50)), rng.integers(0, len(s.items), 50)
    kind = rng.choice([KIND[n] for n in ("select_item", "view_item", "add_to_wishlist", "add_to_cart")], 100)
    most = np.argsort(-np.diff(s.history.indptr))[:2]
    visitors = Visitors.from_events(most, np.repeat([0, 1], 50), np.concatenate([steady, restless]), kind)
    whole = fitted.dense(generators.scores(name, s, visitors), 2, len(s.items))
    for q in range(2):
        alone = generators.scores(name, s, visitors.slice(q, q + 1))
        assert same_arrays(fitted.dense(alone, 1, len(s.items))[0], whole[q])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generators_own_list_is_best_first(bundle: Bundle, name: GeneratorName):
    s, generators = bundle.snapshot, fitted.with_active(bundle, name)
    visitors = fitted.visitors_of(s, 6, 4)
    dense = fitted.dense(generators.scores(name, s, visitors), 10, len(s.items))
    for k in (1, 7, len(s.items) + 5):
        best = fitted.best(generators, name, s, visitors, k)
        assert best.shape == (10, k)
        for line, items in zip(dense, best, strict=True):
            own = items[: int((items >= 0).sum())]
            assert (items[len(own) :] == -1).all()
            assert line[own].tolist() == sorted(line[line > 0], reverse=True)[:k]
            order = list(zip(-line[own], own, strict=True))
            assert order == sorted(set(order))


def dense(scores: Scores, visitors: int, s: Snapshot) -> np.ndarray:
    """float32[visitors × items]."""
    query, item = np.divmod(np.arange(visitors * len(s.items)), len(s.items))
    return scores.at(query, item).reshape(visitors, -1)


def test_als_folds_in_by_the_closed_form(bundle: Bundle):
    als, weights = bundle.generators[Als], fitted.dense_pair_weights(bundle.snapshot)
    y = als.items.astype(np.float64)
    for customer, line in enumerate(weights):
        known = ~np.isnan(line)
        c = np.where(known, 1 + als.alpha * np.log1p(np.nan_to_num(line)), 1.0)
        left = y.T @ np.diag(c) @ y + als.regularization * np.eye(y.shape[1])
        expected = np.linalg.solve(left, y.T @ np.where(known, c, 0.0))
        np.testing.assert_allclose(als.customers[customer], expected, rtol=1e-3, atol=1e-5)


def test_als_scores_customers_but_not_strangers(bundle: Bundle):
    als = bundle.generators[Als]
    scores = dense(als.scores("als", bundle.snapshot, Visitors.of_customers(np.array([3, -1]))), 2, bundle.snapshot)
    np.testing.assert_allclose(scores[0], als.items @ als.customers[3], rtol=1e-5, atol=1e-7)
    assert not scores[1].any()


def visiting(customers: list[int], events: list[tuple[int, int, EventName]]) -> Visitors:
    """Visitors with events (visitor, item, name), oldest first."""
    query, item = (np.array([e[n] for e in events], np.int64) for n in (0, 1))
    return Visitors.from_events(np.array(customers), query, item, np.array([KIND[e[2]] for e in events], np.uint8))


def test_als_folds_the_visit_in_by_the_closed_form(bundle: Bundle):
    s, als = bundle.snapshot, bundle.generators[Als]
    touched = s.history.items[s.history.indptr[3] : s.history.indptr[4]]
    known, other = int(touched[0]), int(np.setdiff1d(np.arange(len(s.items)), touched)[0])
    history = fitted.dense_pair_weights(s)[3]
    views = [(0, known, "view_item"), (0, other, "view_item"), (0, other, "add_to_cart"), (1, other, "purchase")]
    scores = dense(als.scores("als", s, visiting([3, -1, 3], views)), 3, s)
    y = als.items.astype(np.float64)

    def expected(weights: np.ndarray) -> np.ndarray:
        touched = ~np.isnan(weights)
        c = np.where(touched, 1 + als.alpha * np.log1p(np.nan_to_num(weights)), 1.0)
        left = y.T @ np.diag(c) @ y + als.regularization * np.eye(y.shape[1])
        return y @ np.linalg.solve(left, y.T @ np.where(touched, c, 0.0))

    visit = history.copy()
    visit[known] += 0.1
    visit[other] = 0.1 + 0.4
    bought = np.full(len(s.items), np.nan)
    bought[other] = 1.0
    for line, weights in zip(scores, (visit, bought, history), strict=True):
        np.testing.assert_allclose(line, expected(weights), rtol=1e-3, atol=1e-5)


def test_als_of_a_visitor_does_not_depend_on_the_others(bundle: Bundle):
    s, als = bundle.snapshot, bundle.generators[Als]
    rng = np.random.default_rng(3)
    events = [(q, int(rng.integers(len(s.items))), "view_item") for q in range(6) for _ in range(q)]
    whole = visiting([-1, 2, 3, -1, 4, 0], events)
    together = dense(als.scores("als", s, whole), len(whole), s)
    for n in range(6):
        assert same_arrays(dense(als.scores("als", s, whole.slice(n, n + 1)), 1, s)[0], together[n])


def test_als_ranks_bought_items_before_others(bundle: Bundle):
    s, als = bundle.snapshot, bundle.generators[Als]
    at = s.history.column("orders") > 0
    customers = np.repeat(np.arange(len(s.customers)), np.diff(s.history.indptr))[at]
    scores = dense(als.scores("als", s, Visitors.of_customers(np.arange(len(s.customers)))), len(s.customers), s)
    assert scores[customers, s.history.items[at]].mean() > 3 * scores.mean()


def test_als_refit_to_the_same_snapshot_is_the_same(bundle: Bundle):
    als = bundle.generators[Als]
    again = als.refit_to(bundle.snapshot, np.arange(len(bundle.snapshot.items)))
    assert all(same_arrays(array, again.arrays()[name]) for name, array in als.arrays().items())


def test_als_gives_new_items_no_vector_and_folds_customers_in_anew():
    old = snapshot([row("purchase", -d, f"c{d % 3}", f"i{d % 4}", 1.0, 1.0, f"o{d}") for d in range(1, 20)])
    new = snapshot([row("purchase", -d, f"c{d % 4}", f"i{d % 5 + 1}", 1.0, 1.0, f"o{d}") for d in range(1, 20)])
    fit = Generators.fit(old, fitted.CONFIG)
    moved = fit.refit_to(old, new)
    assert [new.items.at(np.array([n]))[0] for n in range(5)] == ["i1", "i2", "i3", "i4", "i5"]
    assert same_arrays(moved[Als].items[:3], fit[Als].items[1:4])
    assert not moved[Als].items[3:].any()
    assert moved[Als].customers.shape == (4, fit[Als].items.shape[1])
    assert moved[Als].customers.any(axis=1).all()
    for similar in (moved[ItemKnn].similar, moved[Covisit].touches, moved[Covisit].orders):
        known = fitted.matrix(similar)
        assert not known[3:].any()
        assert not known[:, 3:].any()
    assert same_arrays(fitted.matrix(moved[ItemKnn].similar)[:3, :3], fitted.matrix(fit[ItemKnn].similar)[1:, 1:])


@examples(40)
@given(st.permutations(range(-1, 6)), st.integers(0, 7), st.integers(0, 99))
def test_neighbours_move_with_their_items(places: list[int], keep: int, seed: int):
    rng = np.random.default_rng(seed)
    similar = np.where(rng.random((6, 6)) < 0.5, rng.random((6, 6), np.float32), np.float32(0))
    np.fill_diagonal(similar, 0)
    rows, columns = np.nonzero(similar)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=6))])
    items = np.array(places[:keep], np.int64)
    moved = fitted.matrix(ItemSimilarity(indptr, columns.astype(np.int32), similar[rows, columns]).reindex(items))
    expected = np.zeros((keep, keep), np.float32)
    for i, a in enumerate(items):
        for j, b in enumerate(items):
            if a >= 0 and b >= 0:
                expected[i, j] = similar[a, b]
    assert same_arrays(moved, expected)


def test_neighbours_share_visitors_and_are_never_the_item_itself(bundle: Bundle):
    s = snapshot(
        [row("purchase", -1, who, item) for who, item in (("c1", "i1"), ("c1", "i2"), ("c2", "i1"), ("c2", "i3"))]
        + [row("view_item", -1, "d1", item) for item in ("i4", "i5")]
        + [row("view_item", -1, "c3", "i6")]
    )
    similar = fitted.matrix(ItemKnn.fit(s, fitted.CONFIG.item_knn).similar)
    assert {(i + 1, j + 1) for i, j in zip(*np.nonzero(similar), strict=True)} == {
        (1, 2), (2, 1), (1, 3), (3, 1), (4, 5), (5, 4),
    }  # fmt: skip
    large = bundle.generators[ItemKnn].similar
    assert not fitted.matrix(large).diagonal().any()
    assert np.diff(large.indptr).max() <= fitted.CONFIG.item_knn.neighbours
    assert (large.data > 0).all()


def test_item_knn_scores_are_sums_over_the_visitors_items(bundle: Bundle):
    s, knn = bundle.snapshot, bundle.generators[ItemKnn]
    similar, weights_of = fitted.matrix(knn.similar).astype(np.float64), fitted.dense_pair_weights(s)
    visitors = fitted.visitors_of(s, 20, 8)
    back = np.full(weights_of.shape, np.inf)
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
        weights = {
            "item_knn": np.log1p(np.nan_to_num(weights_of[customer])) if customer >= 0 else none,
            "item_knn_last": (back[customer] < 2).astype(float) if customer >= 0 else none,
            "item_knn_visit": visit,
        }
        for name, weight in weights.items():
            scores = fitted.dense(knn.scores(name, s, visitors.slice(q, q + 1)), 1, len(s.items))
            np.testing.assert_allclose(scores[0], weight @ similar, rtol=1e-4, atol=1e-6)


def test_an_item_removed_from_the_cart_counts_as_a_view(bundle: Bundle):
    visits: tuple[tuple[tuple[EventName, int], ...], ...] = (
        (("add_to_cart", 7), ("view_item", 3), ("remove_from_cart", 7)),
        (("view_item", 7), ("view_item", 3), ("search", -1)),
        (("remove_from_cart", 7), ("view_item", 3), ("add_to_cart", 7)),
    )
    s = bundle.snapshot
    visitors = Visitors.from_events(
        np.full(3, -1),
        np.repeat(np.arange(3), 3),
        np.array([item for visit in visits for _, item in visit]),
        np.array([KIND[name] for visit in visits for name, _ in visit]),
    )
    scores = bundle.generators.scores("item_knn_visit", s, visitors)
    removed, viewed, put_back = fitted.dense(scores, 3, len(s.items))
    assert same_arrays(removed, viewed)
    assert (put_back >= viewed).all()
    assert (put_back > viewed).any()


def test_history_scores_items_of_the_history_and_recent_orders_most(bundle: Bundle):
    s = bundle.snapshot
    weights = fitted.dense_pair_weights(s)
    scores = fitted.dense(BuyAgain().scores("history", s, Visitors.of_customers(np.array([5, -1, 0]))), 3, len(s.items))
    assert ((scores[0] > 0) == ~np.isnan(weights[5])).all()
    assert not scores[1].any()
    rows = [row("purchase", -d, "c1", item, 1.0, 1.0, f"o{d}") for d, item in ((9, "i1"), (5, "i2"), (1, "i3"))]
    small = snapshot([*rows, row("view_item", -1, "c1", "i4")])
    (line,) = fitted.dense(BuyAgain().scores("history", small, Visitors.of_customers(np.array([0]))), 1, 4)
    assert np.argsort(-line).tolist() == [2, 1, 0, 3]
    assert line[3] == pytest.approx(0.1, rel=0.01)


def test_visit_scores_items_of_the_visit_by_kind_and_recency(bundle: Bundle):
    s = bundle.snapshot
    visit: tuple[tuple[EventName, int], ...] = (
        ("view_item", 4), ("add_to_cart", 2), ("view_item", 4), ("view_item", 9), ("search", 7),
    )  # fmt: skip
    kind = np.array([KIND[name] for name, _ in visit])
    visitors = Visitors.from_events(np.array([-1, 3]), np.zeros(5, np.int64), np.array([i for _, i in visit]), kind)
    scores = fitted.dense(BuyAgain().scores("visit", s, visitors), 2, len(s.items))
    expected = {4: 0.8**4 + 0.8**2, 2: 2 * 0.8**3, 9: 0.8}
    assert {int(n): pytest.approx(v) for n, v in enumerate(scores[0]) if v} == expected
    assert not scores[1].any()
