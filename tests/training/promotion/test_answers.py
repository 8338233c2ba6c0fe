"""The gate refuses a challenger that cannot answer, with or without a champion."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.bundle import Bundle
from models.recommender import BundleRecommender
from tests.training.promotion.test_promote import Registry, registry  # noqa: F401
from training.config import GuardRailsConfig
from training.promotion import promote as module
from training.promotion.gate import check_answers
from training.promotion.promote import promote

RAILS = GuardRailsConfig(latency_ratio=None)


def recommender(bundle: Bundle, available: Any) -> BundleRecommender:
    s = bundle.snapshot
    at = s.catalog.schema.get_field_index("available")
    catalog = s.catalog.set_column(at, "available", pa.array(np.asarray(available, bool)))
    return BundleRecommender(replace(bundle, snapshot=replace(s, catalog=catalog)))


def test_each_rail_is_checked(bundle: Bundle):
    items = np.arange(len(bundle.snapshot.items))
    measured: dict[str, float] = {}
    assert check_answers(RAILS, recommender(bundle, items >= 0), measured) == []
    assert measured == {"empty_share": 0, "filled_share": 1, "available_share": 1}
    (empty, share) = check_answers(RAILS, recommender(bundle, items < 0), {})
    n = 1 + len(bundle.snapshot.customers)
    assert empty.startswith(f"empty_share: {n} of {n} visitors get an empty list, allowed 2%; 0 of 60 items are")
    assert share.startswith("available_share: 0.0% of what was viewed")
    refusals = check_answers(RAILS, recommender(bundle, items < 3), {})
    assert refusals[0].startswith("filled_share: lists of 10 are 30% full on average")
    off = RAILS.model_copy(update=dict.fromkeys(("empty_share", "filled_share", "available_share")))
    assert check_answers(off, recommender(bundle, items < 0), {}) == []


def test_a_first_challenger_that_answers_nobody_is_refused_unless_forced(
    registry: Registry,  # noqa: F811
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
):
    none = [False] * len(bundle.snapshot.items)
    monkeypatch.setattr(module, "load_recommender", lambda *_: recommender(bundle, none))
    config = registry.config.model_copy(update={"gate": registry.config.gate.model_copy(update={"rails": RAILS})})
    version = registry.challenge(0.2)
    outcome = promote(config)
    assert (outcome.promoted, registry.champion) == (False, None)
    assert outcome.refusals[0].startswith("empty_share: ")
    assert '"empty_share": 1.0' in registry.tags(version)["gate_answers"]
    assert promote(config, force="to see it fail").promoted
    assert registry.champion == version
