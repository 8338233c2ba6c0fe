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
from features.tables import build
from models.bundle import Bundle, RecommenderName
from models.interface import Request
from models.recommender import BundleRecommender
from tests.conftest import SHOP, SHOP_ENDS
from tests.training.recipes import small
from training import batch_inference
from training.dataset import queries
from training.dataset.queries import Queries
from training.evaluation.backtest import refreshed, replay
from training.evaluation.baselines import OF_CUSTOMERS, OF_VISITS
from training.evaluation.breakdown import baseline_columns
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.oracle import oracle
from training.reports import text

TEN_DAYS = 10 * DAY


def test_a_replay_is_an_evaluation_on_the_snapshot_of_its_start(bundle: Bundle, event_log: EventLog):
    start = bundle.snapshot.as_of
    found = replay(bundle, event_log, start, SHOP_ENDS, small())
    future = queries.window(event_log.scan(), start, SHOP_ENDS)
    asked = queries.one_to_one(future, bundle.snapshot)
    expected = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, asked)
    assert found["one_to_one"].summary == expected.summary
    assert expected.details["source"].null_count() == len(asked)
    traffic = build.at(event_log, start).customers.sort("customer_id").select("source", "device", "country")
    known = bundle.snapshot.customers.values.to_pylist()
    assert known == sorted(known)
    assert found["one_to_one"].details.select(traffic.columns).equals(traffic[asked.visitors.customers.tolist()])
    assert found["one_to_one"].per_query.equals(expected.per_query)
    early = future.filter(pl.col("t") < start + small().visit_days * DAY)
    visits = queries.inside_visits(early, bundle.snapshot, small().visits_per_boundary, small().seed)["predictive"]
    assert found["predictive"].summary["queries"] == len(visits) > 20


def test_a_model_is_never_asked_about_what_it_has_seen(bundle: Bundle, event_log: EventLog):
    with pytest.raises(InputError, match="it would know its future"):
        replay(bundle, event_log, bundle.snapshot.as_of - 1, SHOP_ENDS, small())
    assert refreshed(bundle, event_log, bundle.snapshot.as_of).snapshot.as_of == bundle.snapshot.as_of


@pytest.mark.parametrize("days", [0, -1])
def test_an_empty_window(bundle: Bundle, event_log: EventLog, days: int):
    with pytest.raises(InputError, match="is empty; --to must be after --from"):
        replay(bundle, event_log, SHOP_ENDS, SHOP_ENDS + days * DAY, small())


def test_a_window_in_which_nothing_happened(bundle: Bundle, event_log: EventLog):
    with pytest.raises(InputError, match="nobody in the window from"):
        replay(bundle, event_log, SHOP_ENDS, SHOP_ENDS + TEN_DAYS, small())


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(simulate(SHOP))


@pytest.fixture(scope="module")
def compared(bundle: Bundle, event_log: EventLog, truth: Truth) -> dict[RecommenderName, Evaluation]:
    return replay(bundle, event_log, bundle.snapshot.as_of, SHOP_ENDS, small(visits_per_boundary=2000), truth)


def test_nothing_ranks_better_than_the_truth(compared: dict[RecommenderName, Evaluation]):
    for name, lowest in (("one_to_one", 0.25), ("predictive", 0.2)):
        table, summary = compared[name].queries, compared[name].summary
        known = table.filter(pl.col("oracle_ndcg_at_10").is_not_nan())
        assert summary["oracle_queries"] == known.height > 30
        assert summary["oracle_ndcg_at_10"] == pytest.approx(known["oracle_ndcg_at_10"].mean())
        assert summary["oracle_share"] == pytest.approx(known["ndcg_at_10"].mean() / summary["oracle_ndcg_at_10"])
        rivals = ["ndcg_at_10", *baseline_columns(table, "ndcg_at_10").values()]
        assert summary["oracle_ndcg_at_10"] > max(known[c].mean() for c in rivals)
        assert lowest < summary["oracle_ndcg_at_10"] < 1
        assert 0.2 < summary["oracle_share"] < 1


def test_the_truth_knows_customers_by_name_and_by_device_and_no_strangers(
    compared: dict[RecommenderName, Evaluation], bundle: Bundle, event_log: EventLog
):
    start = bundle.snapshot.as_of
    early = queries.window(event_log.scan(), start, start + small().visit_days * DAY)
    about = queries.inside_visits(early, bundle.snapshot, 2000, small().seed)["predictive"].about
    assert about is not None
    ours = about["customer_id"].is_not_null() | (about["client_id"].str.slice(1).cast(pl.Int64) < SHOP.customers)
    found = compared["predictive"].details["oracle_ndcg_at_10"]
    assert found.is_not_nan().to_list() == ours.to_list()
    assert 0 < ours.sum() < len(ours)
    assert about["customer_id"].is_null().any()
    assert compared["one_to_one"].details["oracle_ndcg_at_10"].is_not_nan().all()


