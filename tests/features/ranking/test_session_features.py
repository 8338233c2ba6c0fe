import math
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log.schema import EventName
from features.ranking.id_index import IdIndex
from features.ranking.session_features import COLUMNS, compute_session_features
from features.ranking.snapshot import CATALOG_COLUMNS, CUSTOMER_COLUMNS, ITEM, Snapshot, catalog_table
from features.ranking.visitors import KIND, MOST_RECENT, VISIT_EVENTS, Visitors
from features.tables.columns import names
from features.tables.history import COLUMNS as HISTORY_COLUMNS
from features.tables.history import Histories
from features.tables.lifetime import COLUMNS as LIFETIME_COLUMNS
from features.tables.rfm import CutPoints
from tests.features.shop import examples, same_arrays

ITEMS = 6
PLACE = {name: n for n, name in enumerate(names(COLUMNS))}
NAN = math.nan


class Event(NamedTuple):
    """`pause` seconds passed from it to the next event or, after the last, to the request."""

    kind: EventName
    item: int
    pause: float = NAN
    price: float = NAN


def shop(categories: list[int], departments: list[int], brands: list[int], prices: list[float]) -> Snapshot:
    features = np.full((ITEMS, len(ITEM)), np.nan, np.float32)
    features[:, ITEM["price"]] = prices
    none = np.zeros(0, np.int64)
    return Snapshot(
        as_of=0,
        customers=IdIndex.from_ids([]),
        segments=np.zeros(0, np.uint8),
        customer_features=np.zeros((0, len(CUSTOMER_COLUMNS)), np.float32),
        lifetime=np.zeros((0, len(LIFETIME_COLUMNS)), np.float32),
        items=IdIndex.from_ids([f"i{n}" for n in range(ITEMS)]),
        categories=np.array(categories, np.int32),
        category_names=pa.array([f"shelf {n}" for n in range(max(categories, default=-1) + 1)], pa.string()),
        departments=np.array(departments, np.int32),
        brands=np.array(brands, np.int32),
        item_features=features,
        catalog=catalog_table(pl.DataFrame(schema=CATALOG_COLUMNS)),
        history=Histories.build(none, none, np.zeros((0, len(HISTORY_COLUMNS)), np.float32), 0),
        cut_points=CutPoints([], [], []),
    )


def ages(visit: list[Event]) -> list[float]:
    return list(accumulate(e.pause for e in reversed(visit)))[::-1]


def batch(visits: list[list[Event]]) -> Visitors:
    events = [(q, e, age) for q, visit in enumerate(visits) for e, age in zip(visit, ages(visit), strict=True)]
    return Visitors.from_events(
        np.full(len(visits), -1),
        np.array([q for q, _, _ in events], np.int64),
        np.array([e.item for _, e, _ in events], np.int64),
        np.array([KIND[e.kind] for _, e, _ in events], np.uint8),
        np.array([age for _, _, age in events]),
        np.array([e.price for _, e, _ in events]),
    )


def every_item(s: Snapshot, visitors: Visitors) -> np.ndarray:
    """The features of each item for each visitor."""
    query = np.repeat(np.arange(len(visitors)), ITEMS)
    return compute_session_features(s, visitors, query, np.tile(np.arange(ITEMS), len(visitors)))


