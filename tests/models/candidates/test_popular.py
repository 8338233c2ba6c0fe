import numpy as np
import pytest

from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from features.ranking.visitors import KIND, Visitors
from models.bundle import Bundle
from models.candidates.popular import ARRIVAL_DAYS, Popular, popularity
from tests.features.shop import row, same_arrays, snapshot
from tests.models.fitted import dense, dense_pair_weights

NOBODY = Visitors.of_customers(np.array([-1]))


def strangers(*visits: tuple[tuple[str, int], ...]) -> Visitors:
    """Visitors without an account, each with a visit of (name, item)."""
    query = np.repeat(np.arange(len(visits)), [len(v) for v in visits])
    item = np.array([i for v in visits for _, i in v], np.int64)
    kind = np.array([KIND[name] for v in visits for name, _ in v], np.uint8)  # type: ignore[index]
    return Visitors.from_events(np.full(len(visits), -1), query, item, kind)


def test_popular_ranks_all_items_by_buyers_then_views():
    rows = [row("purchase", -1, f"c{n}", "i3") for n in range(3)] + [row("purchase", -1, f"c{n}", "i2") for n in (0, 1)]
    rows += [row("view_item", -1, f"d{n}", "i1") for n in range(9)] + [row("purchase", -60, "c1", "i5")]
    rows += [row("view_item", -40, "d1", "i4")]
    s = snapshot(rows)
    score = popularity(s)
    assert [s.items.at(np.array([n]))[0] for n in np.argsort(-score)] == ["i3", "i2", "i5", "i1", "i4"]
    assert (score > 0).all()
    scores = dense(Popular.fit(s).scores("popular", s, Visitors.of_customers(np.array([0, -1]))), 2, 5)
    assert scores.tolist() == [score.tolist()] * 2


def test_a_segments_best_sellers_are_those_of_its_customers(bundle: Bundle):
    s, popular = bundle.snapshot, bundle.generators[Popular]
    weights = np.nan_to_num(dense_pair_weights(s))
    everyone = Visitors.of_customers(np.arange(len(s.customers)))
    scores = dense(popular.scores("popular_segment", s, everyone), len(everyone), len(s.items))
    for code in range(len(SEGMENT_NAMES)):
        members = s.segments == code
        expected = np.repeat(weights[members].sum(axis=0)[None], members.sum(), axis=0)
        np.testing.assert_allclose(scores[members], expected, rtol=1e-5, atol=1e-6)
    assert len({line.tobytes() for line in scores}) == len(set(s.segments.tolist())) > 3
    assert not dense(popular.scores("popular_segment", s, NOBODY), 1, len(s.items)).any()


@pytest.fixture(scope="module")
def garden() -> Snapshot:
    """i0 and i1 are of Kitchen/Tea, i2 of Kitchen, i3 of none, i4 to i6 of Garden; i5 sells better than i4 and i6."""
    rows = [row("purchase", -2, f"c{n}", "i5", 1.0, 2.0, f"o{n}") for n in range(4)]
    rows += [row("purchase", -2, f"c{n}", "i4", 1.0, 2.0, f"p{n}") for n in range(2)]
    rows += [row("purchase", -2, "c9", "i0", 1.0, 2.0, "q"), row("purchase", -2, "c9", "i3", 1.0, 2.0, "q")]
    return snapshot([*rows, *(row("view_item", -1, "d1", f"i{n}") for n in (1, 2, 6))])


def test_a_visit_scores_the_best_sellers_of_its_categories(garden: Snapshot):
    popular = Popular.fit(garden)
    visits = strangers((("view_item", 6),), (("view_item", 2),), (("view_item", 3),), (("search", 4),), ())
    scores = dense(popular.scores("popular_category", garden, visits), 5, 7)
    sells = popularity(garden)
    np.testing.assert_allclose(
        scores[0], 3 * np.array([0, 0, 0, 0, sells[4], sells[5], sells[6]]) / sells[5], rtol=1e-5
    )
    assert np.flatnonzero(scores[1]).tolist() == [2]
    assert scores[1, 2] == pytest.approx(3)
    assert not scores[2:].any()


def test_categories_are_weighted_by_the_visits_events(garden: Snapshot):
    visits = strangers((("add_to_cart", 0), ("view_item", 4)), (("view_item", 4), ("view_item", 3)))
    scores = dense(Popular.fit(garden).scores("popular_category", garden, visits), 2, 7)
    assert scores[0, 0] / scores[0, 5] == pytest.approx(2 * 0.8, rel=1e-5)  # weight of a cart, one event back
    assert scores[0, 0] + scores[0, 5] == pytest.approx(3, rel=1e-5)
    assert scores[1, 5] == pytest.approx(3, rel=1e-5)


def test_the_visit_counts_more_than_the_history(garden: Snapshot):
    popular = Popular.fit(garden)
    (c0,) = garden.customers.find(["c0"])
    kind = np.array([KIND["view_item"]])
    visitors = Visitors.from_events(np.array([c0, c0]), np.array([1]), np.array([0]), kind)
    before, during = dense(popular.scores("popular_category", garden, visitors), 2, 7)
    assert np.flatnonzero(before).tolist() == [4, 5, 6]
    assert before[5] == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(during[4:], before[4:], rtol=1e-5)
    assert during[0] == pytest.approx(3, rel=1e-5)


def test_a_shop_without_categories():
    s = snapshot([row("view_item", -1, who, "i3") for who in ("c1", "d1")])
    popular = Popular.fit(s)
    assert popular.categories.shape == (0, 1)
    visitors = Visitors.from_events(np.array([0]), np.array([0]), np.array([0]), np.array([KIND["view_item"]]))
    assert not dense(popular.scores("popular_category", s, visitors), 1, 1).any()
    again = Popular.from_arrays(popular.arrays())
    assert not dense(again.scores("popular_category", s, visitors), 1, 1).any()


@pytest.mark.parametrize(("days", "new"), [(1, True), (ARRIVAL_DAYS, True), (ARRIVAL_DAYS + 0.01, False), (200, False)])
def test_an_arrival_is_young(days: float, new: bool):
    s = snapshot(
        [row("view_item", -days, "d1", "i0"), row("purchase", -1, "c1", "i0"), row("view_item", -3, "d1", "i1")]
    )
    scores = dense(Popular.fit(s).scores("arrivals", s, NOBODY), 1, 2)[0]
    assert scores[1] > 0
    assert (scores[0] > 0) == new


def test_arrivals_are_by_buyers_for_their_time_on_sale():
    rows = [row("view_item", -20, "d1", "i0"), row("view_item", -2, "d1", "i1"), row("view_item", -2, "d1", "i2")]
    rows += [row("purchase", -1, f"c{n}", item) for n in range(3) for item in ("i0", "i1")]
    s = snapshot(rows)
    scores = dense(Popular.fit(s).scores("arrivals", s, NOBODY), 1, 3)[0]
    assert np.argsort(-scores).tolist() == [1, 0, 2]
    assert scores[2] > 0


def test_popular_is_restored_from_its_arrays(bundle: Bundle):
    popular, s = bundle.generators[Popular], bundle.snapshot
    again = Popular.from_arrays(popular.arrays())
    visitors = Visitors.of_customers(np.array([0, 3, -1]))
    for a, b in (
        (popular.scores("popular_category", s, visitors), again.scores("popular_category", s, visitors)),
        (popular.scores("popular_segment", s, visitors), again.scores("popular_segment", s, visitors)),
    ):
        assert same_arrays(dense(a, 3, len(s.items)), dense(b, 3, len(s.items)))
