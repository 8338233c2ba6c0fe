"""What prices cost and bring: the curve of a run whose recipe lets them count."""

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


def test_revenue_is_what_the_wanted_among_the_first_ten_cost():
    """Two queries: the first wants items 1, 2 and 3, the second item 0, whose price nobody knows, and item 4."""
    asked = Queries(
        Visitors.of_customers(np.array([5, 6])),
        np.array([0, 0, 0, 1, 1]),
        np.array([1, 2, 3, 0, 4]),
        np.array([3, 1, 3, 3, 3]),
    )
    price = np.array([np.nan, 2.5, 10, 100, 7, *[1000] * 15], np.float32)
    top = np.full((2, 20), -1)
    top[0, :12] = [5, 1, 6, 7, 8, 9, 10, 11, 12, 2, 3, 13]  # item 3 comes eleventh
    top[1, :2] = [0, 5]
    assert revenue_tradeoff.revenue_at_10(asked, top, price).tolist() == [12.5, 0]


def test_a_run_tells_every_value_beside_the_chosen_one(priced: TrainingResult):
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


def test_the_curve_is_among_the_metrics(priced: TrainingResult):
    table = priced.trade_offs["one_to_one"]
    for row in table.iter_rows(named=True):
        name = f"one_to_one_by_value_{row['value']:g}"
        assert priced.bundle.metrics[f"{name}_ndcg_at_10"] == row["ndcg_at_10"]
        assert priced.bundle.metrics[f"{name}_revenue_at_10"] == row["revenue_at_10"]


def test_what_is_shipped_has_learnt_from_prices_too(priced: TrainingResult):
    shipped = {name: two_stage.ranker.text() for name, two_stage in priced.bundle.recommenders.items()}
    gains = {
        name: next(line for line in text.splitlines() if line.startswith("[label_gain"))
        for name, text in shipped.items()
    }
    assert len(set(gains["one_to_one"].split(","))) > 5
    assert gains["predictive"] == "[label_gain: ]"


def test_without_value_nothing_is_compared(result: TrainingResult):
    assert result.trade_offs == {}
    assert not [name for name in result.bundle.metrics if "_by_value_" in name]


def curve() -> pl.DataFrame:
    rows = [(0.0, 0.34, 9.0, 0.0, 0.0), (0.25, 0.32, 11.7, -0.02, 2.7), (1.0, 0.28, 12.6, -0.06, 3.6)]
    names = ("value", "ndcg_at_10", "revenue_at_10", "ndcg_change", "revenue_change")
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(trees=pl.lit(120.0))
    changes = (pl.col(f"{c}_change") for c in ("ndcg", "revenue"))
    ends = [change + by for change in changes for by in (-0.01, 0.01)]
    names = (f"{c}_change_{end}" for c in ("ndcg", "revenue") for end in ("low", "high"))
    return table.with_columns(end.alias(name) for end, name in zip(ends, names, strict=True))


def test_the_plot_says_what_the_chosen_value_costs_and_brings():
    plot = revenue_tradeoff.plot(curve(), 0.25, "one_to_one")
    assert plot.title.startswith("one-to-one: value 0.25 brings +30% revenue@10 for -0.020 NDCG@10")
    assert "value 1: NDCG@10 0.280, revenue@10 12.60" in plot.told
    (axes,) = plot.figure().axes
    assert {text.get_text() for text in axes.texts} == {"0", "0.25", "1"}
    assert "currency" in axes.get_ylabel()


def test_the_plot_of_a_shop_that_sold_nothing_of_the_lists():
    table = curve().with_columns(revenue_at_10=0.0, revenue_change=0.0)
    assert "value 1 brings +0.00 revenue@10" in revenue_tradeoff.plot(table, 1.0, "predictive").title


def test_the_page_has_a_line_for_each_value():
    html = revenue_tradeoff.section(curve(), 0.25, "one_to_one")
    assert html.count("<tr>") == 1 + 3
    assert "0.25 (chosen)" in html
    assert "-0.0200 (-0.0300 to -0.0100)" in html
    assert "<svg" in html
