"""An ingest in small pieces: partitions, runs and ranges of a few rows, so that every seam is crossed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.event_log import atomic_dir, dedup, partitions
from features.event_log.ingestion import compaction, quarantine, staging
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.log import EventLog
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform
from tests.features.batches import NOON, batch, events
from tests.features.event_log.ingestion.combined import combine_events


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", 6)
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(staging, "ROWS_PER_RUN", 4)
    monkeypatch.setattr(dedup, "HASHES_AT_ONCE", 5)
    monkeypatch.setattr(quarantine, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(atomic_dir, "sync", lambda path: None)  # no test here cuts the power


def ids(event_log: EventLog) -> list[str]:
    return event_log.scan().collect()["event_id"].to_list()


ROW = st.tuples(
    st.sampled_from("abcdefgh"),
    st.sampled_from([0, 0.25, 0.4, 1, 2, 2.1, 5, 9]),
    st.sampled_from([1.0, 2.0]),
)


@st.composite
def ingests(draw: st.DrawFn) -> tuple[list[tuple], list[list[pl.DataFrame]]]:
    """Some rows, and the same rows in another order as batches of several ingests."""
    rows = draw(st.lists(ROW, min_size=1, max_size=24))
    left, calls = draw(st.permutations(rows)), []
    while left:
        n = draw(st.integers(1, len(left)))
        call, left = left[:n], left[n:]
        size = draw(st.integers(1, 6))
        calls.append([events(*call[i : i + size]) for i in range(0, n, size)])
    return rows, calls


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ingests())
def test_the_log_does_not_depend_on_batches_and_order(example: tuple[list[tuple], list[list[pl.DataFrame]]]):
    rows, calls = example
    expected = combine_events(events(*rows))
    with TemporaryDirectory() as directory:
        together = ingest([batch(events(*rows))], Path(directory) / "together").log
        for call in calls:
            report = ingest(map(batch, call), Path(directory) / "log")
        assert report.log.fingerprint == together.fingerprint
        for event_log in (together, EventLog.open(Path(directory) / "log")):
            assert event_log.scan().collect().equals(expected)
            check_partitions(event_log)


def check_partitions(event_log: EventLog) -> None:
    """Whole days, in order, of a sensible size, and as the manifest says."""
    days: list[int] = []
    for partition in event_log.partitions:
        rows = pl.read_parquet(event_log.path / "events" / partition.file)
        own = sorted(set(dedup.days_of(rows).tolist()))
        assert rows.height == partition.rows
        assert rows.height <= partitions.ROWS_PER_PARTITION or len(own) == 1
        assert not days or days[-1] < own[0]
        days += own
    assert len(event_log.partitions) == len(list((event_log.path / "events").iterdir()))


def test_the_earliest_of_copies_on_several_days_is_kept(tmp_path: Path):
    """Copies of `a` on three days, in three batches of three ingests; the earliest comes last."""
    many = [(f"x{i}", i * 0.5) for i in range(20)]
    ingest([batch(events(*many, ("a", 8)))], tmp_path / "log")
    report = ingest([batch(events(("a", 9))), batch(events(("b", 1)))], tmp_path / "log")
    assert (report.kept, report.duplicates) == ({"view_item": 1}, 1)
    report = ingest([batch(events(("a", 3.1)))], tmp_path / "log")
    assert (report.kept, report.duplicates) == ({}, 1)
    rows = report.log.scan().filter(pl.col("event_id") == "a").collect()
    assert rows["timestamp"].to_list() == [NOON + timedelta(days=3.1)]
    assert report.log.info["rows"] == 22


def test_a_key_without_an_item_has_copies_too(tmp_path: Path):
    searches = events(("a", 0), ("a", 4), ("b", 4)).with_columns(
        name=pl.lit("search").cast(EVENT_SCHEMA["name"]), item_id=None
    )
    assert ids(ingest([batch(searches)], tmp_path / "log").log) == ["a", "b"]


@pytest.fixture
def grown(tmp_path: Path) -> EventLog:
    """Thirty rows on ten days: five partitions."""
    return ingest([batch(events(*((f"e{i:02d}", i // 3 + i % 3 / 10) for i in range(30))))], tmp_path / "log").log


def inodes(event_log: EventLog) -> dict[str, int]:
    return {p.file: (event_log.path / "events" / p.file).stat().st_ino for p in event_log.partitions}


def test_a_second_ingest_touches_no_partition(grown: EventLog):
    before = inodes(grown)
    assert len(before) == 5
    report = ingest([batch(grown.scan().collect())], grown.path)
    assert (report.kept, report.duplicates) == ({}, 30)
    assert report.log.info == grown.info
    assert inodes(report.log) == before


def test_a_later_day_leaves_earlier_partitions_alone(grown: EventLog):
    before = inodes(grown)
    after = inodes(ingest([batch(events(("new", 20)))], grown.path).log)
    assert before.items() < after.items()


def test_a_day_between_rewrites_only_its_partition(grown: EventLog):
    before = inodes(grown)
    after = inodes(ingest([batch(events(("new", 4)))], grown.path).log)
    assert len(before.items() & after.items()) == 4


def test_daily_ingests_do_not_make_a_file_a_day(tmp_path: Path):
    for day in range(12):
        event_log = ingest([batch(events((f"e{day}", day)))], tmp_path / "log").log
    assert len(event_log.partitions) == 2


def test_many_fresh_rows_within_one_partition(tmp_path: Path):
    ingest([batch(events(("first", 0), ("last", 40)))], tmp_path / "log")
    event_log = ingest([batch(events(*((f"e{i}", i / 2) for i in range(60))))], tmp_path / "log").log
    check_partitions(event_log)
    assert event_log.info["rows"] == 62


def test_a_day_larger_than_a_partition_is_one_partition(tmp_path: Path):
    event_log = ingest([batch(events(*((f"e{i}", i / 100) for i in range(20))))], tmp_path / "log").log
    assert [p.rows for p in event_log.partitions] == [20]


def rejected(source: str, *rows: int) -> pl.DataFrame:
    frame = pl.DataFrame({"row": rows}, schema={"row": pl.Int64})
    raw = pl.col("row").cast(pl.String)
    return conform(frame.with_columns(source=pl.lit(source), reason=pl.lit("bad"), raw=raw), REJECTED_SCHEMA)


def bad(*tables: pl.DataFrame) -> Iterator[ParsedBatch]:
    yield batch(events(("a", 0)))
    yield from (ParsedBatch(t.height, events(), t) for t in tables)


def test_rejected_rows_are_stored_once_each_by_source_and_row(tmp_path: Path):
    first = ingest(bad(rejected("b", *range(9, 0, -1)), rejected("a", 3, 700, 5)), tmp_path / "log")
    assert first.rejected == {"bad": 12}
    expected = [("a", 3), ("a", 5), ("a", 700), *(("b", n) for n in range(1, 10))]
    assert first.log.rejected().select("source", "row").rows() == expected
    again = ingest(bad(rejected("b", 4), rejected("c", 1), rejected("b", 3)), tmp_path / "log")
    assert again.rejected == {"bad": 3}
    assert again.log.rejected().select("source", "row").rows() == [*expected, ("c", 1)]
    assert again.log.info["rejected"] == 13


def test_a_rejected_row_without_source_and_number_is_not_lost(tmp_path: Path):
    table = rejected("b", 1).with_columns(source=pl.lit(None, pl.String), row=pl.lit(None, pl.Int64))
    assert ingest(bad(table, rejected("a", 2)), tmp_path / "log").log.info["rejected"] == 2


def test_links_are_stored_once_with_their_earliest_time(tmp_path: Path):
    def links(*rows: tuple[float, str, str | None]) -> ParsedBatch:
        table = pl.DataFrame(
            [(NOON + timedelta(days=d), "email", t, "d", c) for d, t, c in rows], schema=LINK_SCHEMA, orient="row"
        )
        return ParsedBatch(0, events(), links=table)

    ingest([batch(events(("a", 0))), links((3, "t1", "c"), (2, "t2", None))], tmp_path / "log")
    event_log = ingest([links((1, "t1", "c"), (5, "t2", None), (4, "t2", "c"))], tmp_path / "log").log
    stored = event_log.links()
    assert stored.schema == LINK_SCHEMA
    days = ((stored["at"] - NOON) / timedelta(days=1)).to_list()
    assert list(zip(days, stored["token"], stored["customer_id"], strict=True)) == [
        (1, "t1", "c"),
        (2, "t2", None),
        (4, "t2", "c"),
    ]
    assert event_log.info["links"] == 3