def slowly(s: Snapshot, visit: list[Event], item: int) -> dict[str, float]:
    """The features of one item for one visitor, by loops over the events as the columns describe them."""
    out = dict.fromkeys(PLACE, NAN) | {"visit_events": len(visit)}
    if not visit:
        return out
    visit = [e._replace(item=-1) if e.kind == "search" else e for e in visit]
    price = s.item_features[:, ITEM["price"]]

    def times(kind: EventName, of: int | None = None) -> int:
        return sum(e.kind == kind and of in (None, e.item) for e in visit)

    def weight(n: int) -> float:
        removed = Event("remove_from_cart", visit[n].item)[:2] in [e[:2] for e in visit[n:]]
        return VISIT_EVENTS["view_item" if visit[n].kind == "add_to_cart" and removed else visit[n].kind]

    touched = [n for n, e in enumerate(visit) if e.item >= 0]
    own = [n for n in touched if visit[n].item == item]
    moves = [visit[n].kind for n in own if visit[n].kind in ("add_to_cart", "remove_from_cart", "purchase")]
    out |= {
        "visit_item_events": len(own),
        "visit_item_back": len(visit) - 1 - own[-1] if own else NAN,
        "visit_item_weight": max((weight(n) for n in own), default=0),
        "visit_item_views": times("view_item", item),
        "visit_item_carts": times("add_to_cart", item),
        "visit_item_removals": times("remove_from_cart", item),
        "visit_item_in_cart": moves[-1:] == ["add_to_cart"],
    }
    views = [n for n in touched if visit[n].kind == "view_item"]
    recent = {n: weight(n) * 0.8 ** (len(visit) - 1 - n) for n in touched}
    for kind, codes in (("category", s.categories), ("department", s.departments), ("brand", s.brands)):
        kin = [n for n in touched if codes[item] >= 0 and codes[visit[n].item] == codes[item]]
        out[f"visit_{kind}_share"] = len(kin) / len(touched) if touched else NAN
        out[f"visit_{kind}_recent"] = (
            sum(recent[n] for n in kin) / sum(recent.values()) if any(recent.values()) else NAN
        )
        out[f"visit_{kind}_last"] = views[-1] in kin if views else NAN
    prices = [float(price[e.item]) if e.item >= 0 and math.isnan(e.price) else e.price for e in visit]
    known = [p for p in prices if not math.isnan(p)]
    bases = {
        "ratio": sum(known) / len(known) if known else NAN,
        "to_min": min(known, default=NAN),
        "to_max": max(known, default=NAN),
        "to_last": prices[views[-1]] if views else NAN,
    }
    out |= {f"visit_price_{k}": float(price[item]) / base if base > 0 else NAN for k, base in bases.items()}
    categories = {int(s.categories[visit[n].item]) for n in touched}
    searches = [n for n, e in enumerate(visit) if e.kind == "search"]
    return out | {
        "visit_items": len({visit[n].item for n in touched}),
        "visit_categories": len(categories - {-1}),
        "visit_carts": times("add_to_cart"),
        "visit_removals": times("remove_from_cart"),
        "visit_purchases": times("purchase"),
        "visit_searches": len(searches),
        "visit_last_is_cart": visit[-1].kind == "add_to_cart",
    }


CODES = st.lists(st.integers(-1, 2), min_size=ITEMS, max_size=ITEMS)
PRICE = st.sampled_from([NAN, 0.0, 0.5, 2.0, 31.0])
SHOPS = st.builds(shop, CODES, CODES, CODES, st.lists(PRICE, min_size=ITEMS, max_size=ITEMS))
# Few items and often carts and removals, so that they meet.
NAMES = st.sampled_from([*VISIT_EVENTS, *["view_item", "add_to_cart", "remove_from_cart"] * 2])
TIMED = st.builds(Event, NAMES, st.integers(-1, ITEMS - 1), st.sampled_from([0.0, 0.25, 7.0, 1800.0]), PRICE)
UNTIMED = st.builds(Event, NAMES, st.integers(-1, 2), st.just(NAN), st.just(NAN))
VISITS = st.lists(st.lists(TIMED, max_size=8) | st.lists(UNTIMED, max_size=8), min_size=1, max_size=4)


@examples(150)
@given(SHOPS, VISITS)
def test_features_match_a_slow_implementation(s: Snapshot, visits: list[list[Event]]):
    features = every_item(s, batch(visits))
    expected = [list(slowly(s, visit, item).values()) for visit in visits for item in range(ITEMS)]
    np.testing.assert_allclose(features, np.array(expected, np.float32), rtol=1e-5, atol=1e-6)


@examples(60)
@given(SHOPS, VISITS, st.permutations(range(ITEMS)))
def test_features_do_not_depend_on_the_batch_or_its_order(s: Snapshot, visits: list[list[Event]], order: list[int]):
    visitors = batch(visits)
    features = every_item(s, visitors).reshape(len(visits), ITEMS, -1)
    for q, visit in enumerate(visits):
        assert same_arrays(every_item(s, batch([visit])), features[q])
        assert same_arrays(every_item(s, visitors.slice(q, q + 1)), features[q])
    query = np.repeat(np.arange(len(visits))[::-1], ITEMS)
    assert same_arrays(
        compute_session_features(s, visitors, query, np.tile(order, len(visits))),
        features[::-1, order].reshape(-1, len(PLACE)),
    )


@examples(20)
@given(SHOPS, st.lists(TIMED, min_size=MOST_RECENT + 1, max_size=MOST_RECENT + 6), st.lists(TIMED, max_size=3))
def test_only_the_latest_events_count(s: Snapshot, long: list[Event], short: list[Event]):
    assert same_arrays(every_item(s, batch([short, long])), every_item(s, batch([short, long[-MOST_RECENT:]])))


@examples(40)
@given(SHOPS, st.lists(TIMED, max_size=6))
def test_times_of_events_do_not_matter(s: Snapshot, visit: list[Event]):
    untimed = [e._replace(pause=NAN) for e in visit]
    assert same_arrays(every_item(s, batch([untimed])), every_item(s, batch([visit])))


