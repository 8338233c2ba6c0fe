"""Candidate budgets: a generator's list ends where it adds no more relevant candidates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.ingestion.ingest import ParsedBatch
from models.candidates.registry import GENERATORS
from models.two_stage import TwoStageConfig, propose
from tests.conftest import SHOP_ENDS
from tests.features.shop import examples as so_many
from tests.training.recipes import small
from training.dataset import candidate_budgets
from training.dataset.candidate_budgets import CandidateDepths, choose_budgets, cut_depth, fit_budgets
from training.dataset.folds import build_fold

QUERIES, LONG = 400, 30
BUDGETS = {"history": LONG, "als": LONG, "item_knn": LONG}
CONFIG = TwoStageConfig(budgets=BUDGETS, cut=0.01)  # type: ignore[arg-type]


def depths_of(*lists: tuple[tuple[str, ...], float], queries: int = QUERIES, seed: int = 3) -> CandidateDepths:
    """For each query `LONG` candidates of every list, which some generators contribute together, and the probability
    that the first is relevant; it halves every three places."""
    rng = np.random.default_rng(seed)
    depths, relevant = [], []
    for generators, probability in lists:
        at = np.tile(np.arange(LONG), queries)
        place = np.full((len(at), len(GENERATORS)), -1, np.int16)
        for name in generators:
            place[:, GENERATORS.index(name)] = at  # type: ignore[arg-type]
        depths.append(place)
        relevant.append(rng.random(len(at)) < probability * 0.5 ** (at / 3))
    return CandidateDepths(np.concatenate(depths), np.concatenate(relevant), queries, GENERATORS)


def test_the_cut_of_a_list_by_hand():
    """1,000 candidates at each depth; relevant 30, 12, 8, then none: at 1% the third costs more than it adds."""
    candidates, relevant = np.full(10, 1000), np.array([30, 12, 8, *[0] * 7])
    assert cut_depth(candidates, relevant, 0.01) == 2
    assert cut_depth(candidates, relevant, 0.005) == 3
    assert cut_depth(candidates, relevant, 0.02) == 1


def test_a_depth_without_relevant_candidates_does_not_end_a_list_with_some_below():
    assert cut_depth(np.full(4, 1000), np.array([30, 0, 25, 0]), 0.01) == 3


def test_nothing_is_cut_that_chance_may_explain():
    """None of 250 relevant: at 1%, chance may leave out two or three."""
    assert cut_depth(np.full(10, 25), np.zeros(10, int), 0.01) == 10
    assert cut_depth(np.full(10, 100), np.zeros(10, int), 0.01) == 1
    assert cut_depth(np.zeros(10, int), np.zeros(10, int), 0.01) == 10


counts = st.lists(st.integers(0, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1)


@so_many(200)
@given(counts, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_higher_rate_never_cuts_deeper(rows: list[tuple[int, int]], one: float, other: float):
    candidates, relevant = (np.array(column) for column in zip(*rows, strict=True))
    low, high = (cut_depth(candidates, relevant, rate) for rate in sorted((one, other)))
    assert 1 <= high <= low <= len(rows)


def test_irrelevant_lists_are_cut_to_the_minimum_and_relevant_ones_are_not():
    fitted = choose_budgets(depths_of((("history",), 0.5), (("als",), 0.0), (("item_knn",), 0.08)), CONFIG)
    assert fitted.budgets["als"] == 1
    assert fitted.budgets["history"] > fitted.budgets["item_knn"] > 3
    steady = depths_of((("history",), 0.5), (("als",), 0.5))
    steady.relevant[:] = np.random.default_rng(1).random(len(steady.relevant)) < 0.05
    assert choose_budgets(steady, CONFIG).budgets == BUDGETS


def test_candidates_of_two_generators_are_cut_from_both_only_where_irrelevant():
    """ALS and item KNN have the same list: neither alone adds anything, both together do, at first."""
    both = depths_of((("history",), 0.5), (("als", "item_knn"), 0.4))
    fitted = choose_budgets(both, CONFIG)
    assert fitted.budgets["als"] == fitted.budgets["item_knn"]
    assert 8 < fitted.budgets["als"] < 22
    lost = both.relevant & ~both.contributors(fitted.budgets).any(axis=1)
    assert lost.sum() < 0.05 * both.relevant.sum()
    before, after = fitted.candidates_per_query
    assert before == 2 * LONG > after + 20


def test_a_generator_that_another_replaces_is_cut():
    """Item KNN has the relevant half of ALS's list, too; the other half is irrelevant: ALS gets the minimum."""
    depths = depths_of((("item_knn", "als"), 0.5), (("als",), 0.0), (("item_knn",), 0.5))
    fitted = choose_budgets(depths, CONFIG)
    assert fitted.budgets["als"] == 1
    assert fitted.budgets["item_knn"] > 8


