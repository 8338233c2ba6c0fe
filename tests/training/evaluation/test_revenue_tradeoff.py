"""Revenue trade-off of a run whose recipe lets prices count."""

import numpy as np
import polars as pl
import pytest

from features.event_log.log import EventLog
from features.ranking.visitors import Visitors
from tests.training.recipes import small
from training.dataset.queries import Queries
from training.evaluation import revenue_tradeoff
from training.result import TrainingResult
from training.train import train


@pytest.fixture(scope="module")
def priced(event_log: EventLog) -> TrainingResult:
    """As `result`, but for one_to_one prices count three tenths."""
    recipe = small(boundaries=3)
    ranker = recipe.one_to_one.ranker.model_copy(update={"value": 0.3})
    one_to_one = recipe.one_to_one.model_copy(update={"ranker": ranker})
    return train(event_log, recipe.model_copy(update={"one_to_one": one_to_one}))


def test_revenue_is_the_price_of_the_relevant_items_among_the_first_ten():
    """Two queries: relevant are items 1, 2 and 3; and item 0, whose price is unknown, and item 4."""
    queries = Queries(
        Visitors.of_customers(np.array([5, 6])),
        np.array([0, 0, 0, 1, 1]),
        np.array([1, 2, 3, 0, 4]),
        np.array([3, 1, 3, 3, 3]),
    )
    price = np.array([np.nan, 2.5, 10, 100, 7, *[1000] * 15], np.float32)
    top = np.full((2, 20), -1)
    top[0, :12] = [5, 1, 6, 7, 8, 9, 10, 11, 12, 2, 3, 13]  # item 3 comes eleventh
    top[1, :2] = [0, 5]
    assert revenue_tradeoff.revenue_at_10(queries, top, price).tolist() == [12.5, 0]


def test_a_run_measures_every_value_beside_the_chosen_one(priced: TrainingResult):
    assert set(priced.trade_offs) == {"one_to_one"}
    table = priced.trade_offs["one_to_one"]
    assert table["value"].to_list() == sorted({*revenue_tradeoff.VALUES, 0.3})
    ours = table.filter(pl.col("value") == 0.3)
    assert ours["ndcg_at_10"].item() == pytest.approx(priced.evaluations["one_to_one"].summary["ndcg_at_10"])
    assert ours["trees"].item() == priced.bundle.metrics["one_to_one_trees"]
    assert table["revenue_at_10"].min() > 0
    assert table["revenue_at_10"].n_unique() > 2


def test_changes_are_against_value_0_and_inside_their_intervals(priced: TrainingResult):
    table = priced.trade_offs["one_to_one"]
    first = table.row(0, named=True)
    assert first["value"] == first["ndcg_change"] == first["revenue_change_high"] == 0
    for name, metric in (("ndcg", "ndcg_at_10"), ("revenue", "revenue_at_10")):
        change = table[f"{name}_change"].to_numpy()
        assert change == pytest.approx((table[metric] - first[metric]).to_numpy())
        assert (table[f"{name}_change_low"].to_numpy() <= change).all()
        assert (change <= table[f"{name}_change_high"].to_numpy()).all()


def test_the_tradeoff_is_among_the_metrics(priced: TrainingResult):
    table = priced.trade_offs["one_to_one"]
    for row in table.iter_rows(named=True):
        name = f"one_to_one_by_value_{row['value']:g}"
        assert priced.bundle.metrics[f"{name}_ndcg_at_10"] == row["ndcg_at_10"]
        assert priced.bundle.metrics[f"{name}_revenue_at_10"] == row["revenue_at_10"]


def test_the_shipped_ranker_is_fitted_with_prices(priced: TrainingResult):
    shipped = {name: two_stage.ranker.text() for name, two_stage in priced.bundle.recommenders.items()}
    gains = {
        name: next(line for line in text.splitlines() if line.startswith("[label_gain"))
        for name, text in shipped.items()
    }
    assert len(set(gains["one_to_one"].split(","))) > 5
    assert gains["predictive"] == "[label_gain: ]"


def test_without_value_there_is_no_tradeoff(result: TrainingResult):
    assert result.trade_offs == {}
    assert not [name for name in result.bundle.metrics if "_by_value_" in name]
