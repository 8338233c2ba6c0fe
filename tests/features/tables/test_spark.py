"""The same tables from the same log on both engines."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from features.common.clock import DAY, micros
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog, write
from features.sources import SimulatorConfig, read
from features.tables.bots import PER_HOUR
from features.tables.build import Tables, build_tables
from features.tables.engines import open_engine
from tests.features.event_log.ingestion.combined import combine_events
from tests.features.shop import TABLES

# Everything that the simulator has, at rates that show in a small log.
ODD_SHOP = SimulatorConfig(
    customers=150, visitors_per_customer=1, items=60, days=60, sessions_per_customer=10, conversion=0.15, bots=0.2,
    refunds=0.2, wishlists=0.05, abandoned=0.05, shared_devices=0.2, refused=0.05, quizzes=0.5,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[3]
needs_spark = pytest.mark.skipif(
    not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="Spark needs Java 17 or later: make system-test"
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    directory = tmp_path_factory.mktemp("spark")
    simulated = ingest(read("simulated", config=ODD_SHOP), directory / "simulated").log
    events = simulated.scan().collect()
    parts = [events, *reported_again(events), too_fast_on_a_shared_device(events), *made_up(events)]
    return write(
        directory / "log", combine_events(pl.concat(parts)), simulated.catalog(), pl.DataFrame(), simulated.links()
    )


def reported_again(events: pl.DataFrame) -> list[pl.DataFrame]:
    """Orders and refunds once more, an hour and eight days later, each as an event of its own."""
    money = events.filter(pl.col("name").cast(pl.String).is_in(["purchase", "refund"])).gather_every(3)
    return [
        money.with_columns(pl.col("event_id") + f"-after-{later}", pl.col("timestamp") + later)
        for later in (timedelta(hours=1), timedelta(days=8))
    ]


def too_fast_on_a_shared_device(events: pl.DataFrame) -> pl.DataFrame:
    """A customer and somebody without an id, each with more pages in an hour than a person's."""
    people = events["customer_id"].drop_nulls().unique().sort().head(3).to_list()
    view = events.filter(pl.col("name").cast(pl.String) == "view_item").head(1)
    pages = pl.DataFrame(
        {"customer_id": [*people, *2 * (PER_HOUR + 1) * [people[0], None]]}, schema={"customer_id": str}
    )
    return pages.join(view.drop("customer_id"), how="cross").select(
        pl.format("kiosk-{}", pl.int_range(pl.len())).alias("event_id"),
        pl.all().exclude("event_id", "client_id"),
        client_id=pl.lit("kiosk"),
    ).select(events.columns)  # fmt: skip


def made_up(events: pl.DataFrame) -> list[pl.DataFrame]:
    """Views of a device that proved nothing, and an order at a trillion."""
    view, order = (events.filter(pl.col("name").cast(pl.String) == name).head(1) for name in ("view_item", "purchase"))
    return [
        view.with_columns(event_id=pl.lit("unproven"), customer_id=pl.lit(None, pl.String), client_id=pl.lit("~d1")),
        view.with_columns(event_id=pl.lit("beside"), customer_id=pl.lit("somebody"), client_id=pl.lit("~d1")),
        order.with_columns(event_id=pl.lit("absurd"), order_id=pl.lit("absurd"), price=pl.lit(1e12)),
    ]


def as_of(log: EventLog) -> int:
    return micros(log.last) - 5 * DAY


@pytest.fixture(scope="module")
def both(log: EventLog) -> tuple[Tables, Tables]:
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed: make spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")  # this run is over before more compiling pays
        engine = open_engine("local[2]")
    try:
        return build_tables(log, as_of(log)), build_tables(log, as_of(log), engine)
    finally:
        engine.close()  # type: ignore[attr-defined]


@needs_spark
@pytest.mark.parametrize("name", TABLES)
def test_polars_and_spark_build_the_same_table(both: tuple[Tables, Tables], name: str):
    ours, theirs = (getattr(tables, name) for tables in both)
    assert theirs.schema == ours.schema
    assert theirs.height == ours.height > 0
    for column, dtype in ours.schema.items():
        a, b = ours[column], theirs[column]
        assert a.is_null().equals(b.is_null()), column
        if dtype.is_float():
            apart = ((a - b).abs() > 1e-9 * a.abs()).fill_null(False)
            assert not apart.any(), (column, a.filter(apart).head(3).to_list(), b.filter(apart).head(3).to_list())
        else:
            assert a.equals(b), column


@needs_spark
def test_the_same_is_left_out(both: tuple[Tables, Tables]):
    assert both[0].left_out == both[1].left_out


@needs_spark
def test_fitted_models_are_the_same(both: tuple[Tables, Tables]):
    assert both[0].cut_points == both[1].cut_points
    assert both[0].lifetime == both[1].lifetime


def test_the_log_has_values_on_which_engines_differ(log: EventLog):
    """Otherwise the comparison proves little."""
    events = log.scan().collect()
    assert events["name"].n_unique() == 13
    for column in ("customer_id", "session_id", "item_id", "order_id", "price"):
        assert events[column].null_count() > 0, column
    assert (~events["consent"].fill_null(True)).any()
    assert log.links().height > 0
    tables = build_tables(log, as_of(log))
    assert {"client_id": "kiosk", "customer_id": None} in tables.bots.select("client_id", "customer_id").to_dicts()
    assert tables.bots["customer_id"].count() == 1
    assert set(tables.bots["reason"]) == {"bot", "burst", "unproven"}
    assert tables.left_out.bounded_orders == 1
    assert tables.left_out.repeated_orders > 0
    assert tables.shared_devices.height > 1
    shared = events.drop_nulls(["client_id", "customer_id"]).group_by("client_id").agg(pl.col("customer_id").n_unique())
    assert (shared["customer_id"] > 1).any()


def test_an_unknown_engine_is_named_in_the_error():
    with pytest.raises(InputError, match="unknown engine 'dask'; there are polars, spark"):
        open_engine("dask")


def test_without_pyspark_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(InputError, match=r"pip install 'the-usual\[spark\]'"):
        open_engine("spark")


def test_importing_the_features_does_not_import_pyspark():
    code = "import sys; from features.tables import build, engines; engines.open_engine('polars'); "
    code += "print('pyspark' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "False", result.stderr
