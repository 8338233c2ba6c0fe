import json
import math

import numpy as np
import polars as pl
import pytest

from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking.snapshot import Snapshot
from features.tables.build import build_from_events
from models.bundle import Bundle
from models.customers import propensity
from models.customers.predictions import (
    COLUMN,
    NEXT,
    PRIOR,
    CustomerPredictions,
    customer_profile,
    rank_next_categories,
)
from models.customers.propensity import PropensityModel
from tests.features.shop import row, same_arrays, snapshot
from tests.models.fitted import dense_pair_weights


def by_hand(s: Snapshot) -> list[list[int]]:
    """The categories of each customer's taste, plus the shop's sales, by a loop over everything."""
    shelves = len(s.category_names)
    sold = np.zeros(shelves)
    for item, category in enumerate(s.categories):
        if category >= 0:
            sold[category] += np.nan_to_num(s.item("buyers_28d")[item])
    taste = np.nan_to_num(dense_pair_weights(s))
    out = []
    for customer in range(len(s.customers)):
        score = PRIOR * sold / sold.sum()
        for item, category in enumerate(s.categories):
            if category >= 0:
                score[category] += taste[customer, item]
        out.append(sorted(range(shelves), key=lambda c: (-round(score[c], 6), c))[:NEXT])
    return out


def test_next_categories_add_profile_and_sales(simulated_snapshot: Snapshot):
    categories = rank_next_categories(simulated_snapshot)
    assert categories.dtype == np.int32
    assert len(simulated_snapshot.category_names) > NEXT
    assert categories.tolist() == by_hand(simulated_snapshot)


def test_predictions_do_not_depend_on_the_chunk_size(
    simulated_snapshot: Snapshot, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    whole = CustomerPredictions.predict(bundle.propensity, simulated_snapshot)
    monkeypatch.setattr(propensity, "CHUNK", 7)
    parts = CustomerPredictions.predict(bundle.propensity, simulated_snapshot)
    assert same_arrays(parts.next_categories, whole.next_categories)
    assert same_arrays(parts.values, whole.values)


def test_sales_decide_for_customers_with_few_interactions():
    s = snapshot(
        [
            *(row("purchase", -3 - n, f"c{n}", "i4") for n in range(3)),  # Garden sells
            row("view_item", -400, "c9", "i0"),  # Kitchen/Tea, long ago
            row("view_item", -1, "c8", "i3"),  # without a category
            *(row("view_item", -1, "c7", "i2") for _ in range(6)),  # Kitchen
        ]
    )
    assert s.category_names.to_pylist() == ["Garden", "Kitchen", "Kitchen/Tea"]
    firsts = (s.category_names[int(n)].as_py() for n in rank_next_categories(s)[:, 0])
    first = dict(zip(s.customers.values.to_pylist(), firsts, strict=True))
    assert first == {"c0": "Garden", "c1": "Garden", "c2": "Garden", "c7": "Kitchen", "c8": "Garden", "c9": "Garden"}


def test_a_shop_without_categories_or_customers_has_no_next_category():
    nowhere = snapshot([row("purchase", -1, "c1", "i3"), row("view_item", -2, "d1", "i3")])
    assert rank_next_categories(nowhere).tolist() == [[-1] * NEXT]
    profile = customer_profile(CustomerPredictions.predict(PropensityModel(), nowhere), nowhere, 0)
    assert (profile["next_category"], profile["next_categories"]) == (None, [])
    nobody = snapshot([row("view_item", -1, "d1", "i0")])
    predictions = CustomerPredictions.predict(PropensityModel(), nobody)
    assert predictions.values.shape == (0, len(COLUMN))
    assert predictions.next_categories.shape == (0, NEXT)
    assert predictions.table(nobody).height == 0


def test_churn_risk_and_value_are_those_of_the_customer_table(bundle: Bundle, simulated: ParsedBatch):
    customers = build_from_events(simulated.events.lazy(), simulated.catalog, bundle.snapshot.as_of).customers
    assert customers["customer_id"].to_list() == bundle.snapshot.customers.values.to_pylist()
    for name in ("churn_risk_90d", "expected_value_365d"):
        assert customers[name].count() > 100
        values = pl.Series(bundle.predictions.values[:, COLUMN[name]]).fill_nan(None)
        assert values.to_list() == customers[name].to_list()


def test_profiles_match_the_table(bundle: Bundle):
    s, predictions = bundle.snapshot, bundle.predictions
    table = predictions.table(s)
    assert table.schema == {
        "customer_id": pl.String,
        "propensity_7d": pl.Float32,
        "propensity_28d": pl.Float32,
        "next_category": pl.String,
    }
    assert table["propensity_7d"].is_between(0, 1).all()
    assert (table["propensity_7d"] < table["propensity_28d"]).all()
    for n, expected in enumerate(table.head(30).iter_rows(named=True)):
        profile = bundle.profile(expected.pop("customer_id"))
        assert profile is not None
        assert {name: profile[name] for name in expected} == expected
        assert profile["segment"] == s.segment(n)
        assert profile["next_categories"][0] == profile["next_category"]
        assert json.loads(json.dumps(profile, allow_nan=False)) == profile


def test_undefined_values_are_none(bundle: Bundle):
    s = bundle.snapshot
    without = CustomerPredictions.predict(PropensityModel({28: bundle.propensity.classifiers[28]}), s)
    prospect = int(np.flatnonzero(s.segments == 0)[0])
    profile = customer_profile(without, s, prospect)
    assert profile["segment"] == "prospect"
    assert profile["propensity_7d"] is profile["churn_risk_90d"] is profile["expected_value_365d"] is None
    assert 0 < profile["propensity_28d"] < 1
    assert math.isnan(without.values[prospect, COLUMN["propensity_7d"]])
    assert without.table(s)["propensity_7d"].null_count() == len(s.customers)
