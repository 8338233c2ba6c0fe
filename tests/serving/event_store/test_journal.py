"""The journal of an open SQLite store is removed: nothing acknowledged is lost, whoever did it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.common.errors import InputError
from serving.event_store import EventStore, Limits, StoreUnavailable, VisitorIds, open_store
from tests.serving.store_events import FOR_EVER, T, event, read_events

QUICK = Limits(write_s=2.0, keep_days=FOR_EVER)
PARTS = [("-wal",), ("-shm",), ("-wal", "-shm")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[EventStore]:
    store = open_store(str(file), QUICK)
    yield store
    store.close()


def remove(file: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        Path(f"{file}{part}").unlink(missing_ok=True)


def on_disk(file: Path, tmp_path: Path) -> set[str]:
    """The ids that a process finds after the power was cut now: in a copy of the files as they are."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for part in file.parent.glob("events.sqlite*"):
        shutil.copy(part, copy / part.name)
    try:
        return set(read_events(str(copy / file.name))["event_id"])
    except InputError:  # the tables are still in the removed journal
        return set()


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_what_was_acknowledged_before_is_kept(store: EventStore, file: Path, tmp_path: Path, parts: tuple[str, ...]):
    assert store.append([event(event_id="before")]).result(5) == [True]
    assert len(store.visits([VisitorIds(None, "d1")], 0, T + 1, 5)[0]) == 1, "a second connection is open"
    remove(file, parts)
    assert store.append([event(event_id="after")]).result(5) == [True]
    assert on_disk(file, tmp_path) == {"before", "after"}
    assert store.append([event(event_id="before")]).result(5) == [False]
    assert len(store.visits([VisitorIds(None, "d1")], 0, T + 1, 5)[0]) == 2


def test_it_is_noticed_without_another_event(store: EventStore, file: Path, tmp_path: Path):
    assert store.append([event(event_id="last")]).result(5) == [True]
    remove(file, ("-wal", "-shm"))
    for _ in range(100):
        if "last" in on_disk(file, tmp_path):
            return
        time.sleep(0.1)
    pytest.fail("it was only in the removed journal")


def test_removed_again_and_again_under_load(store: EventStore, file: Path, tmp_path: Path):
    acknowledged: list[str] = []

    def append(worker: int) -> None:
        for n in range(30):
            name = f"{worker}-{n}"
            for _ in range(50):
                try:
                    store.append([event(event_id=name)]).result(5)
                    break
                except StoreUnavailable:
                    time.sleep(0.02)
            else:
                return
            acknowledged.append(name)

    workers = [threading.Thread(target=append, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        remove(file, ("-wal", "-shm"))
        with_reader = store.item_changes(0)
        time.sleep(0.5)
        with_reader.exception(5)
    store.append([event(event_id="end")]).result(5)
    store.close()  # or its next look at the files might take the journal from under the reader
    found = read_events(str(file))["event_id"].to_list()
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    assert len(acknowledged) == 90


_CHILD = """
import sys
from serving.event_store import Limits, open_store
from tests.serving.store_events import FOR_EVER, event
store, n = open_store(sys.argv[1], Limits(write_s=2.0, keep_days=FOR_EVER)), 0
while True:
    try:
        store.append([event(event_id=f"{sys.argv[2]}-{n}")]).result(5)
    except Exception:
        continue
    print(f"{sys.argv[2]}-{n}", flush=True)
    n += 1
"""


def test_two_processes_that_are_killed(file: Path, tmp_path: Path):
    root = Path(__file__).parents[3]
    outputs = [tmp_path / f"{name}.out" for name in "ab"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(file), output.stem],
            stdout=output.open("w"),
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        for output in outputs
    ]
    try:
        for _ in range(600):
            if all(len(output.read_text().split()) > 20 for output in outputs):
                break
            time.sleep(0.1)
        for _ in range(5):
            remove(file, ("-wal", "-shm"))
            time.sleep(0.5)
    finally:
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.wait(10)
    acknowledged = {line for output in outputs for line in output.read_text().split()}
    found = read_events(str(file))["event_id"].to_list()
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
