"""A store that is full, locked, read-only, damaged, deleted or stopped: typed errors, and recovery by itself."""

import logging
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from features.common.errors import InputError
from serving.event_store import EventStore, Limits, StoreUnavailable, VisitorIds, open_store
from tests.serving.databases import Postgres
from tests.serving.store_events import FOR_EVER, T, event, read_events

QUICK = Limits(write_s=0.5, keep_days=FOR_EVER)
CLIENT = VisitorIds(None, "d1")


def refused(store: EventStore) -> str:
    """The reason why the store refuses an event."""
    with pytest.raises(StoreUnavailable) as error:
        store.append([event()]).result(5)
    return error.value.reason


def recovers(store: EventStore) -> bool:
    """Whether the store accepts an event before long."""
    for _ in range(100):
        try:
            return store.append([event()]).result(5) == [True]
        except StoreUnavailable:
            time.sleep(0.05)
    return False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[EventStore]:
    store = open_store(str(file), QUICK)
    assert store.append([event()]).result(5) == [True]
    yield store
    store.close()


def test_no_space_left(store: EventStore, file: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = [event(query="x" * 1000) for _ in range(500)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100_000, limits[1]))
    try:
        with pytest.raises(StoreUnavailable) as error:
            store.append(large).result(5)
        assert error.value.reason in ("full", "down")  # the limit shows as an input/output error
        assert len(store.visits([CLIENT], 0, T + 1, 5)[0]) == 1, "what is there can still be read"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert recovers(store)
    assert read_events(str(file)).height == 2
    assert sum(store.append(large).result(5)) == 500, "no deduplication key of a failed append is kept"


def test_the_database_is_full(store: EventStore, file: Path, monkeypatch: pytest.MonkeyPatch):
    connect = sqlite3.connect

    def small(*args, **options):
        connection = connect(*args, **options)
        connection.execute("PRAGMA max_page_count = 30")
        return connection

    store.close()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        other = open_store(str(file), QUICK)
        with pytest.raises(StoreUnavailable, match="full"):
            other.append([event(query="x" * 1000) for _ in range(200)]).result(5)
    assert recovers(other)
    other.close()


def test_a_file_that_may_not_be_written(store: EventStore, file: Path):
    store.close()
    content = bytearray(file.read_bytes())
    assert content[18] == 2
    content[18] = 9  # a format that this SQLite may read and not write
    file.write_bytes(content)
    other = open_store(str(file), QUICK)
    assert refused(other) == "read_only"
    assert len(other.visits([CLIENT], 0, T + 1, 5)[0]) == 1
    content[18] = 2
    file.write_bytes(content)
    assert recovers(other)
    other.close()


def test_a_file_that_another_process_locks(store: EventStore, file: Path):
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert refused(store) == "slow"
        assert time.monotonic() - begun < 3
        assert len(store.visits([CLIENT], 0, T + 1, 5)[0]) == 1
        other.execute("ROLLBACK")
    assert recovers(store)


def test_a_deleted_file_is_created_again(store: EventStore, file: Path):
    """What is written to a deleted file is not there: it must not be acknowledged."""
    assert len(store.visits([CLIENT], 0, T + 1, 5)[0]) == 1
    for part in file.parent.glob("events.sqlite*"):
        part.unlink()
    assert store.append([event(event_id="after")]).result(5) == [True]
    assert [t.event_id for t in store.visits([CLIENT], 0, T + 1, 5)[0]] == ["after"]
    assert read_events(str(file))["event_id"].to_list() == ["after"]


def test_a_damaged_file(store: EventStore, file: Path):
    store.close()
    for part in file.parent.glob("events.sqlite-*"):
        part.unlink()
    file.write_bytes(b"no database" * 1000)
    other = open_store(str(file), QUICK)
    assert refused(other) == "down"
    file.unlink()
    assert recovers(other)
    other.close()


def test_a_new_file_is_readable_by_its_owner_only(store: EventStore, file: Path):
    parts = list(file.parent.glob("events.sqlite*"))
    assert len(parts) == 3
    assert {part.stat().st_mode & 0o777 for part in parts} == {0o600}
    store.close()
    file.chmod(0o640)
    other = open_store(str(file), QUICK)
    assert recovers(other)
    other.close()
    assert file.stat().st_mode & 0o777 == 0o640, "what is there already stays as it is"


def test_dropped_tables_are_created_again(store: EventStore, file: Path, postgres: Postgres):
    shared = open_store(url := postgres.database(), Limits(keep_days=FOR_EVER))
    assert recovers(shared)

    def by_hand(statement: str) -> None:
        with sqlite3.connect(file) as one, psycopg.connect(url) as other:
            one.execute(statement)
            other.execute(statement)

    for each in (store, shared):
        assert len(each.visits([CLIENT], 0, T + 1, 5)[0]) == 1
    by_hand("DROP TABLE usual_events")
    for each in (store, shared):
        assert each.visits([CLIENT], 0, T + 1, 5) == [[]], "they are created again"
        assert recovers(each)
    by_hand("ALTER TABLE usual_events DROP COLUMN query")
    assert [refused(store), refused(shared)] == ["down", "down"]
    shared.close()


