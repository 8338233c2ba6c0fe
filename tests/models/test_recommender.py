import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.schema import EventName
from features.ranking.snapshot import SEGMENT_NAMES
from features.ranking.visitors import MOST_RECENT
from features.tables.rfm import PROSPECT
from models.bundle import Bundle, RecommenderName
from models.candidates.popular import popularity
from models.interface import Ranking, RankingRequest
from models.recommender import BundleRecommender
from models.two_stage import TwoStage
from tests.features.shop import examples, row, snapshot
from tests.models import fitted

Recent = tuple[tuple[str, EventName], ...]


@pytest.fixture(scope="module")
def recommender(bundle: Bundle) -> BundleRecommender:
    return BundleRecommender(bundle)


@pytest.fixture(scope="module")
def catalog(bundle: Bundle) -> list[str]:
    ids: list[str] = bundle.snapshot.items.values.to_pylist()
    return ids


# Positions that the tests turn into this shop's ids; some are nobody's.
WHO = st.one_of(st.none(), st.integers(0, 130))
RECENT = st.lists(
    st.tuples(st.integers(0, 70), st.sampled_from(["view_item", "add_to_cart", "remove_from_cart", "search", "login"])),
    max_size=4,
)
DRAWN = st.lists(
    st.tuples(st.integers(1, 70), WHO, RECENT, st.sets(st.integers(0, 70), max_size=6)), min_size=1, max_size=8
)


def requests_of(bundle: Bundle, drawn: list[tuple]) -> list[RankingRequest]:
    def name(ids: list[str], n: int) -> str:
        return ids[n] if n < len(ids) else f"unknown {n}"

    customers, items = (ids.values.to_pylist() for ids in (bundle.snapshot.customers, bundle.snapshot.items))
    return [
        RankingRequest(
            limit,
            None if who is None else name(customers, who),
            tuple((name(items, n), event) for n, event in recent),
            frozenset(name(items, n) for n in exclude),
        )
        for limit, who, recent, exclude in drawn
    ]


@examples(40)
@given(drawn=DRAWN, seed=st.integers(0, 99))
def test_every_ranking_fits_its_own_request(recommender, catalog, drawn: list[tuple], seed: int):
    requests = requests_of(recommender.bundle, drawn)
    rankings = recommender.recommend(requests)
    assert len(rankings) == len(requests)
    for request, ranking in zip(requests, rankings, strict=True):
        assert len(ranking.item_ids) == len(ranking.scores) == len(ranking.generators)
        assert len(set(ranking.item_ids)) == len(ranking.item_ids)
        assert set(ranking.item_ids) <= set(catalog) - request.exclude
        assert len(ranking.item_ids) == min(request.limit, len(set(catalog) - request.exclude))
        assert ranking.scores == sorted(ranking.scores, reverse=True)
        assert all(ranking.generators)
        assert recommender.recommend([request]) == [ranking]
    order = np.random.default_rng(seed).permutation(len(requests))
    assert recommender.recommend([requests[n] for n in order]) == [rankings[n] for n in order]


def test_no_requests_no_rankings(recommender: BundleRecommender):
    assert recommender.recommend([]) == []


def test_a_mix_larger_than_a_chunk(recommender: BundleRecommender, catalog: list[str]):
    customers = recommender.bundle.snapshot.customers.values.to_pylist()
    requests = [
        RankingRequest(3 + n % 4, customers[n % len(customers)] if n % 3 else None, ((catalog[n % 50], "view_item"),))
        for n in range(1700)
    ]
    rankings = recommender.recommend(requests)
    for n in (0, 1, 511, 767, 1024, 1535, 1536, 1537, 1699):
        assert [rankings[n]] == recommender.recommend([requests[n]])


def test_limits_and_exclusions(recommender: BundleRecommender, catalog: list[str]):
    customer = recommender.bundle.snapshot.customers.values.to_pylist()[0]
    (whole,) = recommender.recommend([RankingRequest(1000, customer)])
    assert sorted(whole.item_ids) == sorted(catalog)
    (few,) = recommender.recommend([RankingRequest(4, customer)])
    assert (few.item_ids, few.scores) == (whole.item_ids[:4], whole.scores[:4])
    out = frozenset(whole.item_ids[:3])
    (rest,) = recommender.recommend([RankingRequest(4, customer, exclude=out)])
    assert rest.item_ids == whole.item_ids[3:7]
    (none,) = recommender.recommend([RankingRequest(4, customer, exclude=frozenset(catalog))])
    assert none.item_ids == []


def test_short_rankings_are_filled_up_with_best_sellers(recommender: BundleRecommender, catalog: list[str]):
    (ranking,) = recommender.recommend([RankingRequest(len(catalog), None)])
    by_sales = [catalog[n] for n in np.argsort(-popularity(recommender.bundle.snapshot), kind="stable")]
    ranked = fitted.BUDGETS["predictive"]["popular"]
    assert set(ranking.item_ids[:ranked]) == set(by_sales[:ranked])
    assert ranking.item_ids[ranked:] == by_sales[ranked:]
    assert ranking.generators[ranked:] == [("popular",)] * (len(catalog) - ranked)
    assert all(a > b for a, b in zip(ranking.scores[ranked - 1 :], ranking.scores[ranked:], strict=False))


@pytest.mark.parametrize("who", [None, "", "somebody new"])
def test_unknown_visitors_get_a_fallback(recommender: BundleRecommender, who: str | None):
    (ranking,) = recommender.recommend([RankingRequest(5, who)])
    assert (ranking.strategy, ranking.fallback, ranking.segment) == ("predictive", "unknown_visitor", PROSPECT)
    assert len(ranking.item_ids) == 5


