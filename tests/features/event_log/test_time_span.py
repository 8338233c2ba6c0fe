from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.event_log.erase import erase
from features.event_log.identity_links import merge_client
from features.event_log.ingestion.ingest import IngestReport, IngestSettings, ParsedBatch, ingest
from features.event_log.log import EventLog
from features.event_log.schema import EVENT_SCHEMA, conform
from features.event_log.time_span import Body, find_body

START = datetime(2026, 1, 5, tzinfo=UTC)
BODY = {1000 + day: 5 for day in range(60)}


@pytest.mark.parametrize(
    ("strays", "body"),
    [
        ({}, None),
        ({0: 1}, Body(1000, 1059, 1, 0)),
        ({1074: 3}, Body(1000, 1059, 0, 3)),
        ({1074: 4}, None),  # more than 1% of 304 rows
        ({1072: 1}, None),  # a gap of 13 days
        ({0: 1, 9000: 1, 90000: 1}, Body(1000, 1059, 1, 2)),
    ],
)
def test_few_rows_beyond_a_long_gap_are_isolated(strays: dict[int, int], body: Body | None):
    assert find_body(BODY | strays) == body


def test_a_log_with_pauses_needs_a_longer_gap():
    pauses = {10 * day: 50 for day in range(40)}
    assert find_body(pauses | {480: 1}) is None
    assert find_body(pauses | {490: 1}) == Body(0, 390, 0, 1)


def test_in_a_small_log_one_row_can_be_isolated_if_there_are_ten():
    assert find_body({1: 9, 100: 1}) == Body(1, 1, 0, 1)
    assert find_body({1: 8, 100: 1}) is None
    assert find_body({1: 9, 100: 2}) is None
    assert find_body({1: 9, 90: 1}) is None  # a refund some weeks later
    assert find_body({}) is None


def events(*days: int, start: str = "e") -> pl.DataFrame:
    rows = {
        "event_id": [f"{start}{day}-{n}" for n, day in enumerate(days)],
        "timestamp": [START + timedelta(days=day, hours=n % 24) for n, day in enumerate(days)],
    }
    frame = pl.DataFrame(rows, schema_overrides={"timestamp": EVENT_SCHEMA["timestamp"]})
    constants = {"name": "view_item", "client_id": "d1", "item_id": "i1"}
    return conform(frame.with_columns(pl.lit(v).alias(c) for c, v in constants.items()), EVENT_SCHEMA)


def read(log: Path, frame: pl.DataFrame, all_times: bool | None = None) -> IngestReport:
    return ingest([ParsedBatch(frame.height, frame)], log, settings=IngestSettings(all_times=all_times))


def test_isolated_events_are_set_aside_and_named(tmp_path: Path):
    report = read(tmp_path / "log", events(*range(30), 30_000))
    opened = EventLog.open(tmp_path / "log")
    assert opened.scan().collect().height == opened.info["rows"] == 30
    assert opened.scan_all_times().collect().height == 31
    assert opened.last == START + timedelta(days=29, hours=5)
    (note,) = report.notes
    assert "1 row set aside, dated 2108-02-" in note
    assert "view_item of item i1" in note
    assert "--all-times" in note
    assert report.as_dict()["log"]["span"]["rows_after"] == 1
    assert report.kept == {"view_item": 31}


def test_all_times_is_kept_and_can_be_taken_back(tmp_path: Path):
    read(tmp_path / "log", events(*range(30), 30_000))
    whole = read(tmp_path / "log", events(0), all_times=True)
    assert whole.log.info["rows"] == whole.log.scan().collect().height == 31
    assert not whole.notes
    assert read(tmp_path / "log", events(0)).log.span is None
    aside = read(tmp_path / "log", events(0), all_times=False)
    assert aside.log.info["rows"] == 30
    assert aside.log.fingerprint != whole.log.fingerprint  # what is read differs


def test_later_events_can_bring_set_aside_ones_back(tmp_path: Path):
    first = read(tmp_path / "log", events(*range(60), 180))
    assert first.log.span
    more = read(tmp_path / "log", events(*range(181, 230), start="f"))
    assert more.log.span is None
    assert more.log.info["rows"] == 110


def test_a_set_aside_customer_can_be_erased_and_merged(tmp_path: Path):
    stray = events(30_000).with_columns(client_id=pl.lit("d2"), customer_id=pl.lit("ann"))
    read(tmp_path / "log", pl.concat([events(*range(30)), stray]))
    assert merge_client("d2", "ann", tmp_path / "log")
    assert EventLog.open(tmp_path / "log").span  # kept by a change of other tables
    erase("ann", tmp_path / "log")
    opened = EventLog.open(tmp_path / "log")
    assert opened.scan_all_times().collect().height == 30
    assert opened.span is None


def test_the_span_keeps_instants_of_the_body_exactly(tmp_path: Path):
    micros = timedelta(microseconds=123457)
    frame = events(*range(30), 30_000).with_columns(pl.col("timestamp") + micros)
    report = read(tmp_path / "log", frame)
    assert report.log.scan().collect()["timestamp"].to_list() == frame["timestamp"].to_list()[:-1]
