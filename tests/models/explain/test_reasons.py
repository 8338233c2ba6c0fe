import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.schema import EventName
from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from features.ranking.visitors import KIND, Visitors
from models.bundle import Bundle
from models.candidates.registry import GENERATORS, NAMED_SCORES, GeneratorName
from models.candidates.user_knn import UserKnn
from models.candidates.user_profile import profile_items
from models.explain.codes import REASON_CODES, STRENGTH_RANGES, Reason
from models.explain.evidence import CandidateIndex
from models.explain.explain import explain
from models.explain.reasons import build_reasons, explain_ranking
from models.explain.texts import ENGLISH, TEMPLATES, Language
from models.interface import RankingRequest, RankingRules
from models.recommender import BundleRecommender
from models.two_stage import Candidates, propose
from tests.features.shop import AS_OF, build, examples, row
from tests.models import fitted

EVERYBODY: dict[GeneratorName, int] = dict.fromkeys(GENERATORS, 12)
EVENTS = ("view_item", "add_to_cart", "remove_from_cart", "purchase", "search", "add_to_wishlist")
VISITS = st.lists(
    st.tuples(
        st.integers(-1, 200),
        st.lists(st.tuples(st.integers(-1, 59), st.sampled_from(EVENTS)), max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def batch(snapshot: Snapshot, visits: list[tuple[int, list[tuple[int, str]]]]) -> Visitors:
    customers = np.array([min(c, len(snapshot.customers) - 1) for c, _ in visits])
    query = np.array([q for q, (_, events) in enumerate(visits) for _ in events], np.int64)
    item = np.array([min(i, len(snapshot.items) - 1) for _, events in visits for i, _ in events], np.int64)
    kind = np.array([KIND[name] for _, events in visits for _, name in events], np.uint8)  # type: ignore[index]
    return Visitors.from_events(customers, query, item, kind)


def propose_with_reasons(bundle: Bundle, visitors: Visitors, most: int = 99) -> tuple[Candidates, list[list[Reason]]]:
    candidates = propose(bundle.generators, bundle.snapshot, visitors, EVERYBODY)
    return candidates, build_reasons(bundle.generators, bundle.snapshot, visitors, candidates, most)


@pytest.fixture(scope="module")
def everyone(bundle: Bundle) -> tuple[Visitors, Candidates, list[list[Reason]]]:
    visitors = fitted.visitors_of(bundle.snapshot, 120, 40)
    return visitors, *propose_with_reasons(bundle, visitors)


@examples(25)
@given(VISITS, st.integers(1, 4))
def test_every_candidate_has_reasons_strongest_first(
    bundle: Bundle, visits: list[tuple[int, list[tuple[int, str]]]], most: int
):
    candidates, reasons = propose_with_reasons(bundle, batch(bundle.snapshot, visits), most)
    assert len(reasons) == len(candidates.item)
    for line in reasons:
        assert 1 <= len(line) <= most
        assert [r.strength for r in line] == sorted((r.strength for r in line), reverse=True)
        assert all(0 <= r.strength <= STRENGTH_RANGES[r.code][1] for r in line)
        assert len({r.code for r in line}) == len(line)


@examples(25)
@given(VISITS)
def test_reasons_of_a_visitor_do_not_depend_on_the_batch(
    bundle: Bundle, visits: list[tuple[int, list[tuple[int, str]]]]
):
    visitors = batch(bundle.snapshot, visits)
    candidates, reasons = propose_with_reasons(bundle, visitors)
    for q in range(len(visitors)):
        _, alone = propose_with_reasons(bundle, visitors.slice(q, q + 1))
        assert alone == [line for line, of in zip(reasons, candidates.query, strict=True) if of == q]


@examples(15)
@given(VISITS, st.integers(1, 4))
def test_fewer_reasons_are_the_strongest_of_all(bundle: Bundle, visits: list, most: int):
    visitors = batch(bundle.snapshot, visits)
    _, every = propose_with_reasons(bundle, visitors)
    assert propose_with_reasons(bundle, visitors, most)[1] == [line[:most] for line in every]


@examples(25)
@given(VISITS, st.randoms(use_true_random=False))
def test_reasons_of_an_item_do_not_depend_on_other_items(bundle: Bundle, visits: list, random):
    visitors = batch(bundle.snapshot, visits)
    candidates, reasons = propose_with_reasons(bundle, visitors)
    rows = np.array(random.sample(range(len(candidates.item)), min(7, len(candidates.item))), np.int64)
    some = build_reasons(bundle.generators, bundle.snapshot, visitors, candidates.only(rows), 99)
    assert some == [reasons[r] for r in rows]


@examples(25)
@given(VISITS)
def test_a_cited_item_is_another_item_of_the_visitor(bundle: Bundle, visits: list):
    s, visitors = bundle.snapshot, batch(bundle.snapshot, visits)
    candidates, reasons = propose_with_reasons(bundle, visitors)
    for q, item, line in zip(candidates.query, candidates.item, reasons, strict=True):
        own = set(visitors.item[visitors.query == q].tolist())
        if (customer := visitors.customers[q]) >= 0:
            own |= set(s.history.items[s.history.indptr[customer] : s.history.indptr[customer + 1]].tolist())
        cited = {r.item_id for r in line if r.item_id is not None}
        assert cited <= set(s.items.at(np.array(sorted(own - {-1, item}), np.int64)))


def test_the_simulated_shop_gives_reasons_of_most_kinds(everyone: tuple[Visitors, Candidates, list[list[Reason]]]):
    # What a shop of seventy days may have or not: items just arrived, and some that nobody bought.
    rare = {"sold_before", "in_range", "new_arrival", "new_in_your_category", "wished_in_visit", "due_again_by_item"}
    assert set(REASON_CODES) - {r.code for line in everyone[2] for r in line} <= rare


@pytest.mark.parametrize(
    ("code", "events", "expected"),
    [
        ("bought_often", [("purchase", -40), ("purchase", -12)], {"orders": 2, "days_ago": 12}),
        ("due_again", [("purchase", -24), ("purchase", -12)], {"gap_days": 12, "days_ago": 12}),
        ("due_again", [("purchase", -50), ("purchase", -12)], None),
        ("due_again", [("purchase", -42), ("purchase", -28), ("purchase", -29.5)], None),
        ("due_again", [("purchase", -40), ("purchase", -28), ("purchase", -16)], {"gap_days": 12, "days_ago": 16}),
        ("bought_often", [("purchase", -12)], None),
        ("bought_before", [("purchase", -12)], {"orders": 1, "days_ago": 12}),
        ("viewed_before", [("view_item", -8), ("view_item", -3)], {"days_ago": 3}),
        ("viewed_before", [("view_item", -13), ("purchase", -12)], None),
        ("viewed_before", [("purchase", -12), ("view_item", -2)], {"days_ago": 2}),
        ("carted_before", [("add_to_cart", -5)], {}),
        ("carted_before", [("add_to_cart", -5), ("purchase", -4)], None),
    ],
)
def test_own_history_in_numbers(code: str, events: list[tuple[str, float]], expected: dict[str, float] | None):
    others = [row("purchase", -d, f"c{d}", "i1", 1.0, 2.0, f"x{d}") for d in range(2, 9)]
    own = [
        row(name, d, "c1", "i3", *([1.0, 1.0, f"o{n}"] if name == "purchase" else []))
        for n, (name, d) in enumerate(events)
    ]
    shop = fitted.bundle(Snapshot.from_tables(build([*others, *own], AS_OF)))
    customer = shop.snapshot.customers.find(["c1"])
    candidates, reasons = propose_with_reasons(shop, Visitors.of_customers(customer))
    (line,) = (reasons[n] for n in np.flatnonzero(candidates.item == shop.snapshot.items.find(["i3"])[0]))
    values = [r.values for r in line if r.code == code]
    assert values == ([] if expected is None else [pytest.approx(expected)])


def test_the_items_gap_replaces_a_missing_own_gap():
    """Five customers buy it every 20 days; the sixth bought it once, 18 days ago."""
    rows = [row("purchase", -d - n, f"c{n}", "i2", 1.0, 1.0, f"o{n}{d}") for n in range(5) for d in (5, 25, 45)]
    shop = fitted.bundle(Snapshot.from_tables(build([*rows, row("purchase", -18, "c9", "i2", 1.0, 1.0, "o9")], AS_OF)))
    _, reasons = propose_with_reasons(shop, Visitors.of_customers(shop.snapshot.customers.find(["c9"])))
    due = [r for line in reasons for r in line if r.code.startswith("due")]
    assert [(r.code, r.values) for r in due] == [
        ("due_again_by_item", pytest.approx({"days_ago": 18, "gap_days": 20})),
    ]
    assert ENGLISH.render(due[0]) == "Due again: those who rebuy it do so after 20 days; last bought 18 days ago"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([("view_item", 1), ("view_item", 1), ("view_item", 2)], {"viewed_in_visit": (2, 1)}),
        ([("add_to_cart", 1)], {"carted_in_visit": (1, 0)}),
        ([("add_to_cart", 1), ("remove_from_cart", 1)], {"viewed_in_visit": (1, 1)}),
        ([("purchase", 1), ("view_item", 1)], {"bought_in_visit": (1, 1), "viewed_in_visit": (1, 0)}),
        ([("add_to_wishlist", 1)], {"wished_in_visit": (1, 0)}),
        ([("search", 1), ("view_item", 2)], {}),
    ],
)
def test_visit_reasons_count_events_of_the_product(bundle: Bundle, events: list[tuple[str, int]], expected: dict):
    visitors = batch(bundle.snapshot, [(-1, [(item, name) for name, item in events])])
    every = {name: len(bundle.snapshot.items) for name in GENERATORS}
    candidates = propose(bundle.generators, bundle.snapshot, visitors, every)
    (line,) = build_reasons(
        bundle.generators, bundle.snapshot, visitors, candidates.only(np.flatnonzero(candidates.item == 1)), 99
    )
    visit_reasons = {r.code: (r.values["events"], r.values["events_ago"]) for r in line if r.code.endswith("in_visit")}
    assert visit_reasons == expected


def test_neighbours_are_counted(bundle: Bundle, everyone: tuple[Visitors, Candidates, list[list[Reason]]]):
    s, alike = bundle.snapshot, bundle.generators[UserKnn]
    visitors, candidates, reasons = everyone
    checked = 0
    for q, item, line in zip(candidates.query, candidates.item, reasons, strict=True):
        for reason in line:
            if reason.code == "people_like_you":
                customer = visitors.customers[q]
                neighbours = alike.indices[alike.indptr[customer] : alike.indptr[customer + 1]].astype(np.int64)
                at = Visitors.of_customers(neighbours).find(
                    s.history, np.arange(len(neighbours)), np.full(len(neighbours), item)
                )
                bought = (at >= 0) & (s.history.column("orders")[at] > 0)
                assert reason.values == {"neighbours_bought": bought.sum(), "neighbours": len(neighbours)}
                assert bought.sum() > 1
                checked += 1
    assert checked > 100


def test_the_source_item_contributes_most(bundle: Bundle):
    """Against the dense matrix of similarities; and all contributions add up to the generator's score."""
    s, g = bundle.snapshot, bundle.generators
    visitors = batch(s, [(c, [(n % 60, "view_item") for n in (c, c + 1, c)]) for c in range(40)])
    query, item = (a.ravel() for a in np.indices((len(visitors), len(s.items))))
    targets, rows = CandidateIndex(query, item, len(visitors), len(s.items)), np.arange(len(query))
    names = [name for name in g.names if NAMED_SCORES[name].reason]
    assert len(names) >= 7
    for name in names:
        similar, (q, i, weight) = g.evidence(name, s, visitors)
        behind = targets.find_sources(rows, similar, (q, i, weight))
        expected = g.scores(name, s, visitors).at(query, item)
        np.testing.assert_allclose(behind.total, expected, rtol=1e-4, err_msg=name)
        dense = np.zeros((len(s.items),) * 2)
        dense[np.repeat(np.arange(len(dense)), np.diff(similar.indptr)), similar.indices] = similar.data
        weights = np.zeros((len(visitors), len(s.items)))
        np.add.at(weights, (q, i), weight)
        for n in np.flatnonzero(behind.item >= 0)[::7]:
            worth = weights[query[n]] * dense[:, item[n]]
            assert worth[behind.item[n]] == pytest.approx(worth.max(), rel=1e-5)
            assert behind.share[n] == pytest.approx(worth.max() / worth.sum(), rel=1e-5)
            assert behind.items[n] == (worth > 0).sum()
        assert ((behind.item >= 0) == (expected > 0)).all()


def test_category_items_share_the_category_and_the_visit_goes_first(bundle: Bundle):
    s, visitors = bundle.snapshot, fitted.visitors_of(bundle.snapshot, 30, 0)
    visits = [(c, [((c * 7) % 60, "view_item")]) for c in range(30)]
    visitors = batch(s, visits)
    query, item = (a.ravel() for a in np.indices((len(visitors), len(s.items))))
    visit, history = profile_items(s, visitors, "visit"), profile_items(s, visitors, "history")
    kin = CandidateIndex(query, item, len(visitors), len(s.items)).find_category_items(
        np.arange(len(query)), s.categories, [visit, history]
    )
    for n, (q, i) in enumerate(zip(query, item, strict=True)):
        viewed = visits[q][1][0][0]
        own = {int(x): float(w) for x, w in zip(history[1][history[0] == q], history[2][history[0] == q], strict=True)}
        same = {x: w for x, w in own.items() if x != i and s.categories[x] == s.categories[i]}
        if viewed != i and s.categories[viewed] == s.categories[i]:
            assert kin[n] == viewed
        elif same:
            assert same[kin[n]] == max(same.values())
        else:
            assert kin[n] == -1


def test_the_segment_in_a_reason_is_the_customers(
    bundle: Bundle, everyone: tuple[Visitors, Candidates, list[list[Reason]]]
):
    visitors, candidates, reasons = everyone
    named = {
        (int(q), r.values["segment"])
        for q, line in zip(candidates.query, reasons, strict=True)
        for r in line
        if r.code == "popular_with_segment"
    }
    assert len(named) > 10
    assert all(name == SEGMENT_NAMES[bundle.snapshot.segments[visitors.customers[q]]] for q, name in named)


def test_few_buyers_are_not_called_popular(bundle: Bundle, everyone: tuple):
    _, candidates, reasons = everyone
    lately = bundle.snapshot.item("buyers_28d")
    for item, line in zip(candidates.item, reasons, strict=True):
        for r in line:
            if r.code in ("popular", "popular_in_category"):
                assert r.values["buyers_28d"] == lately[item] >= 3


def test_every_code_has_a_text_and_a_strength():
    assert set(TEMPLATES) == set(STRENGTH_RANGES) == set(REASON_CODES)
    assert all(0 <= low <= high <= 1 for low, high in STRENGTH_RANGES.values())


def test_every_reason_has_a_text(everyone: tuple[Visitors, Candidates, list[list[Reason]]]):
    for reason in {(r.code, r.item_id): r for line in everyone[2] for r in line}.values():
        text = ENGLISH.render(reason, {str(reason.item_id): "Green tea"})
        assert text
        assert not {"{", "}", "nan", "None"} & set(text.replace("{", " { ").replace("}", " } ").split())
        assert ("Green tea" in text) == (reason.item_id is not None)


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0.2, "within the last day"),
        (1.2, "1 day ago"),
        (12.4, "12 days ago"),
        (30, "4 weeks ago"),
        (152, "5 months ago"),
    ],
)
def test_times_are_formatted(days: float, text: str):
    assert ENGLISH.render(Reason("bought_before", 1, None, {"orders": 1, "days_ago": days})) == f"Bought once, {text}"


