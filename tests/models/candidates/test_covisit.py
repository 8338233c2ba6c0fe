"""Co-visitation; rows of the matrices are the first item of a pair, columns the second."""

import numpy as np
import pytest

from features.common.clock import DAY
from features.ranking.visitors import KIND, Visitors
from features.tables.interactions import WINDOW_DAYS
from models.candidates.covisit import REACH, Covisit, CovisitConfig
from tests.features.shop import Row, row, snapshot
from tests.models.fitted import dense, matrix

CONFIG = CovisitConfig()
TICK = 1 / DAY  # a microsecond
MINUTE = 1 / 1440
# Every item has an event, so that item n is at position n, and no two of them have a visitor in common.
START = [row("view_item", -70, f"d10{n}", f"i{n}") for n in range(5)]


def fit(rows: list[Row], config: CovisitConfig = CONFIG) -> tuple[np.ndarray, np.ndarray]:
    """(touches, orders) float32[items × items]."""
    covisit = Covisit.fit(snapshot([*START, *rows]), config)
    return matrix(covisit.touches), matrix(covisit.orders)


def pairs(of: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(*(part.tolist() for part in np.nonzero(of)), strict=True))


def visit(who: str, *items: str, days: float = -1, name: str = "view_item") -> list[Row]:
    """A touch a minute."""
    return [row(name, days + n * MINUTE, who, item) for n, item in enumerate(items)]


def undone(value: float) -> float:
    """The weight of an only pair: value = weight / √(weight + 1)."""
    return (value**2 + np.sqrt(value**4 + 4 * value**2)) / 2


def test_a_pair_counts_in_its_order_only():
    touches, orders = fit(visit("d1", "i0", "i1", "i2"))
    assert pairs(touches) == {(0, 1), (0, 2), (1, 2)}
    assert not orders.any()
    assert touches[0, 1] > touches[0, 2] > 0


def test_the_weight_of_a_pair_by_hand():
    touches, _ = fit([*visit("d1", "i0", "i1", days=-28), row("view_item", -5, "d2", "i3")])
    fresh = 0.5 ** ((28 - MINUTE) / 28)
    assert undone(touches[0, 1]) == pytest.approx(fresh * 0.5 ** (1 / 3), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "worth"),
    [("select_item", 0.5), ("view_item", 1), ("add_to_wishlist", 1.5), ("add_to_cart", 3), ("purchase", 6)],
)
def test_a_pair_counts_by_the_event_with_its_second_item(name: str, worth: float):
    touches, _ = fit([row("view_item", -2, "c1", "i0"), row(name, -1.5, "c1", "i1")])
    viewed, _ = fit([row("view_item", -2, "c1", "i0"), row("view_item", -1.5, "c1", "i1")])
    first, _ = fit([row(name, -2, "c1", "i0"), row("view_item", -1.5, "c1", "i1")])
    assert undone(touches[0, 1]) == pytest.approx(worth * undone(viewed[0, 1]), rel=1e-4)
    assert first[0, 1] == viewed[0, 1]


@pytest.mark.parametrize(("apart", "counts"), [(1.0, True), (1.0 + TICK, False), (TICK, True), (0.0, False)])
def test_a_pair_is_at_most_a_day_apart_and_has_an_order(apart: float, counts: bool):
    touches, _ = fit([row("view_item", -5, "d1", "i0"), row("view_item", -5 + apart, "d1", "i1")])
    assert pairs(touches) == ({(0, 1)} if counts else set())


def test_a_pair_is_of_one_visitor():
    apart = [*visit("d1", "i0"), *visit("d2", "i1", days=-0.9), *visit("c1", "i2", days=-0.8)]
    assert not fit(apart)[0].any()
    account = [row("view_item", -1, "c1+d1", "i0"), row("view_item", -0.9, "c1+d2", "i1")]
    assert pairs(fit(account)[0]) == {(0, 1)}


