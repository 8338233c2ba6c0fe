"""The self check: what a sample of visitors is answered, and what of the demand may be shown."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from models.availability import available_now, catalog_available
from models.bundle import Bundle
from models.interface import RankingRequest, RankingRules
from models.recommender import BundleRecommender
from models.self_check import check_answers, measure_available_share, sample_customers


def with_available(bundle: Bundle, available: list[bool | None]) -> Bundle:
    s = bundle.snapshot
    at = s.catalog.schema.get_field_index("available")
    catalog = s.catalog.set_column(at, "available", pa.array(available, pa.bool_()))
    return replace(bundle, snapshot=replace(s, catalog=catalog))


def test_a_model_whose_items_are_all_available_answers_everybody(bundle: Bundle):
    check = check_answers(BundleRecommender(bundle), 20)
    assert (check.visitors, check.empty, check.filled, check.available_share) == (21, 0, 1.0, 1.0)
    assert check.problem is None
    assert check.available == check.items == len(bundle.snapshot.items)


def test_a_model_without_available_items_answers_nobody(bundle: Bundle):
    n = len(bundle.snapshot.items)
    check = check_answers(BundleRecommender(with_available(bundle, [False] * n)), 20)
    assert (check.empty, check.empty_share, check.filled, check.available_share) == (21, 1.0, 0.0, 0.0)
    assert check.problem
    assert f"none of the {n} items is available" in check.problem


def test_lists_that_cannot_be_full_are_measured(bundle: Bundle):
    n = len(bundle.snapshot.items)
    check = check_answers(BundleRecommender(with_available(bundle, [i < 3 for i in range(n)])), 20)
    assert (check.empty, check.available, check.filled) == (0, 3, pytest.approx(0.3))


def test_what_the_catalog_says_nothing_of_is_available_and_overrides_come_on_top(bundle: Bundle):
    n = len(bundle.snapshot.items)
    said: list[bool | None] = [(None, False, True)[i % 3] for i in range(n)]
    snapshot = with_available(bundle, said).snapshot
    assert catalog_available(snapshot).tolist() == [s is not False for s in said]
    first, second = snapshot.items.at(np.array([0, 1]))
    now = available_now(snapshot, {first: False, second: True, "unheard of": False})
    assert now.tolist() == [False, True, *(s is not False for s in said[2:])]
    assert available_now(snapshot, {}).tolist() == catalog_available(snapshot).tolist()


def test_the_demand_that_may_be_shown_is_weighted_by_events(bundle: Bundle):
    s = bundle.snapshot
    activity = sum(np.nan_to_num(s.item(name).astype(float)) for name in ("views_28d", "carts_28d", "buyers_28d"))
    best = int(np.argmax(activity))
    allowed = np.arange(len(s.items)) == best
    assert measure_available_share(s, allowed) == pytest.approx(activity[best] / activity.sum())
    quiet = replace(s, item_features=np.zeros_like(s.item_features))
    assert measure_available_share(quiet, allowed) is None


def test_customers_of_the_sample_are_spread_evenly(bundle: Bundle):
    ids = bundle.snapshot.customers.values.to_pylist()
    assert sample_customers(bundle.snapshot, 10**6) == ids
    assert sample_customers(bundle.snapshot, 0) == []
    sample = sample_customers(bundle.snapshot, 5)
    assert sample == [ids[n * len(ids) // 5] for n in range(5)]


def test_rules_with_a_mask_of_their_own_are_followed(bundle: Bundle):
    """Such as of the server, whose shop has put an item back that the catalog has as unavailable."""
    n = len(bundle.snapshot.items)
    recommender = BundleRecommender(with_available(bundle, [i % 2 == 0 for i in range(n)]))
    ids = bundle.snapshot.items.values.to_pylist()
    plain, masked = recommender.recommend(
        [RankingRequest(n), RankingRequest(n, rules=RankingRules(allowed=np.arange(n) == 1))]
    )
    assert set(plain.item_ids) == set(ids[::2])
    assert masked.item_ids == [ids[1]]