def test_a_failed_purge_is_logged(store: EventStore, file: Path, caplog: pytest.LogCaptureFixture):
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="slow"):
            store.purge().result(5)
        other.execute("ROLLBACK")
    store.close()  # by then it is logged
    with pytest.raises(StoreUnavailable, match="closed"):
        store.purge().result(5)
    logged = [r for r in caplog.records if "could not be removed" in r.getMessage()]
    assert [r.levelname for r in logged] == ["ERROR"], "that a server stops is no fault"


def test_a_path_below_a_file(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    store = open_store(str(tmp_path / "taken" / "events.sqlite"), QUICK)
    assert refused(store) == "down"
    (tmp_path / "taken").unlink()
    assert recovers(store)
    store.close()


def test_a_full_queue_is_busy(file: Path):
    store = open_store(str(file), Limits(write_s=2, max_waiting=20, keep_days=FOR_EVER))
    store.append([event()]).result(5)
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        futures = [store.append([event() for _ in range(10)]) for _ in range(10)]
        waiting = [f for f in futures if not f.done()]
        assert 1 <= len(waiting) <= 4
        with pytest.raises(StoreUnavailable, match="busy"):
            futures[-1].result(0)
        other.execute("ROLLBACK")
    assert all(sum(f.result(5)) == 10 for f in waiting)
    store.close()


class Stuck:
    """A connection whose reads hang."""

    def __init__(self) -> None:
        self.calls = 0

    def visits(self, *_: object) -> list[list]:
        self.calls += 1
        time.sleep(0.6)
        return [[]]

    def close(self) -> None: ...


def test_a_read_that_hangs_costs_its_budget_once():
    connection = Stuck()
    store = EventStore(lambda: connection, QUICK)  # type: ignore[arg-type,return-value]
    begun = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreUnavailable, match="slow"):
            store.visits([CLIENT], 0, 1, within_s=0.05)
    assert time.monotonic() - begun < 0.3
    assert connection.calls == 1
    time.sleep(0.7)
    assert store.visits([CLIENT], 0, 1, within_s=1) == [[]]
    store.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that may be stopped."""
    server = Postgres(tmp_path_factory.mktemp("own"))
    yield server
    server.close()


def test_a_database_that_stops_and_starts(own: Postgres, caplog: pytest.LogCaptureFixture):
    url = own.database()
    store = open_store(url, QUICK)
    assert store.append([event()]).result(5) == [True]
    assert len(store.visits([CLIENT], 0, T + 1, 5)[0]) == 1
    own.stop()
    try:
        with caplog.at_level(logging.INFO):
            assert refused(store) == "down"
            with pytest.raises(StoreUnavailable, match="down"):
                store.visits([CLIENT], 0, T + 1, 5)
    finally:
        own.start()
    assert recovers(store)
    assert len(store.visits([CLIENT], 0, T + 1, 5)[0]) == 2
    assert read_events(url).height == 2
    assert "available" in caplog.text
    assert "shop" not in caplog.text
    store.close()


def test_a_restart_between_writes_is_not_noticed(own: Postgres):
    store = open_store(own.database(), QUICK)
    store.append([event()]).result(5)
    own.stop()
    own.start()
    assert store.append([event()]).result(5) == [True]
    store.close()


def test_a_database_that_is_read_only_or_locked(postgres: Postgres):
    url = postgres.database()
    store = open_store(url, QUICK)
    store.append([event()]).result(5)
    read_only = open_store(url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20"), QUICK)
    assert refused(read_only) == "read_only"
    assert len(read_only.visits([CLIENT], 0, T + 1, 5)[0]) == 1
    read_only.close()
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE usual_events")
        assert refused(store) == "slow"
        with pytest.raises(StoreUnavailable, match="slow"):
            store.visits([CLIENT], 0, T + 1, within_s=0.1)
    assert recovers(store)
    store.close()


def test_errors_do_not_name_the_database(caplog: pytest.LogCaptureFixture):
    store = open_store("postgresql://teller:hush@127.0.0.1:1/vault", QUICK)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable, match="down") as error:
        store.append([event()]).result(5)
    store.close()
    with pytest.raises(InputError, match="cannot be read") as unreadable:
        open_store("postgresql://teller:hush@[::1", QUICK)
    for secret in ("teller", "hush", "vault"):
        assert secret not in caplog.text + str(error.value) + str(unreadable.value)