def test_what_a_visit_has_touched_tells_what_it_is_about(bundle: Bundle, truth: Truth):
    s, at = bundle.snapshot, bundle.snapshot.as_of + DAY // 2
    items = s.items.at(np.arange(len(s.items)))
    category = np.array([truth.choice.items.category[truth.items.index(i)] for i in items])
    shelf = int(np.bincount(category).argmax())
    about_it = np.flatnonzero(category == shelf)
    seen = about_it[:2]
    about = pl.DataFrame({"at": [at, at], "customer_id": [None, "c000007"], "client_id": ["d000007", None]})
    visitors = Visitors.of(
        np.array([-1, -1]), np.array([1, 1]), seen, np.full(2, KIND["view_item"])
    )  # query 1 has seen two items of the category, query 0 nothing
    asked = Queries(visitors, np.array([0, 1]), np.array([0, 0]), np.array([1, 1]), about)
    before, after = oracle(truth, s, asked, bundle.snapshot.as_of, SHOP_ENDS)(0, visitors)
    unseen = np.setdiff1d(about_it, seen)
    liked = unseen[before[unseen] > 1e-4]
    elsewhere = np.flatnonzero((category != shelf) & (before > 1e-4))
    assert after[liked].sum() > 2 * before[liked].sum()
    assert after[elsewhere].sum() < before[elsewhere].sum()
    # Both are c000007: without events, the chances of the next look, which add up to 1.
    assert before.sum() == pytest.approx(1, abs=0.05)
    assert (after[seen] > 1 - np.exp(-SHOP.repeat_views)).all()


def test_the_truth_of_another_shop_is_refused(bundle: Bundle, event_log: EventLog):
    other = Truth.of(simulate(SHOP.model_copy(update={"items": 40})))
    with pytest.raises(InputError, match="the truth is of another shop: it knows 40 of the log's 60 items"):
        replay(bundle, event_log, bundle.snapshot.as_of, SHOP_ENDS, small(), other)


def test_the_report_names_every_baseline_and_the_groups_large_enough(compared: dict[RecommenderName, Evaluation]):
    told, groups = text.metrics_table(compared), text.breakdown_table(compared)
    for name in (*OF_CUSTOMERS, *OF_VISITS):
        assert f"  {name} " in told
    summary = compared["one_to_one"].summary
    best = next(line for line in told.splitlines() if f"{summary['over_best_baseline']:+.4f} (" in line)
    over = f"({summary['over_best_baseline_low']:+.4f} to {summary['over_best_baseline_high']:+.4f})"
    assert best.endswith(over)
    assert f"{summary['oracle_share']:.0%} reached, of {int(summary['oracle_queries'])} queries" in told
    rows = compared["predictive"].groups.filter(pl.col("facet") == "visit_events")
    assert rows.height == 4
    for row in rows.iter_rows(named=True):
        label = row["group"].replace("3_plus", "3 or more")
        shown = any(line.split(f" {row['queries']:,} ")[0].strip() == label for line in groups.splitlines())
        assert shown == (row["queries"] >= 20)


def test_every_query_is_written(compared: dict[RecommenderName, Evaluation], tmp_path: Path):
    text.write_queries(compared, tmp_path / "deep" / "q.parquet")
    written = pl.read_parquet(tmp_path / "deep" / "q.parquet")
    for name, evaluation in compared.items():
        part = written.filter(pl.col("recommender") == name)
        assert part.select(evaluation.queries.columns).equals(evaluation.queries)
    told = text.evaluations_as_dict(compared)
    assert told["one_to_one_ndcg_at_10"] == compared["one_to_one"].summary["ndcg_at_10"]
    assert len(told["groups"]["predictive"]) == compared["predictive"].groups.height
    assert json.loads(json.dumps(told)) == told
    with pytest.raises(InputError, match=r"q.csv must end in .parquet"):
        text.check_out(tmp_path / "q.csv")


def test_batch_inference_is_the_served_ranking(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_inference, "BATCH", 7)
    customers = [*bundle.snapshot.customers.values.to_pylist()[:20], "nobody"]
    table = batch_inference.recommend(bundle, customers, 6)
    rankings = BundleRecommender(bundle).recommend([Request(6, c) for c in customers])
    assert table["customer_id"].to_list() == [c for c in customers for _ in range(6)]
    assert table["rank"].to_list() == [1, 2, 3, 4, 5, 6] * 21
    assert table["item_id"].to_list() == [i for r in rankings for i in r.item_ids]
    assert table["score"].to_list() == [s for r in rankings for s in r.scores]


def test_customers_are_read_from_any_table_or_list(bundle: Bundle, tmp_path: Path):
    table = pl.DataFrame({"customer_id": ["007", "b", None, "b"], "more": [1, 2, 3, 4]})
    table.write_parquet(tmp_path / "a.parquet")
    table.write_csv(tmp_path / "a.csv")
    (tmp_path / "a.txt").write_text("007\n\n b \nb\n")
    for name in ("a.parquet", "a.csv", "a.txt"):
        assert batch_inference.read_customers(tmp_path / name, bundle) == ["007", "b"]
    assert batch_inference.read_customers(None, bundle) == bundle.snapshot.customers.values.to_pylist()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"customer\n1\n", "has no column customer_id; it has customer"),
        ("a.csv", b"customer_id\n", "holds no customer id"),
        ("a.txt", b"\n \n", "holds no customer id"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.parquet", b"PAR", "cannot be read"),
        ("a.txt", None, "cannot be read"),
    ],
)
def test_what_names_no_customer(bundle: Bundle, tmp_path: Path, name: str, content: bytes | None, message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        batch_inference.read_customers(tmp_path / name, bundle)


def test_answers_are_written_by_the_files_name(bundle: Bundle, tmp_path: Path):
    table = batch_inference.recommend(bundle, ["nobody"], 2)
    for name, read in (("deep/a.parquet", pl.read_parquet), ("deep/a.csv", pl.read_csv)):
        batch_inference.write(table, tmp_path / name)
        assert read(tmp_path / name)["item_id"].to_list() == table["item_id"].to_list()
    with pytest.raises(InputError, match=r"must end in .parquet or .csv"):
        batch_inference.write(table, tmp_path / "a.xlsx")
