"""Backtests on a later window, the oracle, and the text and Parquet that `usual evaluate` gives out."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.ranking.visitors import KIND, Visitors
from features.sources.simulator.shop import simulate
from features.sources.simulator.truth import Truth
from features.tables.build import build_tables
from models.bundle import Bundle, RecommenderName
from tests.conftest import SHOP, SHOP_ENDS
from tests.training.recipes import small
from training.dataset import queries
from training.dataset.queries import Queries
from training.evaluation.backtest import backtest, refresh_bundle
from training.evaluation.baselines import CUSTOMER_BASELINES, VISIT_BASELINES
from training.evaluation.breakdown import baseline_columns
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.oracle import build_oracle
from training.reports import text

TEN_DAYS = 10 * DAY


def test_a_backtest_is_an_evaluation_on_the_snapshot_of_its_start(bundle: Bundle, event_log: EventLog):
    start = bundle.snapshot.as_of
    evaluations = backtest(bundle, event_log, start, SHOP_ENDS, small())
    future = queries.read_window(event_log.scan(), start, SHOP_ENDS)
    expected_queries = queries.customer_queries(future, bundle.snapshot)
    expected = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, expected_queries)
    assert evaluations["one_to_one"].summary == expected.summary
    assert expected.details["source"].null_count() == len(expected_queries)
    traffic = build_tables(event_log, start).customers.sort("customer_id").select("source", "device", "country")
    known = bundle.snapshot.customers.values.to_pylist()
    assert known == sorted(known)
    assert (
        evaluations["one_to_one"]
        .details.select(traffic.columns)
        .equals(traffic[expected_queries.visitors.customers.tolist()])
    )
    assert evaluations["one_to_one"].per_query.equals(expected.per_query)
    early = future.filter(pl.col("t") < start + small().visit_days * DAY)
    visits = queries.visit_queries(early, bundle.snapshot, small().visits_per_boundary, small().seed)["predictive"]
    assert evaluations["predictive"].summary["queries"] == len(visits) > 20


def test_a_backtest_before_the_end_of_training_is_refused(bundle: Bundle, event_log: EventLog):
    with pytest.raises(InputError, match="it would know its future"):
        backtest(bundle, event_log, bundle.snapshot.as_of - 1, SHOP_ENDS, small())
    assert refresh_bundle(bundle, event_log, bundle.snapshot.as_of).snapshot.as_of == bundle.snapshot.as_of


@pytest.mark.parametrize("days", [0, -1])
def test_an_empty_window_is_refused(bundle: Bundle, event_log: EventLog, days: int):
    with pytest.raises(InputError, match="is empty; --to must be after --from"):
        backtest(bundle, event_log, SHOP_ENDS, SHOP_ENDS + days * DAY, small())


def test_a_window_without_events_is_refused(bundle: Bundle, event_log: EventLog):
    with pytest.raises(InputError, match="nobody in the window from"):
        backtest(bundle, event_log, SHOP_ENDS, SHOP_ENDS + TEN_DAYS, small())


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.from_shop(simulate(SHOP))


@pytest.fixture(scope="module")
def evaluations(bundle: Bundle, event_log: EventLog, truth: Truth) -> dict[RecommenderName, Evaluation]:
    return backtest(bundle, event_log, bundle.snapshot.as_of, SHOP_ENDS, small(visits_per_boundary=2000), truth)


def test_the_oracle_ranks_better_than_the_recommender_and_all_baselines(evaluations: dict[RecommenderName, Evaluation]):
    for name, lowest in (("one_to_one", 0.25), ("predictive", 0.2)):
        table, summary = evaluations[name].queries, evaluations[name].summary
        known = table.filter(pl.col("oracle_ndcg_at_10").is_not_nan())
        assert summary["oracle_queries"] == known.height > 30
        assert summary["oracle_ndcg_at_10"] == pytest.approx(known["oracle_ndcg_at_10"].mean())
        assert summary["oracle_share"] == pytest.approx(known["ndcg_at_10"].mean() / summary["oracle_ndcg_at_10"])
        rivals = ["ndcg_at_10", *baseline_columns(table, "ndcg_at_10").values()]
        assert summary["oracle_ndcg_at_10"] > max(known[c].mean() for c in rivals)
        assert lowest < summary["oracle_ndcg_at_10"] < 1
        assert 0.2 < summary["oracle_share"] < 1


def test_the_oracle_answers_for_customers_and_owners_of_devices_but_not_for_strangers(
    evaluations: dict[RecommenderName, Evaluation], bundle: Bundle, event_log: EventLog
):
    start = bundle.snapshot.as_of
    early = queries.read_window(event_log.scan(), start, start + small().visit_days * DAY)
    about = queries.visit_queries(early, bundle.snapshot, 2000, small().seed)["predictive"].context
    assert about is not None
    ours = about["customer_id"].is_not_null() | (about["client_id"].str.slice(1).cast(pl.Int64) < SHOP.customers)
    oracle_ndcg = evaluations["predictive"].details["oracle_ndcg_at_10"]
    assert oracle_ndcg.is_not_nan().to_list() == ours.to_list()
    assert 0 < ours.sum() < len(ours)
    assert about["customer_id"].is_null().any()
    assert evaluations["one_to_one"].details["oracle_ndcg_at_10"].is_not_nan().all()


def test_the_oracle_infers_the_topic_of_a_visit_from_the_items_it_touched(bundle: Bundle, truth: Truth):
    s, at = bundle.snapshot, bundle.snapshot.as_of + DAY // 2
    items = s.items.at(np.arange(len(s.items)))
    category = np.array([truth.choice.items.category[truth.items.index(i)] for i in items])
    largest = int(np.bincount(category).argmax())
    in_category = np.flatnonzero(category == largest)
    touched = in_category[:2]
    about = pl.DataFrame({"at": [at, at], "customer_id": [None, "c000007"], "client_id": ["d000007", None]})
    visitors = Visitors.from_events(
        np.array([-1, -1]), np.array([1, 1]), touched, np.full(2, KIND["view_item"])
    )  # query 1 has touched two items of the category, query 0 nothing
    same_customer_twice = Queries(visitors, np.array([0, 1]), np.array([0, 0]), np.array([1, 1]), about)
    before, after = build_oracle(truth, s, same_customer_twice, bundle.snapshot.as_of, SHOP_ENDS)(0, visitors)
    untouched = np.setdiff1d(in_category, touched)
    likely = untouched[before[untouched] > 1e-4]
    elsewhere = np.flatnonzero((category != largest) & (before > 1e-4))
    assert after[likely].sum() > 2 * before[likely].sum()
    assert after[elsewhere].sum() < before[elsewhere].sum()
    # Both are c000007. Without events these are the probabilities of the next look, which sum to 1.
    assert before.sum() == pytest.approx(1, abs=0.05)
    assert (after[touched] > 1 - np.exp(-SHOP.repeat_views)).all()


def test_the_truth_of_another_shop_is_refused(bundle: Bundle, event_log: EventLog):
    other = Truth.from_shop(simulate(SHOP.model_copy(update={"items": 40})))
    with pytest.raises(InputError, match="the truth is of another shop: it knows 40 of the log's 60 items"):
        backtest(bundle, event_log, bundle.snapshot.as_of, SHOP_ENDS, small(), other)


def test_the_report_lists_every_baseline_and_every_large_enough_group(evaluations: dict[RecommenderName, Evaluation]):
    report_text, groups = text.render_metrics(evaluations), text.render_breakdown(evaluations)
    for name in (*CUSTOMER_BASELINES, *VISIT_BASELINES):
        assert f"  {name} " in report_text
    summary = evaluations["one_to_one"].summary
    best = next(line for line in report_text.splitlines() if f"{summary['over_best_baseline']:+.4f} (" in line)
    over = f"({summary['over_best_baseline_low']:+.4f} to {summary['over_best_baseline_high']:+.4f})"
    assert best.endswith(over)
    assert f"{summary['oracle_share']:.0%} of it, on {int(summary['oracle_queries'])} queries" in report_text
    rows = evaluations["predictive"].groups.filter(pl.col("facet") == "visit_events")
    assert rows.height == 4
    for row in rows.iter_rows(named=True):
        label = row["group"].replace("3_plus", "3 or more")
        shown = any(line.split(f" {row['queries']:,} ")[0].strip() == label for line in groups.splitlines())
        assert shown == (row["queries"] >= 20)


def test_every_query_is_written(evaluations: dict[RecommenderName, Evaluation], tmp_path: Path):
    text.write_queries(evaluations, tmp_path / "deep" / "q.parquet")
    written = pl.read_parquet(tmp_path / "deep" / "q.parquet")
    for name, evaluation in evaluations.items():
        part = written.filter(pl.col("recommender") == name)
        assert part.select(evaluation.queries.columns).equals(evaluation.queries)
    answer = text.evaluations_to_dict(evaluations)
    assert answer["one_to_one_ndcg_at_10"] == evaluations["one_to_one"].summary["ndcg_at_10"]
    assert len(answer["groups"]["predictive"]) == evaluations["predictive"].groups.height
    assert json.loads(json.dumps(answer)) == answer
    with pytest.raises(InputError, match=r"q.csv; its name must end in .parquet"):
        text.check_output_path(tmp_path / "q.csv")
