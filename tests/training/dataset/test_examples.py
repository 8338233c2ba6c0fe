import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.ingest import Parsed
from features.ranking.feature_matrix import assemble
from models.two_stage import propose
from tests.conftest import SHOP_ENDS
from tests.features.shop import examples as so_many
from tests.features.shop import same_arrays
from tests.training.recipes import small
from training.dataset import examples as module
from training.dataset.examples import Boundary, Examples, _sample, boundary, examples

TEN_DAYS = 10 * 86_400_000_000
GENEROUS = {"negatives_per_query": 1000}


@pytest.fixture(scope="module")
def point(simulated: Parsed) -> Boundary:
    return boundary(simulated.events.lazy(), simulated.catalog, SHOP_ENDS - TEN_DAYS, small())


@so_many(60)
@given(
    st.lists(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3]), max_size=12), min_size=1, max_size=5),
    st.integers(1, 8),
)
def test_every_positive_is_kept_and_negatives_are_capped(queries: list[list[int]], per_query: int):
    recipe = small(negatives_per_query=per_query)
    query = np.repeat(np.arange(len(queries)), [len(q) for q in queries])
    labels = np.array([grade for q in queries for grade in q], np.int64)
    kept = _sample(query, labels, len(queries), recipe, np.random.default_rng(3))
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert set(np.flatnonzero(labels > 0)) <= set(kept)
    for q, grades in enumerate(queries):
        own = labels[kept[query[kept] == q]]
        positives, negatives = sum(g > 0 for g in grades), sum(g == 0 for g in grades)
        assert (own == 0).sum() == (min(negatives, per_query) if positives else 0)
    again = _sample(query, labels, len(queries), recipe, np.random.default_rng(3))
    assert again.tolist() == kept.tolist()


def test_negatives_are_drawn_from_all_of_a_query():
    recipe = small(negatives_per_query=3)
    labels = np.array([1] + [0] * 30)
    drawn = [_sample(np.zeros(31, int), labels, 1, recipe, np.random.default_rng(s))[1:] for s in range(60)]
    assert {int(n) for d in drawn for n in d} == set(range(1, 31))


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_examples_are_the_candidates_of_the_queries_with_a_positive(point: Boundary, name: str):
    recipe = small(**GENEROUS)
    config, asked = getattr(recipe, name), point.asked[name]
    made = examples(point, asked, config, recipe)
    s = point.snapshot
    found = propose(point.generators, s, asked.visitors, config.budgets)
    labels = asked.labels(found.query, found.item, len(s.items))
    with_positive = np.isin(found.query, np.unique(found.query[labels > 0]))
    matrix = assemble(s, asked.visitors, found.query, found.item, found.ranks, found.scores)
    assert same_arrays(made.matrix, matrix[with_positive])
    assert made.labels.tolist() == labels[with_positive].tolist()
    assert made.groups.tolist() == np.unique(found.query[with_positive], return_counts=True)[1].tolist()
    assert len(made.groups) < len(asked) or name == "predictive"
    assert len(made.groups) > 10


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_sampling_leaves_rows_out_and_changes_none(point: Boundary, name: str):
    tight, whole = small(negatives_per_query=5), small(**GENEROUS)
    config, asked = getattr(tight, name), point.asked[name]
    few, all_ = examples(point, asked, config, tight), examples(point, asked, config, whole)
    assert len(few.labels) < len(all_.labels)
    assert few.labels[few.labels > 0].tolist() == all_.labels[all_.labels > 0].tolist()
    assert {r.tobytes() for r in few.matrix} <= {r.tobytes() for r in all_.matrix}
    again = examples(point, asked, config, tight)
    assert same_arrays(again.matrix, few.matrix)
    assert same_arrays(again.labels, few.labels)


def test_examples_do_not_depend_on_how_visitors_are_chunked(point: Boundary, monkeypatch: pytest.MonkeyPatch):
    recipe = small(**GENEROUS)
    asked = point.asked["predictive"]
    whole = examples(point, asked, recipe.predictive, recipe)
    pairs = [(n, asked.visitors.slice(n, n + 3)) for n in range(0, len(asked), 3)]
    monkeypatch.setattr(module, "chunks", lambda snapshot, visitors: iter(pairs))
    parts = examples(point, asked, recipe.predictive, recipe)
    assert same_arrays(parts.matrix, whole.matrix)
    assert (parts.labels.tolist(), parts.groups.tolist()) == (whole.labels.tolist(), whole.groups.tolist())


def test_nothing_put_together_is_empty():
    none = Examples.concat([])
    assert (len(none.matrix), len(none.labels), len(none.groups)) == (0, 0, 0)
