import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features import log
from features.errors import InputError
from features.events import CATALOG_SCHEMA, EVENT_SCHEMA, REJECTED_SCHEMA, conform

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CATALOG, REJECTED = pl.DataFrame(schema=CATALOG_SCHEMA), pl.DataFrame(schema=REJECTED_SCHEMA)


def events(rows: int, price: float = 1.0) -> pl.DataFrame:
    frame = pl.DataFrame({
        "event_id": [f"e{i}" for i in range(rows)],
        "timestamp": [NOON + timedelta(minutes=i) for i in range(rows)],
        "price": [price] * rows,
    })  # fmt: skip
    return conform(frame.with_columns(name=pl.lit("view_item"), client_id=pl.lit("d")), EVENT_SCHEMA)


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "ROWS_PER_PART", 2)
    written = log.write(tmp_path / "deep" / "log", events(5), CATALOG, REJECTED)
    opened = log.EventLog.open(str(tmp_path / "deep" / "log"))
    assert opened == written
    assert opened.scan().collect().equals(events(5))
    assert len(list((opened.path / "events").iterdir())) == 3
    assert (opened.first, opened.last) == (NOON, NOON + timedelta(minutes=4))
    assert opened.catalog().schema == CATALOG_SCHEMA
    assert opened.rejected().schema == REJECTED_SCHEMA
    assert opened.info["rows"] == 5


@pytest.mark.parametrize("swap", [True, False])
def test_a_log_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool):
    if not swap:  # as on a system that cannot exchange two directories
        monkeypatch.setattr(log, "_exchange", lambda a, b: False)
    log.write(tmp_path / "log", events(3), CATALOG, REJECTED)
    log.write(tmp_path / "log", events(2, price=2.0), CATALOG, REJECTED)
    assert log.EventLog.open(tmp_path / "log").scan().collect().equals(events(2, price=2.0))
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_write_that_fails_leaves_the_old_log(tmp_path: Path):
    log.write(tmp_path / "log", events(3), CATALOG, REJECTED)
    with pytest.raises(InputError, match="no usable event"):
        log.write(tmp_path / "log", events(0), CATALOG, REJECTED)
    with pytest.raises(AttributeError):
        log.write(tmp_path / "log", events(1), None, REJECTED)  # type: ignore[arg-type]
    assert log.EventLog.open(tmp_path / "log").scan().collect().height == 3


def test_fingerprint_tells_logs_apart():
    same = log.fingerprint(events(3))
    assert same == log.fingerprint(events(3))
    others = [
        events(2),
        events(3, price=2.0),
        events(3).with_columns(timestamp=pl.col("timestamp") + pl.duration(microseconds=1)),
        events(3).with_columns(client_id=pl.lit("e")),
        events(3).with_columns(client_id=None, customer_id="client_id"),
        events(3).with_columns(item_id=pl.lit("i")),
    ]
    assert len({same, *map(log.fingerprint, others)}) == 1 + len(others)


def test_what_is_no_log(tmp_path: Path):
    with pytest.raises(InputError, match=r"does not exist; `usual ingest"):
        log.EventLog.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not an event log"):
        log.EventLog.open(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "log.json").write_text(text)
        with pytest.raises(InputError, match="damaged"):
            log.EventLog.open(tmp_path)
    (tmp_path / "log.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="format 99"):
        log.EventLog.open(tmp_path)