def test_a_shop_translates_texts():
    german = Language({**TEMPLATES, "bought_often": "{orders}-mal gekauft"}, {})
    assert german.render(Reason("bought_often", 1, None, {"orders": 3, "days_ago": 2.0})) == "3-mal gekauft"


def test_a_ranking_has_reasons_where_its_request_wants_them(bundle: Bundle):
    s = bundle.snapshot
    customer, item = (
        s.customers.at(np.flatnonzero(s.has_history(np.arange(len(s.customers))))[:1])[0],
        s.items.at(np.array([4]))[0],
    )
    recommender = BundleRecommender(bundle)
    visit: tuple[tuple[str, EventName], ...] = ((item, "view_item"),)
    plain, personal, stranger = recommender.recommend(
        [
            RankingRequest(6, customer),
            RankingRequest(len(s.items), customer, rules=RankingRules(max_reasons=2)),
            RankingRequest(6, None, visit, rules=RankingRules(max_reasons=3)),
        ]
    )
    assert explain_ranking(plain) is None
    for ranking, request, most in (
        (personal, RankingRequest(9, customer), 2),
        (stranger, RankingRequest(6, None, visit), 3),
    ):
        lists = explain_ranking(ranking)
        assert lists is not None
        assert len(lists) == len(ranking.item_ids)
        explanations = explain(recommender, request, most=most).items
        assert [e.reasons for e in explanations] == lists[: len(explanations)]
    lists = explain_ranking(personal)
    assert lists is not None
    assert all(lists[: personal.n_ranked])
    assert not any(lists[personal.n_ranked :])
    assert (
        explain_ranking(
            recommender.recommend_without_ranker(
                RankingRequest(6, customer, rules=RankingRules(max_reasons=2)), "deadline"
            )
        )
        is None
    )
