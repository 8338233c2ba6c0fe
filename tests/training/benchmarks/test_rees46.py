"""From the published files to the table: a simulated shop's views in REES46's form."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from training.benchmarks import rees46
from usual.cli import app


@pytest.fixture(scope="module")
def month(simulated: ParsedBatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    views = simulated.events.filter(pl.col("name") == "view_item", pl.col("session_id").is_not_null())
    file = tmp_path_factory.mktemp("rees46") / "2019-Oct.csv"
    views.select(
        event_time=pl.col("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S UTC"),
        event_type=pl.lit("view"),
        product_id="item_id",
        category_id=pl.lit("1"),
        category_code=pl.lit("a.b"),
        brand=pl.lit("x"),
        price=pl.lit("1.50"),
        user_id=pl.coalesce("customer_id", "client_id"),
        user_session="session_id",
    ).write_csv(file)
    return file


def test_visits_of_the_last_day_are_the_test(month: Path):
    clicks, catalog = rees46.read_clicks([month])
    visits, split = rees46.split_last_day(clicks)
    known, test = visits.filter(pl.col("timestamp") < split), visits.filter(pl.col("timestamp") >= split)
    assert test.height
    assert (test["timestamp"].dt.date() >= split.date()).all()
    assert not set(test["session_id"]) & set(known["session_id"])
    assert set(test["item_id"]) <= set(known["item_id"]) <= set(catalog["item_id"])


def test_one_day_is_no_test(month: Path):
    clicks, _ = rees46.read_clicks([month])
    day = clicks["timestamp"].min()
    with pytest.raises(InputError, match="one day or less"):
        rees46.split_last_day(clicks.filter(pl.col("timestamp").dt.date() == day.date()))  # type: ignore[union-attr]


def test_the_command_prints_ours_beside_a_simple_method(month: Path):
    answer = CliRunner().invoke(app, ["benchmark", "rees46", str(month), "--json"])
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    ours, simple = report["measured"]
    assert report["queries"] > 20
    assert 0 < ours["P@20"] <= 100
    assert 0 <= simple["MRR@20"] <= simple["P@20"]


def test_unknown_benchmarks_are_told_what_there_is(month: Path):
    with pytest.raises(InputError, match="there is no benchmark 'movielens'; there are\n  online-retail"):
        CliRunner().invoke(app, ["benchmark", "movielens", str(month)], catch_exceptions=False)
