import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking.feature_matrix import STATED, assemble
from models.two_stage import propose
from tests.conftest import SHOP_ENDS
from tests.features.shop import examples as so_many
from tests.features.shop import same_arrays
from tests.training.recipes import small
from training.dataset import examples as module
from training.dataset.examples import _sample, build_examples
from training.dataset.folds import Fold, build_fold

TEN_DAYS = 10 * 86_400_000_000
GENEROUS = {"negatives_per_query": 1000}


@pytest.fixture(scope="module")
def fold(simulated: ParsedBatch) -> Fold:
    return build_fold(simulated.events.lazy(), simulated.catalog, SHOP_ENDS - TEN_DAYS, small())


@so_many(60)
@given(
    st.lists(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3]), max_size=12), min_size=1, max_size=5),
    st.integers(1, 8),
)
def test_every_positive_is_kept_and_negatives_are_capped(queries: list[list[int]], per_query: int):
    recipe = small(negatives_per_query=per_query)
    query = np.repeat(np.arange(len(queries)), [len(q) for q in queries])
    labels = np.array([grade for q in queries for grade in q], np.int64)
    rows = _sample(query, labels, len(queries), recipe, np.random.default_rng(3))
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(np.flatnonzero(labels > 0)) <= set(rows)
    for q, grades in enumerate(queries):
        own = labels[rows[query[rows] == q]]
        positives, negatives = sum(g > 0 for g in grades), sum(g == 0 for g in grades)
        assert (own == 0).sum() == (min(negatives, per_query) if positives else 0)
    again = _sample(query, labels, len(queries), recipe, np.random.default_rng(3))
    assert again.tolist() == rows.tolist()


def test_negatives_are_drawn_from_all_of_a_query():
    recipe = small(negatives_per_query=3)
    labels = np.array([1] + [0] * 30)
    drawn = [_sample(np.zeros(31, int), labels, 1, recipe, np.random.default_rng(s))[1:] for s in range(60)]
    assert {int(n) for d in drawn for n in d} == set(range(1, 31))


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_examples_are_the_candidates_of_the_queries_with_a_positive(fold: Fold, name: str):
    recipe = small(**GENEROUS)
    config, queries = getattr(recipe, name), fold.queries[name]
    examples = build_examples(fold, queries, config, recipe)
    s = fold.snapshot
    candidates = propose(fold.generators, s, queries.visitors, config.budgets)
    labels = queries.labels(candidates.query, candidates.item, len(s.items))
    with_positive = np.isin(candidates.query, np.unique(candidates.query[labels > 0]))
    c, stated = candidates, STATED in fold.generators.names
    matrix = assemble(s, queries.visitors, c.query, c.item, c.ranks, c.scores, stated)
    assert same_arrays(examples.matrix, matrix[with_positive])
    assert examples.labels.tolist() == labels[with_positive].tolist()
    assert examples.groups.tolist() == np.unique(candidates.query[with_positive], return_counts=True)[1].tolist()
    assert len(examples.groups) < len(queries) or name == "predictive"
    assert len(examples.groups) > 10


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_sampling_leaves_rows_out_and_changes_none(fold: Fold, name: str):
    tight, whole = small(negatives_per_query=5), small(**GENEROUS)
    config, queries = getattr(tight, name), fold.queries[name]
    few, all_ = build_examples(fold, queries, config, tight), build_examples(fold, queries, config, whole)
    assert len(few.labels) < len(all_.labels)
    assert few.labels[few.labels > 0].tolist() == all_.labels[all_.labels > 0].tolist()
    assert {r.tobytes() for r in few.matrix} <= {r.tobytes() for r in all_.matrix}
    again = build_examples(fold, queries, config, tight)
    assert same_arrays(again.matrix, few.matrix)
    assert same_arrays(again.labels, few.labels)


def test_examples_do_not_depend_on_how_visitors_are_chunked(fold: Fold, monkeypatch: pytest.MonkeyPatch):
    recipe = small(**GENEROUS)
    queries = fold.queries["predictive"]
    whole = build_examples(fold, queries, recipe.predictive, recipe)
    pairs = [(n, queries.visitors.slice(n, n + 3)) for n in range(0, len(queries), 3)]
    monkeypatch.setattr(module, "chunks", lambda snapshot, visitors: iter(pairs))
    parts = build_examples(fold, queries, recipe.predictive, recipe)
    assert same_arrays(parts.matrix, whole.matrix)
    assert (parts.labels.tolist(), parts.groups.tolist()) == (whole.labels.tolist(), whole.groups.tolist())


def test_a_fold_without_queries_has_no_examples(fold: Fold):
    recipe = small()
    none = build_examples(fold, fold.queries["predictive"].sample(0), recipe.predictive, recipe)
    assert (len(none.matrix), len(none.labels), len(none.groups)) == (0, 0, 0)
