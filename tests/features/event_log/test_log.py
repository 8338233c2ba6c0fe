import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log import atomic_dir, log, partitions
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CATALOG, REJECTED = pl.DataFrame(schema=CATALOG_SCHEMA), pl.DataFrame(schema=REJECTED_SCHEMA)
MORE = {
    "received_at": NOON, "customer_id": "c", "session_id": "s", "item_id": "i", "quantity": 1.0, "currency": "EUR",
    "order_id": "o", "query": "q", "list_id": "l", "position": 3, "recommendation_id": "r", "source": "email",
    "device": "mobile", "country": "AT", "consent": False,
}  # fmt: skip


def events(rows: int, price: float = 1.0, hours: int = 8) -> pl.DataFrame:
    """`rows` events, one every `hours`; every other row has a value in every column."""
    frame = pl.DataFrame({
        "event_id": [f"e{i:03d}" for i in range(rows)],
        "timestamp": [NOON + timedelta(hours=hours * i) for i in range(rows)],
        "price": [price] * rows,
    })  # fmt: skip
    frame = frame.with_columns(name=pl.lit("view_item"), client_id=pl.lit("d"))
    odd = pl.int_range(pl.len()) % 2 == 1
    return conform(frame.with_columns(pl.when(odd).then(pl.lit(v)).alias(c) for c, v in MORE.items()), EVENT_SCHEMA)


def test_a_log_reads_back_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", 4)
    written = log.write(tmp_path / "deep" / "log", events(9), CATALOG, REJECTED)
    opened = log.EventLog.open(str(tmp_path / "deep" / "log"))
    assert opened == written
    table = opened.scan().collect()
    assert table.equals(events(9))
    assert table.schema == EVENT_SCHEMA
    assert (opened.first, opened.last) == (NOON, NOON + timedelta(hours=64))
    assert opened.catalog().schema == CATALOG_SCHEMA
    assert opened.rejected().schema == REJECTED_SCHEMA
    assert opened.links().schema == LINK_SCHEMA
    assert opened.info["rows"] == 9


def test_partitions_are_whole_days_in_name_order_and_the_manifest_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", 4)
    # Two on the first day, then three a day, one on the last.
    event_log = log.write(tmp_path / "log", events(9), CATALOG, REJECTED)
    files = sorted((tmp_path / "log" / "events").iterdir())
    assert [f.name for f in files] == [p.file for p in event_log.partitions]
    assert [p.rows for p in event_log.partitions] == [2, 3, 4]
    assert pl.concat([pl.read_parquet(f) for f in files]).select(*EVENT_SCHEMA).equals(events(9))
    days = [set(pl.read_parquet(f)["timestamp"].dt.date()) for f in files]
    assert [len(d) for d in days] == [1, 1, 2]
    assert [p.first[:10] for p in event_log.partitions] == ["2024-05-01", "2024-05-02", "2024-05-03"]


def test_a_scan_goes_by_the_manifest(tmp_path: Path):
    event_log = log.write(tmp_path / "log", events(3), CATALOG, REJECTED)
    events(5).write_parquet(tmp_path / "log" / "events" / "part-00000000-stray.parquet")
    assert event_log.scan().collect().height == 3


@pytest.mark.parametrize("swap", [True, False])
def test_a_log_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool):
    if not swap:  # as on a system that cannot exchange two directories
        monkeypatch.setattr(atomic_dir, "_exchange", lambda a, b: False)
    log.write(tmp_path / "log", events(3), CATALOG, REJECTED)
    log.write(tmp_path / "log", events(2, price=2.0), CATALOG, REJECTED)
    assert log.EventLog.open(tmp_path / "log").scan().collect().equals(events(2, price=2.0))
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_log_may_be_reached_by_a_link(tmp_path: Path):
    log.write(tmp_path / "real", events(3), CATALOG, REJECTED)
    (tmp_path / "log").symlink_to("real")
    log.write(tmp_path / "log", events(2), CATALOG, REJECTED)
    assert (tmp_path / "log").is_symlink()
    assert log.EventLog.open(tmp_path / "real").info["rows"] == 2


