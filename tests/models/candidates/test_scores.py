import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from models.candidates.scores import DenseScores, GroupScores, Scores, SharedScores, SparseScores, product
from tests.features.shop import examples, same_arrays
from tests.models.fitted import dense

# Few different values, so that scores tie, and some that are no reason to propose an item.
VALUES = st.tuples(st.integers(1, 4), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-3, 6).map(float))
)
FORMS = ["dense", "shared", "grouped", "sparse"]


def scores_of(form: str, values: np.ndarray, groups: list[int]) -> tuple[Scores, np.ndarray]:
    """Scores in a form made of `values`, and the same as float32[visitors × items]."""
    if form == "dense":
        return DenseScores(values), values
    if form == "shared":
        order = np.argsort(-values[0], kind="stable")
        return SharedScores(values[0], len(groups), order), np.repeat(values[:1], len(groups), axis=0)
    if form == "grouped":
        group = np.array([g if g < len(values) else -1 for g in groups], np.int64)
        return GroupScores(values, group), np.where(group[:, None] >= 0, values[group], np.float32(0))
    return sparse_scores(values), values


def sparse_scores(values: np.ndarray) -> SparseScores:
    keys = np.flatnonzero(values)
    return SparseScores(keys, values.ravel()[keys], *values.shape)


@pytest.mark.parametrize("form", FORMS)
@examples(50)
@given(values=VALUES, groups=st.lists(st.integers(-1, 4), max_size=6), budget=st.integers(1, 12))
def test_top_returns_the_best_within_the_budget(form: str, values: np.ndarray, groups: list[int], budget: int):
    scores, reference = scores_of(form, values, groups)
    query, item = scores.top(budget)
    assert query.dtype == item.dtype == np.int64
    assert set(query.tolist()) <= set(range(len(reference)))
    for q, line in enumerate(reference):
        chosen = item[query == q]
        assert len(set(chosen)) == len(chosen) == min(budget, (line > 0).sum())
        assert (line[chosen] > 0).all()
        left = np.delete(line, chosen)
        if len(chosen) and len(left):
            assert left.max() <= line[chosen].min()


@examples(50)
@given(values=VALUES, budget=st.integers(1, 12))
def test_ties_go_to_the_first_items_in_every_form(values: np.ndarray, budget: int):
    """The form depends on the batch, the candidates must not."""
    for scores in (DenseScores(values), sparse_scores(values), GroupScores(values, np.arange(len(values)))):
        query, item = scores.top(budget)
        for q, line in enumerate(values):
            best = sorted((n for n, v in enumerate(line) if v > 0), key=lambda n: (-line[n], n))[:budget]
            assert sorted(item[query == q].tolist()) == sorted(best)


@pytest.mark.parametrize("form", FORMS)
@examples(25)
@given(line=st.permutations(range(-3, 6)), budget=st.integers(1, 12))
def test_top_agrees_with_a_sort_without_ties(form: str, line: list[int], budget: int):
    scores, _ = scores_of(form, np.array([line], np.float32), [0])
    query, item = scores.top(budget)
    best = sorted((n for n, v in enumerate(line) if v > 0), key=lambda n: -line[n])[:budget]
    assert sorted(item.tolist()) == sorted(best)
    assert query.tolist() == [0] * len(best)


@pytest.mark.parametrize("form", FORMS)
@examples(50)
@given(values=VALUES, groups=st.lists(st.integers(-1, 4), max_size=6), seed=st.integers(0, 99))
def test_at_is_the_score_of_each_pair(form: str, values: np.ndarray, groups: list[int], seed: int):
    scores, reference = scores_of(form, values, groups)
    rng = np.random.default_rng(seed)
    pairs = 20 if len(reference) else 0  # in any order, some twice
    query, item = rng.integers(0, max(1, len(reference)), pairs), rng.integers(0, reference.shape[1], pairs)
    assert same_arrays(scores.at(query, item), reference[query, item])
    assert same_arrays(dense(scores, *reference.shape), np.ascontiguousarray(reference))


@pytest.mark.parametrize("form", FORMS)
def test_no_visitors_have_no_scores(form: str):
    values = np.ones((0 if form in ("dense", "sparse") else 1, 3), np.float32)
    scores, _ = scores_of(form, values, [])
    none = np.zeros(0, np.int64)
    assert [len(part) for part in scores.top(2)] == [0, 0]
    assert same_arrays(scores.at(none, none), np.zeros(0, np.float32))


def test_sparse_scores_without_entries():
    scores = sparse_scores(np.zeros((3, 4), np.float32))
    assert [len(part) for part in scores.top(2)] == [0, 0]
    assert same_arrays(scores.at(np.array([0, 2]), np.array([3, 0])), np.zeros(2, np.float32))


@examples(40)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.floats(0.125, 9, width=32)), max_size=9), min_size=1, max_size=4)
)
def test_repeated_entries_add_up(rows: list[list[tuple[int, float]]]):
    query = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    column = np.array([c for r in rows for c, _ in r], np.int64)
    weight = np.array([w for r in rows for _, w in r], np.float32)
    whole = SparseScores.from_entries(query, column, weight, len(rows), 4)
    expected = np.zeros((len(rows), 4))
    np.add.at(expected, (query, column), weight.astype(np.float64))
    assert same_arrays(dense(whole, len(rows), 4), expected.astype(np.float32))
    assert (np.diff(whole.keys) > 0).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [4, 4000])
def test_a_rows_sums_depend_on_no_other_rows(seed: int, size: int):
    """Nor on the algorithm of the sum, which differs where only few of many items have an entry."""
    rng = np.random.default_rng(seed)
    query, weight, column = np.repeat([0, 1], 40), rng.random(80, np.float32), rng.integers(0, 4, 80)
    both = SparseScores.from_entries(query, column, weight, 2, 4)
    alone = SparseScores.from_entries(query[:40], column[:40], weight[:40], 1, size)
    assert same_arrays(both.values[both.keys < 4], alone.values)
    assert same_arrays(both.keys[both.keys < 4], alone.keys)


@examples(40)
@given(
    seed=st.integers(0, 999),
    visitors=st.integers(0, 4),
    rows=st.integers(1, 6),
    size=st.sampled_from([1, 3, 5, 400]),  # of 400 items so few have an entry that another algorithm sums them
    block=st.sampled_from([1, 5, 1 << 15]),
)
def test_a_product_is_that_of_the_matrices(seed: int, visitors: int, rows: int, size: int, block: int):
    rng = np.random.default_rng(seed)
    matrix = sparse.random(rows, size, 0.5, "csr", np.float32, rng)
    left = sparse.random(visitors, rows, 0.6, "coo", np.float32, rng) if visitors else sparse.coo_matrix((0, rows))
    order = np.argsort(left.row, kind="stable")
    of = left.row[order].astype(np.int64), left.col[order].astype(np.int64), left.data[order].astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.candidates.scores._BLOCK", block)
        scores = product(*of, (matrix.indptr, matrix.indices, matrix.data), visitors, size)
    np.testing.assert_allclose(dense(scores, visitors, size), (left @ matrix).toarray(), rtol=1e-6)
