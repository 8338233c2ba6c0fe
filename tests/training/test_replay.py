from pathlib import Path

import polars as pl
import pytest

from features.clock import DAY
from features.errors import InputError
from features.log import EventLog
from models.bundle import Bundle
from models.ranking import Request
from models.recommender import BundleRecommender
from tests.conftest import SHOP_ENDS
from tests.training.recipes import small
from training import batch, queries
from training.evaluate import evaluate
from training.replay import refreshed, replay

TEN_DAYS = 10 * DAY


def test_a_replay_is_an_evaluation_on_the_snapshot_of_its_start(bundle: Bundle, event_log: EventLog):
    start = bundle.snapshot.as_of
    found = replay(bundle, event_log, start, SHOP_ENDS, small())
    future = queries.window(event_log.scan(), start, SHOP_ENDS)
    asked = queries.one_to_one(future, bundle.snapshot)
    expected = evaluate(bundle.recommenders["one_to_one"], bundle.snapshot, asked)
    assert found["one_to_one"].summary == expected.summary
    assert found["one_to_one"].per_query.equals(expected.per_query)
    early = future.filter(pl.col("t") < start + small().visit_days * DAY)
    visits = queries.predictive(early, bundle.snapshot, small().visits_per_boundary, small().seed)
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


def test_batch_inference_is_the_served_ranking(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch, "BATCH", 7)
    customers = [*bundle.snapshot.customers.values.to_pylist()[:20], "nobody"]
    table = batch.recommend(bundle, customers, 6)
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
        assert batch.read_customers(tmp_path / name, bundle) == ["007", "b"]
    assert batch.read_customers(None, bundle) == bundle.snapshot.customers.values.to_pylist()


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
        batch.read_customers(tmp_path / name, bundle)


def test_answers_are_written_by_the_files_name(bundle: Bundle, tmp_path: Path):
    table = batch.recommend(bundle, ["nobody"], 2)
    for name, read in (("deep/a.parquet", pl.read_parquet), ("deep/a.csv", pl.read_csv)):
        batch.write(table, tmp_path / name)
        assert read(tmp_path / name)["item_id"].to_list() == table["item_id"].to_list()
    with pytest.raises(InputError, match=r"must end in .parquet or .csv"):
        batch.write(table, tmp_path / "a.xlsx")
