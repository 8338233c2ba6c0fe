import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns import names
from features.history import COLUMNS as HISTORY_COLUMNS
from features.history import Histories
from features.ids import Ids
from features.realtime import COLUMNS, realtime
from features.snapshot import ITEM, Snapshot
from features.tables import CUSTOMER_COLUMNS
from features.visitors import Visitors
from tests.features.shop import examples, same_arrays

ITEMS = 6
Visit = list[tuple[int, float]]  # (item, weight), oldest first


def shop(categories: list[int], brands: list[int], prices: list[float]) -> Snapshot:
    features = np.full((ITEMS, len(ITEM)), np.nan, np.float32)
    features[:, ITEM["price"]] = prices
    none = np.zeros(0, np.int64)
    return Snapshot(
        as_of=0,
        customers=Ids.of([]),
        segments=np.zeros(0, np.uint8),
        customer_features=np.zeros((0, len(CUSTOMER_COLUMNS)), np.float32),
        items=Ids.of([f"i{n}" for n in range(ITEMS)]),
        categories=np.array(categories, np.int32),
        brands=np.array(brands, np.int32),
        item_features=features,
        history=Histories.build(none, none, np.zeros((0, len(HISTORY_COLUMNS)), np.float32), 0),
    )


def batch(visits: list[Visit]) -> Visitors:
    events = [(q, item, weight) for q, visit in enumerate(visits) for item, weight in visit]
    query, item = (np.array([e[k] for e in events], np.int64) for k in (0, 1))
    weight = np.array([e[2] for e in events], np.float32)
    return Visitors.of(np.full(len(visits), -1), query, item, weight)


def slowly(s: Snapshot, visit: Visit, item: int) -> list[float]:
    price = s.item_features[:, ITEM["price"]]
    if not visit:
        return [0, *[math.nan] * 6]
    touches = [n for n, (i, _) in enumerate(visit) if i == item]
    alike = [sum(codes[item] >= 0 and codes[i] == codes[item] for i, _ in visit) for codes in (s.categories, s.brands)]
    known = [float(price[i]) for i, _ in visit if not math.isnan(price[i])]
    mean = sum(known) / len(known) if known else math.nan
    ratio = float(price[item]) / mean if known and mean > 0 else math.nan
    return [
        len(visit),
        len(touches),
        len(visit) - 1 - touches[-1] if touches else math.nan,
        max((visit[n][1] for n in touches), default=0),
        alike[0] / len(visit),
        alike[1] / len(visit),
        ratio,
    ]


CODES = st.lists(st.integers(-1, 2), min_size=ITEMS, max_size=ITEMS)
PRICES = st.lists(st.sampled_from([math.nan, 0.0, 0.5, 2.0, 31.0]), min_size=ITEMS, max_size=ITEMS)
VISITS = st.lists(
    st.lists(st.tuples(st.integers(0, ITEMS - 1), st.sampled_from([1.0, 2.0, 3.0])), max_size=5),
    min_size=1,
    max_size=4,
)


@examples(100)
@given(st.builds(shop, CODES, CODES, PRICES), VISITS)
def test_as_a_slow_loop_says_and_alone_as_in_company(s: Snapshot, visits: list[Visit]):
    query = np.repeat(np.arange(len(visits)), ITEMS)
    item = np.tile(np.arange(ITEMS), len(visits))
    found = realtime(s, batch(visits), query, item)
    expected = [slowly(s, visits[q], i) for q, i in zip(query.tolist(), item.tolist(), strict=True)]
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-5)
    for q, visit in enumerate(visits):
        alone = realtime(s, batch([visit]), np.zeros(ITEMS, np.int64), np.arange(ITEMS))
        assert same_arrays(alone, found[query == q])


def test_by_hand():
    s = shop([0, 0, 1, 1, -1, -1], [0, 1, 0, 1, 0, 1], [2.0, 4.0, 8.0, math.nan, 1.0, 1.0])
    visit = [(0, 1.0), (1, 1.0), (0, 2.0), (3, 1.0)]
    found = realtime(s, batch([visit]), np.zeros(3, np.int64), np.array([0, 2, 4]))
    assert names(COLUMNS)[2] == "visit_item_back"
    assert found[0].tolist() == pytest.approx([4, 2, 1, 2, 3 / 4, 2 / 4, 2 / (8 / 3)])
    assert found[1].tolist() == pytest.approx([4, 0, math.nan, 0, 1 / 4, 2 / 4, 8 / (8 / 3)], nan_ok=True)
    assert found[2].tolist() == pytest.approx([4, 0, math.nan, 0, 0, 2 / 4, 1 / (8 / 3)], nan_ok=True)


def test_no_candidates():
    s = shop([0] * ITEMS, [0] * ITEMS, [1.0] * ITEMS)
    none = np.zeros(0, np.int64)
    assert realtime(s, batch([[(0, 1.0)], []]), none, none).shape == (0, len(COLUMNS))
