"""Budgets end where a generator's list brings nothing more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.ingest import Parsed
from models.candidates.generators import GENERATORS
from models.two_stage import TwoStageConfig, propose
from tests.conftest import SHOP_ENDS
from tests.features.shop import examples as so_many
from tests.training.recipes import small
from training.dataset import candidate_budgets
from training.dataset.candidate_budgets import Proposals, cut, decided, depth
from training.dataset.examples import boundary

QUERIES, LONG = 400, 30
BUDGETS = {"history": LONG, "als": LONG, "item_knn": LONG}
CONFIG = TwoStageConfig(budgets=BUDGETS, cut=0.01)  # type: ignore[arg-type]


def proposals(*lists: tuple[tuple[str, ...], float], queries: int = QUERIES, seed: int = 3) -> Proposals:
    """For each query, of every list `LONG` candidates by some generators together, and the chance that one of the
    first is wanted; it halves every three places."""
    rng = np.random.default_rng(seed)
    places, wanted = [], []
    for who, chance in lists:
        at = np.tile(np.arange(LONG), queries)
        place = np.full((len(at), len(GENERATORS)), -1, np.int16)
        for name in who:
            place[:, GENERATORS.index(name)] = at  # type: ignore[arg-type]
        places.append(place)
        wanted.append(rng.random(len(at)) < chance * 0.5 ** (at / 3))
    return Proposals(np.concatenate(places), np.concatenate(wanted), queries)


def test_by_hand():
    """1,000 proposed at each place; wanted 30, 12, 8, then nothing: at 1% the third costs more than it brings."""
    proposed, wanted = np.full(10, 1000), np.array([30, 12, 8, *[0] * 7])
    assert depth(proposed, wanted, 0.01) == 2
    assert depth(proposed, wanted, 0.005) == 3
    assert depth(proposed, wanted, 0.02) == 1


def test_a_place_that_brings_nothing_ends_no_list_that_goes_on_to_bring():
    assert depth(np.full(4, 1000), np.array([30, 0, 25, 0]), 0.01) == 3


def test_what_may_be_chance_is_not_cut():
    """Nothing of 250 wanted: of a hundred three may be."""
    assert depth(np.full(10, 25), np.zeros(10, int), 0.01) == 10
    assert depth(np.full(10, 100), np.zeros(10, int), 0.01) == 1
    assert depth(np.zeros(10, int), np.zeros(10, int), 0.01) == 10


counts = st.lists(st.integers(0, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1)


@so_many(200)
@given(counts, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_higher_rate_never_keeps_more(rows: list[tuple[int, int]], one: float, other: float):
    proposed, wanted = (np.array(column) for column in zip(*rows, strict=True))
    low, high = (depth(proposed, wanted, rate) for rate in sorted((one, other)))
    assert 1 <= high <= low <= len(rows)


def test_rubbish_is_cut_to_the_least_and_what_finds_goes_on():
    found = decided(proposals((("history",), 0.5), (("als",), 0.0), (("item_knn",), 0.08)), CONFIG)
    assert found.budgets["als"] == 1
    assert found.budgets["history"] > found.budgets["item_knn"] > 3
    steady = proposals((("history",), 0.5), (("als",), 0.5))
    steady.wanted[:] = np.random.default_rng(1).random(len(steady.wanted)) < 0.05
    assert decided(steady, CONFIG).budgets == BUDGETS


def test_what_two_propose_is_lost_with_both_only_where_it_is_in_vain():
    """ALS and item KNN say the same: neither alone brings anything, both together do, at first."""
    both = proposals((("history",), 0.5), (("als", "item_knn"), 0.4))
    found = decided(both, CONFIG)
    assert found.budgets["als"] == found.budgets["item_knn"]
    assert 8 < found.budgets["als"] < 22
    lost = both.wanted & ~both.within(found.budgets).any(axis=1)
    assert lost.sum() < 0.05 * both.wanted.sum()
    before, after = found.candidates
    assert before == 2 * LONG > after + 20


def test_what_one_can_do_without_the_other_does():
    """Half of what ALS says item KNN says, too, and finds with it; the other half is in vain: ALS is not asked."""
    made = proposals((("item_knn", "als"), 0.5), (("als",), 0.0), (("item_knn",), 0.5))
    found = decided(made, CONFIG)
    assert found.budgets["als"] == 1
    assert found.budgets["item_knn"] > 8


def test_best_sellers_are_kept_for_who_has_said_nothing():
    config = CONFIG.model_copy(update={"budgets": {"history": LONG, "popular": LONG}})
    found = decided(proposals((("history",), 0.5), (("popular",), 0.0)), config)
    assert found.budgets["popular"] == 20
    few = config.model_copy(update={"budgets": {"history": LONG, "popular": 12}})
    assert decided(proposals((("history",), 0.5), (("popular",), 0.0)), few).budgets["popular"] == 12


def test_with_few_queries_nothing_is_cut():
    assert decided(proposals((("history",), 0.5), (("als",), 0.0), queries=8), CONFIG).budgets == BUDGETS


def test_the_table_counts_by_depth():
    made = proposals((("history",), 0.5), (("als", "item_knn"), 0.4))
    table = decided(made, CONFIG).table
    history = table.filter(table["generator"] == "history")
    assert history["depth"].to_list() == [0, 5, 10, 20]
    assert history["proposed"].to_list() == [QUERIES * n for n in (5, 5, 10, 10)] == history["alone"].to_list()
    assert history["wanted"].sum() == made.wanted[: QUERIES * LONG].sum()
    assert table.filter(table["generator"] != "history")["alone"].sum() == 0
    wanted = history["wanted"].to_list()
    assert wanted[0] > wanted[1] > wanted[2] > wanted[3]


def test_boundaries_are_told_what_they_proposed(simulated: Parsed):
    """Cut to what was decided, candidates of the same boundary are those that `within` foretells."""
    recipe = small()
    point = boundary(simulated.events.lazy(), simulated.catalog, SHOP_ENDS - 10 * 86_400_000_000, recipe)
    asked = point.asked["one_to_one"].visitors
    found = cut([point], "one_to_one", recipe)
    assert found.budgets != recipe.one_to_one.budgets
    told = Proposals.of([point], "one_to_one", recipe.one_to_one.budgets).within(found.budgets)
    real = propose(point.generators, point.snapshot, asked, found.budgets)
    for bit, name in enumerate(GENERATORS):
        mine = int((real.proposed >> bit & 1).sum())
        assert mine <= told[:, bit].sum() <= 1.1 * mine + 5, name  # equal scores share the better place
    assert found.candidates[1] == pytest.approx(len(real.query) / len(asked), rel=0.05)


def test_only_a_recipe_that_cuts_waits_for_boundaries_before_the_hold_out():
    recipe = small()
    assert candidate_budgets.last_needed([False, False, True, True, True], recipe) == 3
    assert candidate_budgets.last_needed([False, False, True], recipe) == 2
    none = recipe.model_copy(update={"one_to_one": recipe.one_to_one.model_copy(update={"cut": 0.0})})
    assert candidate_budgets.last_needed([False, False, True, True, True], none) == 0
    assert cut([], "one_to_one", recipe).budgets == recipe.one_to_one.budgets