def test_best_sellers_have_a_minimum_for_visitors_without_history():
    config = CONFIG.model_copy(update={"budgets": {"history": LONG, "popular": LONG}})
    fitted = choose_budgets(depths_of((("history",), 0.5), (("popular",), 0.0)), config)
    assert fitted.budgets["popular"] == 20
    few = config.model_copy(update={"budgets": {"history": LONG, "popular": 12}})
    assert choose_budgets(depths_of((("history",), 0.5), (("popular",), 0.0)), few).budgets["popular"] == 12


def test_with_few_queries_nothing_is_cut():
    assert choose_budgets(depths_of((("history",), 0.5), (("als",), 0.0), queries=8), CONFIG).budgets == BUDGETS


def test_the_table_counts_by_depth():
    depths = depths_of((("history",), 0.5), (("als", "item_knn"), 0.4))
    table = choose_budgets(depths, CONFIG).table
    history = table.filter(table["generator"] == "history")
    assert history["depth"].to_list() == [0, 5, 10, 20]
    assert history["candidates"].to_list() == [QUERIES * n for n in (5, 5, 10, 10)] == history["exclusive"].to_list()
    assert history["relevant"].sum() == depths.relevant[: QUERIES * LONG].sum()
    assert table.filter(table["generator"] != "history")["exclusive"].sum() == 0
    relevant = history["relevant"].to_list()
    assert relevant[0] > relevant[1] > relevant[2] > relevant[3]


def test_a_fold_has_the_candidates_that_its_depths_predict(simulated: ParsedBatch):
    """Within the fitted budgets, the candidates of the same fold are those that `contributors` predicts."""
    recipe = small()
    fold = build_fold(simulated.events.lazy(), simulated.catalog, SHOP_ENDS - 10 * 86_400_000_000, recipe)
    visitors = fold.queries["one_to_one"].visitors
    fitted = fit_budgets([fold], "one_to_one", recipe)
    assert fitted.budgets != recipe.one_to_one.budgets
    depths = CandidateDepths.from_folds([fold], "one_to_one", recipe.one_to_one.budgets)
    predicted = depths.contributors(fitted.budgets)
    actual = propose(fold.generators, fold.snapshot, visitors, fitted.budgets)
    for bit, name in enumerate(fold.generators.names):
        count = int((actual.proposed >> bit & 1).sum())
        assert count <= predicted[:, bit].sum() <= 1.1 * count + 5, name  # equal scores share the better place
    assert fitted.candidates_per_query[1] == pytest.approx(len(actual.query) / len(visitors), rel=0.05)


def test_only_a_recipe_that_cuts_needs_folds_before_the_hold_out():
    recipe = small()
    assert candidate_budgets.last_fold_needed([False, False, True, True, True], recipe) == 3
    assert candidate_budgets.last_fold_needed([False, False, True], recipe) == 2
    none = recipe.model_copy(update={"one_to_one": recipe.one_to_one.model_copy(update={"cut": 0.0})})
    assert candidate_budgets.last_fold_needed([False, False, True, True, True], none) == 0
    assert fit_budgets([], "one_to_one", recipe).budgets == recipe.one_to_one.budgets