def test_a_write_that_fails_leaves_the_old_log(tmp_path: Path):
    log.write(tmp_path / "log", events(3), CATALOG, REJECTED)
    with pytest.raises(InputError, match="no usable event"):
        log.write(tmp_path / "log", events(0), CATALOG, REJECTED)
    with pytest.raises(AttributeError):
        log.write(tmp_path / "log", events(1), None, REJECTED)  # type: ignore[arg-type]
    assert log.EventLog.open(tmp_path / "log").scan().collect().height == 3
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_the_fingerprint_does_not_depend_on_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prints = set()
    for rows in (1, 4, 100):
        monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", rows)
        prints.add(log.write(tmp_path / "log", events(30), CATALOG, REJECTED).fingerprint)
    # A fixed value: another process, machine or version must compute the same for these rows.
    assert prints == {"8c504e5295b98021"}


def test_the_fingerprint_sees_every_value(tmp_path: Path):
    def fingerprint(table: pl.DataFrame) -> str:
        return log.write(tmp_path / "log", table, CATALOG, REJECTED).fingerprint

    same = events(3)
    others = [
        events(2),
        same.with_columns(timestamp=pl.col("timestamp") + pl.duration(microseconds=1)),
        same.with_columns(client_id=None, customer_id="client_id"),
        same.with_columns(pl.lit("e").alias("item_id"), pl.lit("i").alias("event_id")),
    ]
    for column, dtype in EVENT_SCHEMA.items():
        if column not in ("event_id", "timestamp"):
            changed = pl.lit(None) if same[column].null_count() == 0 else pl.col(column).first()
            others.append(same.with_columns(changed.cast(dtype).alias(column)))
            if same[column].null_count():
                others.append(same.with_columns(pl.col(column).drop_nulls().first().alias(column)))
    distinct = {str(t.to_dicts()) for t in [same, *others]}
    assert len({fingerprint(t) for t in [same, *others]}) == len(distinct) > 30


def test_a_directory_that_is_not_a_log(tmp_path: Path):
    with pytest.raises(InputError, match=r"does not exist; `usual ingest"):
        log.EventLog.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not an event log"):
        log.EventLog.open(tmp_path)
    (tmp_path / "orders.csv").write_text("")
    with pytest.raises(InputError, match=r"is a file, not an event log; `usual ingest events .*orders\.csv --out log`"):
        log.EventLog.open(tmp_path / "orders.csv")
    for text in ("{", "[]", "{}", '{"format": 3}', '{"format": 3, "parts": [{"file": "a"}]}'):
        (tmp_path / "log.json").write_text(text)
        with pytest.raises(InputError, match="damaged"):
            log.EventLog.open(tmp_path)
    (tmp_path / "log.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="format 99"):
        log.EventLog.open(tmp_path)


@pytest.mark.parametrize("name", ["catalog.parquet", "links.parquet", "rejected.parquet", "partition"])
def test_the_error_names_a_missing_or_damaged_file(tmp_path: Path, name: str):
    event_log = log.write(tmp_path / "log", events(3), CATALOG, REJECTED)
    file = event_log.path / "events" / event_log.partitions[0].file if name == "partition" else event_log.path / name
    if name != "partition":
        file.write_bytes(b"not Parquet")
        opened = log.EventLog.open(event_log.path)
        with pytest.raises(InputError, match=f"{name} is damaged"):
            {"catalog.parquet": opened.catalog, "links.parquet": opened.links, "rejected.parquet": opened.rejected}[
                name
            ]()
    file.unlink()
    with pytest.raises(InputError, match="is missing"):
        log.EventLog.open(event_log.path)


def test_a_log_of_an_old_format_is_refused(tmp_path: Path):
    (tmp_path / "log.json").write_text(json.dumps({"format": 1, "rows": 3}))
    with pytest.raises(InputError, match=r"format 1, this version reads 4; .*ingest its sources again"):
        log.EventLog.open(tmp_path)