SHOP = shop([0, 0, 1, 1, -1, -1], [0, 0, 0, 1, -1, -1], [0, 1, 0, 1, 0, 1], [2.0, 4.0, 8.0, NAN, 1.0, 1.0])


def of(visit: list[Event], item: int) -> dict[str, float]:
    (line,) = compute_session_features(SHOP, batch([visit]), np.array([0]), np.array([item]))
    return dict(zip(PLACE, line.tolist(), strict=True))


def test_removals_take_carts_back():
    visit = [
        Event("view_item", 0, 20),
        Event("view_item", 1, 5, price=5.0),
        Event("add_to_cart", 1, 15, price=5.0),
        Event("search", -1, 20),
        Event("view_item", 2, 30),
        Event("remove_from_cart", 1, 10),
    ]
    # The cart counts as a view once it is taken back, the removal as nothing.
    weights = [0.8**5, 0.8**4, 0.8**3, 0, 0.8, 0]
    expected = {
        "visit_events": 6,
        "visit_item_events": 3,
        "visit_item_back": 0,
        "visit_item_weight": 1,
        "visit_item_views": 1,
        "visit_item_carts": 1,
        "visit_item_removals": 1,
        "visit_item_in_cart": 0,
        "visit_category_share": 4 / 5,
        "visit_category_recent": sum(weights[:3]) / sum(weights),
        "visit_category_last": 0,
        "visit_department_share": 1,
        "visit_department_recent": 1,
        "visit_department_last": 1,
        "visit_brand_share": 3 / 5,
        "visit_brand_recent": sum(weights[1:3]) / sum(weights),
        "visit_brand_last": 0,
        "visit_price_ratio": 4 / ((2 + 5 + 5 + 8 + 4) / 5),
        "visit_price_to_min": 4 / 2,
        "visit_price_to_max": 4 / 8,
        "visit_price_to_last": 4 / 8,
        "visit_items": 3,
        "visit_categories": 2,
        "visit_carts": 1,
        "visit_removals": 1,
        "visit_purchases": 0,
        "visit_searches": 1,
        "visit_last_is_cart": 0,
    }
    assert of(visit, 1) == pytest.approx(expected)
    before = of(visit[:-1], 1)
    assert (before["visit_item_weight"], before["visit_item_in_cart"]) == (2, 1)
    again = of([*visit, Event("add_to_cart", 1, 1)], 1)
    assert (again["visit_item_weight"], again["visit_item_in_cart"], again["visit_last_is_cart"]) == (2, 1, 1)
    bought = of([*visit, Event("add_to_cart", 1, 1), Event("purchase", 1, 1)], 1)
    assert (bought["visit_item_weight"], bought["visit_item_in_cart"], bought["visit_purchases"]) == (3, 0, 1)


def test_an_item_removed_first_can_be_added_again():
    visit = [Event("remove_from_cart", 0), Event("add_to_cart", 0)]
    assert of(visit[:1], 0)["visit_item_in_cart"] == 0
    assert of(visit, 0)["visit_item_in_cart"] == 1


def test_a_visit_of_searches_alone():
    features = of([Event("search", 3, 8), Event("search", -1, 2)], 3)
    known = {name: value for name, value in features.items() if not math.isnan(value)}
    zeros = {name: 0 for name in known if name.startswith("visit_item_")}
    counts = dict.fromkeys(("visit_items", "visit_categories", "visit_carts", "visit_removals", "visit_purchases"), 0)
    assert known == zeros | counts | {"visit_events": 2, "visit_searches": 2, "visit_last_is_cart": 0}
    assert len(zeros) == 6


def test_no_candidates():
    none = np.zeros(0, np.int64)
    assert compute_session_features(SHOP, batch([[Event("view_item", 0)], []]), none, none).shape == (0, len(COLUMNS))


def test_a_part_of_a_batch_of_visitors():
    visits = [[Event("view_item", 3, 4, 9.0), Event("search", -1, 2)], [], [Event("purchase", 5, 1, 3.0)]]
    whole = batch(visits)
    assert whole.back.tolist() == [1, 0, 0]
    part = whole.slice(1, 3)
    alone = batch(visits[1:])
    fields = ("customers", "query", "item", "kind", "age", "price", "back", "weight")
    assert all(same_arrays(getattr(part, f), getattr(alone, f)) for f in fields)
    assert (part.query.tolist(), part.item.tolist(), part.weight.tolist(), len(part)) == ([1], [5], [3.0], 2)