def test_an_item_is_no_pair_with_itself():
    touches, orders = fit([row("purchase", -d, "c1", "i0", 1.0, 2.0, f"o{d}") for d in (1, 1.5, 2, 4)])
    assert not touches.any()
    assert not orders.any()


def test_a_pair_counts_half_after_every_half_life():
    once, _ = fit(
        [*visit("d1", "i0", "i1", days=-3), *visit("d2", "i2", "i3", days=-13)], CovisitConfig(half_life_days=10)
    )
    assert undone(once[2, 3]) == pytest.approx(undone(once[0, 1]) / 2, rel=1e-4)


def test_more_pairs_count_more_but_less_than_in_proportion():
    touches, _ = fit(
        [r for n in range(4) for r in visit(f"d{n}", "i0", "i1")] + visit("d8", "i0", "i2") + visit("d9", "i3", "i2")
    )
    assert touches[0, 1] == pytest.approx(4 * touches[0, 2], rel=1e-4)
    assert touches[0, 2] < touches[3, 2]


def test_pairs_are_at_most_reach_touches_apart():
    path = ["i0", *["i1"] * (REACH - 1), "i2", "i3"]
    touches, _ = fit(visit("d1", *path))
    assert {(0, 2), (1, 3)} <= pairs(touches)
    assert touches[0, 3] == 0


def test_events_outside_the_window_or_after_the_snapshot_are_ignored():
    for days in (-WINDOW_DAYS - 1, 0, 1):
        assert not fit(visit("d1", "i0", "i1", days=days))[0].any()
    touches, orders = fit(visit("d1", "i0", "i1"))
    later = [*visit("d1", "i2", "i3", days=0), *visit("d2", "i0", "i4", days=3), row("purchase", 0, "c1", "i0")]
    again = fit([*visit("d1", "i0", "i1"), *later])
    assert (again[0] == touches).all()
    assert (again[1] == orders).all()


def order(days: float, who: str, *items: str) -> list[Row]:
    return [row("purchase", -days, who, item, 1.0, 2.0, f"{who} {days}") for item in items]


def test_orders_are_paired_with_the_next_one():
    _, orders = fit([*order(20, "c1", "i0", "i1"), *order(9, "c1", "i2"), *order(3, "c1", "i3"), *order(2, "c2", "i4")])
    assert pairs(orders) == {(0, 2), (1, 2), (2, 3)}
    assert orders[0, 2] == orders[1, 2]


def test_the_weight_of_a_next_order_by_hand():
    _, orders = fit([*order(28, "c1", "i0", "i1"), *order(9, "c1", "i2")])
    assert undone(orders[0, 2]) == pytest.approx(0.5 / np.sqrt(2), rel=1e-4)


def test_the_strongest_are_kept():
    visits = [r for n in range(6) for r in visit(f"d{n}", "i0", f"i{(1, 1, 1, 2, 2, 3)[n]}")]
    assert pairs(fit(visits, CovisitConfig(neighbours=2))[0]) == {(0, 1), (0, 2)}


def test_scores_follow_the_visits_items_and_the_last_orders():
    s = snapshot(
        [*START, *visit("d1", "i0", "i1"), *visit("d2", "i2", "i3"), *order(20, "c1", "i0"), *order(9, "c1", "i4")]
    )
    covisit = Covisit.fit(s, CONFIG)
    kind = np.full(2, KIND["view_item"])
    visitors = Visitors.from_events(np.array([-1, -1, 0]), np.array([0, 1]), np.array([0, 2]), kind)
    scores = dense(covisit.scores("covisit_visit", s, visitors), 3, len(s.items))
    assert pairs(scores) == {(0, 1), (1, 3)}
    assert scores[0, 1] == pytest.approx(matrix(covisit.touches)[0, 1])
    ordered = dense(covisit.scores("covisit_last", s, visitors), 3, len(s.items))
    assert pairs(ordered) == {(2, 4)}
