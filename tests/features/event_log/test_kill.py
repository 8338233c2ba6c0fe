"""A log whose writer is killed, meets a second writer, or runs out of disk space."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log import atomic_dir, partitions
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.log import EventLog
from tests.features.batches import batch, events

ROOT = Path(__file__).resolve().parents[3]

# Ingests forty rows into a log of small partitions, cut short at the `when`-th of the calls that change what lies on
# the disk, or after so many seconds (with a point), or never.
WRITER = """
import features as features
import os, resource, signal, sys, threading, time
from pathlib import Path
from features.common.errors import InputError
from features.event_log import atomic_dir, partitions
from features.event_log.ingestion import compaction, staging
from features.event_log.ingestion.ingest import ingest
from tests.features.batches import batch, events

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def count_calls(call):
    def counting(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            die()
        return call(*args, **kwargs)
    return counting

def write(path, when, how):
    global left
    partitions.ROWS_PER_PARTITION, compaction.ROWS_AT_ONCE, staging.ROWS_PER_RUN = 6, 3, 8
    exchange = (lambda a, b: False) if how == "no exchange" else atomic_dir._exchange
    if how.isdigit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(how), int(how)))
    if "." in when:
        threading.Thread(target=lambda: (time.sleep(float(when)), die()), daemon=True).start()
    elif when != "never":
        left = int(when)
        exchange = count_calls(exchange)
        for name in ("fsync", "rename", "unlink", "link", "mkdir", "rmdir"):
            setattr(os, name, count_calls(getattr(os, name)))
    atomic_dir._exchange = exchange
    rows = [(f"n{i}", i / 4 - 1) for i in range(40)]
    try:
        ingest((batch(events(*rows[i : i + 5])) for i in range(0, 40, 5)), Path(path))
    except InputError as error:
        print(error, flush=True)

write(*sys.argv[1:])
"""
CALLS = 60
FRESH = events(*((f"n{i}", i / 4 - 1) for i in range(40)))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", 6)
    return ingest([batch(events(*((f"e{i}", i / 3) for i in range(30))))], tmp_path / "log").log


def write(path: Path, when: str, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), when, how],
        cwd=ROOT, env=os.environ | {"USUAL_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def check(path: Path, before: str, after: str) -> None:
    """The log is the old one or the new one, and its rows are what its manifest says."""
    event_log = EventLog.open(path)
    assert event_log.fingerprint in (before, after)
    assert event_log.scan().collect().height == event_log.info["rows"]
    assert event_log.catalog().is_empty()
    assert event_log.rejected().is_empty()


@pytest.mark.parametrize(("how", "kills"), [("exchange", 7), ("no exchange", 3)])
def test_a_kill_leaves_the_old_log_or_the_new_one(shop: EventLog, tmp_path: Path, how: str, kills: int):
    before = shop.fingerprint
    after = ingest([batch(pl.concat([shop.scan().collect(), FRESH]))], tmp_path / "whole" / "log").log.fingerprint
    moments = [*(str(n) for n in random.Random(7).sample(range(CALLS), kills)), "0.05"]
    places = [tmp_path / when for when in moments]
    for place in places:
        place.mkdir()
        shutil.copytree(shop.path, place / "log")
    writers = [write(place / "log", when, how) for place, when in zip(places, moments, strict=True)]
    for place, writer in zip(places, writers, strict=True):
        assert writer.wait(60) in (0, -signal.SIGKILL), writer.communicate()
        # Where two directories cannot be exchanged there is a moment without a log, which the next writer ends.
        if how == "exchange" or (place / "log").exists():
            check(place / "log", before, after)
        report = ingest([batch(FRESH)], place / "log")
        assert report.log.fingerprint == after
        assert [p.name for p in place.iterdir()] == ["log"]


def test_a_log_set_aside_by_a_killed_writer_comes_back(shop: EventLog):
    shop.path.rename(shop.path.with_name(".log.4711.old"))
    (shop.path.with_name(".log.4711.new") / "events").mkdir(parents=True)
    assert ingest([batch(FRESH)], shop.path).log.info["rows"] == 70
    assert [p.name for p in shop.path.parent.iterdir()] == ["log"]


def test_leftovers_of_other_logs_are_left_alone(shop: EventLog):
    for name in (".catalog.4711.new", ".log.new", ".log.x.tmp"):
        shop.path.with_name(name).mkdir()
    ingest([batch(FRESH)], shop.path)
    assert len(list(shop.path.parent.iterdir())) == 4


def test_a_second_writer_is_refused(shop: EventLog):
    def slow() -> Iterator[ParsedBatch]:
        yield batch(FRESH)
        with pytest.raises(InputError, match=rf"is being written by process {os.getpid()}; try again"):
            ingest([batch(FRESH)], shop.path)

    assert ingest(slow(), shop.path).log.info["rows"] == 70


def test_a_reader_sees_the_old_log_while_a_new_one_is_written(shop: EventLog):
    def batches() -> Iterator[ParsedBatch]:
        yield batch(FRESH)
        assert EventLog.open(shop.path).scan().collect().height == 30

    ingest(batches(), shop.path)
    assert EventLog.open(shop.path).scan().collect().height == 70


@pytest.mark.parametrize("kilobytes", [0, 4])
def test_a_full_disk_leaves_the_old_log(shop: EventLog, kilobytes: int):
    """A limit on the size of files stands in for a full disk."""
    output, errors = write(shop.path, "never", str(kilobytes * 1024)).communicate(timeout=60)
    assert "no space left to write" in output, errors
    check(shop.path, shop.fingerprint, shop.fingerprint)
    assert [p.name for p in shop.path.parent.iterdir()] == ["log"]


def test_a_mount_point_is_refused_before_any_work(shop: EventLog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == shop.path)
    with pytest.raises(InputError, match="is a mount point, which cannot be replaced; name a directory inside it"):
        ingest(iter([pytest.fail]), shop.path)  # type: ignore[list-item]


def test_a_directory_without_write_permission_leaves_the_old_log(shop: EventLog, monkeypatch: pytest.MonkeyPatch):
    def refuse(new: Path, path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(new))

    monkeypatch.setattr(atomic_dir, "_replace", refuse)
    with pytest.raises(InputError, match=r"cannot be written to; change its permissions .* as it was before"):
        ingest([batch(FRESH)], shop.path)
    check(shop.path, shop.fingerprint, shop.fingerprint)


def test_an_error_of_the_source_is_passed_on(shop: EventLog):
    def broken() -> Iterator[ParsedBatch]:
        yield batch(FRESH)
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/events.csv")

    with pytest.raises(PermissionError):
        ingest(broken(), shop.path)
    check(shop.path, shop.fingerprint, shop.fingerprint)
