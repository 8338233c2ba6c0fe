import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.ranking.visitors import Visitors
from models.bundle import Bundle, RecommenderName
from models.two_stage import Candidates, TwoStageConfig, chunks, propose, within_query_ranks
from tests.features.shop import examples, same_arrays
from tests.models import fitted

ALL = fitted.BUDGETS["one_to_one"] | fitted.BUDGETS["predictive"]


def same(a: Candidates, b: Candidates) -> bool:
    return all(same_arrays(getattr(a, f), getattr(b, f)) for f in ("item", "ranks", "scores", "proposed"))


SCORE = st.sampled_from([-2.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1.0, 3e30])


@examples(80)
@given(st.lists(st.lists(st.tuples(SCORE, SCORE), max_size=6), max_size=5))
def test_equal_scores_share_the_better_rank(queries: list[list[tuple[float, float]]]):
    query = np.repeat(np.arange(len(queries)), [len(q) for q in queries]).astype(np.int64)
    rows = [v for q in queries for v in q]
    scores = np.array(rows, np.float32).reshape(-1, 2).T
    before = np.repeat(np.cumsum([0, *map(len, queries)])[:-1], [len(q) for q in queries])
    ranks = within_query_ranks(query, scores) - before
    for g in range(2):
        expected = [sum(np.float32(other[g]) > np.float32(v[g]) for other in q) for q in queries for v in q]
        assert ranks[g].tolist() == expected


def test_too_many_candidates_at_once_are_refused():
    with pytest.raises(ValueError, match="too many at once"):
        within_query_ranks(np.array([0, 1 << 30]), np.ones((1, 2), np.float32))


def test_candidates_are_the_best_of_each_generator(bundle: Bundle):
    s = bundle.snapshot
    visitors = fitted.visitors_of(s, 10, 5)
    c = propose(bundle.generators, s, visitors, ALL)
    assert (np.diff(c.query * len(s.items) + c.item) > 0).all()
    for bit, name in enumerate(bundle.generators.names):
        scores = bundle.generators.scores(name, s, visitors)
        expected = set(zip(*(part.tolist() for part in scores.top(ALL[name])), strict=True))
        assert expected
        proposed = c.proposed >> bit & 1 == 1
        assert set(zip(c.query[proposed].tolist(), c.item[proposed].tolist(), strict=True)) == expected
        raw = scores.at(c.query, c.item)
        for q in range(len(visitors)):
            own = raw[c.query == q]
            assert c.ranks[c.query == q, bit].tolist() == [(own > v).sum() for v in own]
            best = own.max()
            relative = own / best if best > 0 else np.zeros(len(own), np.float32)
            assert c.scores[c.query == q, bit].tolist() == relative.tolist()
    assert (c.proposed > 0).all()


def test_a_generator_without_a_budget_proposes_nothing(bundle: Bundle):
    s = bundle.snapshot
    c = propose(bundle.generators, s, fitted.visitors_of(s, 4, 0), {"history": 3})
    assert set(c.proposed.tolist()) == {1 << bundle.generators.names.index("history")}
    assert np.bincount(c.query).max() <= 3
    nobody = propose(bundle.generators, s, Visitors.of_customers(np.array([-1])), {"history": 3})
    assert (len(nobody.query), nobody.ranks.shape) == (0, (0, len(bundle.generators.names)))


def test_candidates_do_not_depend_on_the_batch(bundle: Bundle):
    s = bundle.snapshot
    visitors = fitted.visitors_of(s, 10, 6)
    whole = propose(bundle.generators, s, visitors, ALL)
    for q in range(len(visitors)):
        alone = propose(bundle.generators, s, visitors.slice(q, q + 1), ALL)
        assert same(alone, whole.only(whole.query == q))


@pytest.mark.parametrize("name", ["one_to_one", "predictive"])
def test_candidates_are_ranked_by_falling_score_then_item(bundle: Bundle, name: RecommenderName):
    s, two_stage = bundle.snapshot, bundle.recommenders[name]
    visitors = fitted.visitors_of(s, 8, 0) if name == "one_to_one" else fitted.visitors_of(s, 0, 8)
    ((start, batch, c, score),) = two_stage.rank(s, visitors)
    assert (start, len(batch)) == (0, 8)
    order = list(zip(c.query.tolist(), (-score).tolist(), c.item.tolist(), strict=True))
    assert order == sorted(order)
    assert len({s for _, s, _ in order}) > len(visitors)
    unsorted = propose(bundle.generators, s, visitors, two_stage.budgets)
    assert set(zip(unsorted.query, unsorted.item, strict=True)) == set(zip(c.query, c.item, strict=True))


def test_chunks_cover_all_visitors_once(bundle: Bundle):
    visitors = fitted.visitors_of(bundle.snapshot, 0, 1300)
    parts = list(chunks(bundle.snapshot, visitors))
    assert len(parts) > 1
    assert [start for start, _ in parts] == np.cumsum([0, *(len(v) for _, v in parts)]).tolist()[:-1]
    assert sum(len(v) for _, v in parts) == 1300
    joined = np.concatenate([v.query + start for start, v in parts])
    assert same_arrays(joined, visitors.query)
    assert same_arrays(np.concatenate([v.item for _, v in parts]), visitors.item)


def test_a_visitor_ranks_the_same_in_a_chunk_as_alone(bundle: Bundle):
    s, two_stage = bundle.snapshot, bundle.recommenders["predictive"]
    visitors = fitted.visitors_of(s, 0, 530)
    parts = list(two_stage.rank(s, visitors))
    assert [start for start, *_ in parts] == [0, 512]
    for q in (0, 1, 511, 512, 529):
        start, _, c, score = parts[q // 512]
        own = c.query == q - start
        ((_, _, alone, alone_score),) = two_stage.rank(s, visitors.slice(q, q + 1))
        assert same(alone, c.only(own))
        assert same_arrays(alone_score, score[own])


def test_unknown_generators_and_empty_budgets_are_refused():
    for budgets in ({"popular": 0}, {"magic": 5}):
        with pytest.raises(ValidationError):
            TwoStageConfig.model_validate({"budgets": budgets})


def test_importing_the_models_allocates_nothing():
    code = """
from features.common.memory import keep_freed_memory
import models.recommender, training.train
assert keep_freed_memory.cache_info().currsize == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