def test_a_visit_ranks_for_an_unknown_visitor(recommender: BundleRecommender, catalog: list[str]):
    plain = recommender.recommend([RankingRequest(10)])[0]
    answers = [recommender.recommend([RankingRequest(10, recent=((i, "view_item"),))])[0] for i in catalog[:12]]
    assert all(a.fallback is None and a.strategy == "predictive" for a in answers)
    assert any(a.item_ids != plain.item_ids for a in answers)
    assert len({tuple(a.item_ids) for a in answers}) > 1
    assert any("item_knn_visit" in g for a in answers for g in a.generators)


def test_events_that_say_nothing_about_a_visit_are_ignored(recommender: BundleRecommender, catalog: list[str]):
    view: Recent = ((catalog[3], "view_item"),)
    cart: Recent = ((catalog[8], "add_to_cart"),)
    others: Recent = ((catalog[1], "view_item_list"), (catalog[2], "refund"), ("", "login"))
    visits = [view + cart, view + others + cart, others, ()]
    plain, with_others, only_others, nothing = recommender.recommend([RankingRequest(9, recent=v) for v in visits])
    assert plain == with_others != nothing
    assert only_others == nothing


def test_a_visit_without_catalog_items_is_unknown(recommender: BundleRecommender, catalog: list[str]):
    unknown: Recent = (("never heard of", "view_item"), ("neither", "add_to_cart"))
    renamed: Recent = (("nor of this", "view_item"), ("or this", "add_to_cart"))
    search: Recent = ((catalog[1], "search"), ("", "search"))
    rankings = recommender.recommend([RankingRequest(9, recent=v) for v in (unknown, renamed, search, search[::-1])])
    assert [r.fallback for r in rankings] == ["unknown_visitor"] * 4
    assert rankings[0] == rankings[1]
    assert rankings[2] == rankings[3]
    (known,) = recommender.recommend([RankingRequest(9, recent=(*unknown, (catalog[3], "view_item"), *search))])
    assert known.fallback is None


def test_only_the_latest_events_of_a_visit_count(recommender: BundleRecommender, catalog: list[str]):
    older: Recent = ((catalog[40], "purchase"),)
    search: Recent = ((catalog[0], "search"),)
    visits = [search * MOST_RECENT, older + search * MOST_RECENT, older + search * (MOST_RECENT - 1), older]
    nothing, forgotten, remembered, alone = recommender.recommend([RankingRequest(9, recent=v) for v in visits])
    assert forgotten == nothing
    assert (nothing.fallback, remembered.fallback, alone.fallback) == ("unknown_visitor", None, None)


def test_a_ranking_has_the_customers_segment(recommender: BundleRecommender):
    s = recommender.bundle.snapshot
    customers = s.customers.values.to_pylist()
    rankings = recommender.recommend([RankingRequest(2, c) for c in customers])
    assert [r.segment for r in rankings] == [SEGMENT_NAMES[n] for n in s.segments]
    assert len({r.segment for r in rankings}) > 3


def test_customers_with_history_are_ranked_one_to_one(recommender: BundleRecommender, catalog: list[str]):
    s = recommender.bundle.snapshot
    customers = s.customers.values.to_pylist()
    known = s.has_history(np.arange(len(customers)))
    rankings = recommender.recommend([RankingRequest(8, c) for c in customers])
    assert [r.strategy == "one_to_one" for r in rankings] == known.tolist()
    assert len({tuple(r.item_ids) for r in rankings}) > len(customers) // 4
    assert all(r.fallback is None for r, k in zip(rankings, known, strict=True) if k)


@pytest.fixture
def partly(bundle: Bundle) -> BundleRecommender:
    """A bundle with one recommender only."""
    one_to_one: dict[RecommenderName, TwoStage] = {"one_to_one": bundle.recommenders["one_to_one"]}
    return BundleRecommender(dataclasses.replace(bundle, recommenders=one_to_one))


def test_without_a_ranker_best_sellers_are_ranked(partly: BundleRecommender, catalog: list[str]):
    customer = partly.bundle.snapshot.customers.values.to_pylist()[0]
    stranger, known = partly.recommend([RankingRequest(6), RankingRequest(6, customer)])
    assert (stranger.strategy, stranger.fallback) == ("popular", "no_ranker")
    assert stranger.item_ids == [catalog[n] for n in np.argsort(-popularity(partly.bundle.snapshot), kind="stable")[:6]]
    assert (known.strategy, known.fallback) == ("one_to_one", None)


def test_the_fallback_keeps_exclusions_and_segment(recommender: BundleRecommender):
    s = recommender.bundle.snapshot
    customer = next(n for n in range(len(s.customers)) if s.segments[n])
    name = s.customers.at(np.array([customer]))[0]
    best = recommender.recommend_without_ranker(RankingRequest(5), "ranker_error")
    request = RankingRequest(5, name, exclude=frozenset(best.item_ids[:2]))
    again = recommender.recommend_without_ranker(request, "ranker_error")
    assert again.item_ids[:3] == best.item_ids[2:]
    assert (again.strategy, again.fallback, again.segment) == ("popular", "ranker_error", s.segment(customer))


def test_a_shop_without_customers_is_ranked():
    s = snapshot([row("view_item", -1, "d1", f"i{n}", price=1.0) for n in range(4)])
    whole = fitted.bundle(s)

    def items(ranking: Ranking) -> list[str]:
        return sorted(ranking.item_ids)

    requests = [RankingRequest(9), RankingRequest(9, "c1"), RankingRequest(9, None, (("i1", "view_item"),))]
    assert [items(r) for r in BundleRecommender(whole).recommend(requests)] == [["i0", "i1", "i2", "i3"]] * 3
