"""A store that is full or read-only, over HTTP: nothing lost is acknowledged, and recommendations go on."""

import ctypes
import os
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from features.common.clock import now
from serving.event_store import Limits, open_store
from tests.serving.databases import Postgres
from tests.serving.event_bodies import ago, event_body, post_events
from tests.serving.store_events import event, read_events
from tests.serving.test_faults import crowd_at, degraded, fine

Fault = Callable[[], AbstractContextManager[None]]


class Small(sqlite3.Connection):
    """A connection to a database that may have no page more than `pages`, as on a disk that is full."""

    pages = 2**30

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "BEGIN IMMEDIATE":
            super().execute(f"PRAGMA max_page_count = {self.pages}")
        return super().execute(statement, *values)


@pytest.fixture
def no_page_more(monkeypatch: pytest.MonkeyPatch) -> Fault:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **{"factory": Small} | more))

    @contextmanager
    def fault() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(Small, "pages", 1)
            yield

    return fault


@pytest.fixture
def no_byte_more(sqlite_url: str) -> Fault:
    """The system refuses to let the store's files grow; Python has told it not to end the process for that."""

    @contextmanager
    def fault() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        largest = max(file.stat().st_size for file in Path(sqlite_url).parent.glob("events.sqlite*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return fault


def assert_refused(response: httpx.Response, why: str) -> None:
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert why in response.json()["detail"]
    assert "nothing is acknowledged" in response.json()["detail"]


def recent_items(server: Any) -> list[str]:
    """Items of the visit of d1 that the recommender gets."""
    (result,) = server.post({"client_id": "d1"}).json()["results"]
    assert result["items"]
    assert not result["degraded"]
    requests = [r for batch in list(server.recommender.batches) for r in batch if r.customer_id is None]
    return [item for item, *_ in requests[-1].recent]


def many() -> list[dict[str, Any]]:
    return [event_body("search", client_id="d2", params={"items": [], "search_term": "x" * 900}) for _ in range(300)]


def accepted_before_long(server: Any, events: list[dict[str, Any]]) -> dict[str, Any]:
    end = time.monotonic() + 5
    while (answer := post_events(server, *events)).status_code == 503 and time.monotonic() < end:
        time.sleep(0.05)
    return dict(answer.json())


def counts(accepted: int = 0, duplicates: int = 0) -> dict[str, Any]:
    """The whole answer to events of which none is wrong or unproven."""
    return {"accepted": accepted, "duplicates": duplicates, "unproven": 0, "claims": 0, "rejected": []}


def check_fault(server: Any, url: str, fault: Fault, why: str) -> None:
    """Events posted during a fault are refused as a whole, and accepted after it as new ones."""
    first, events = event_body("view_item", "before"), many()
    assert post_events(server, first).json()["accepted"] == 1
    with crowd_at(server).asking() as crowd:
        crowd.until(fine)
        with fault():
            for _ in range(3):
                assert_refused(post_events(server, *events), why)
            assert recent_items(server) == ["before"], "what is there is still read"
            crowd.until(fine)
        assert read_events(url)["event_id"].to_list() == [first["event_id"]]
        assert accepted_before_long(server, events) == counts(accepted=300)
        crowd.until(fine)
    again = post_events(server, *events, first).json()
    assert again == counts(duplicates=301)
    assert not crowd.wrong
    assert not crowd.broken
    assert {status for status, *_ in crowd.outcomes} == {200}


def test_a_database_that_is_full(serve: Callable, fake: type, sqlite_url: str, no_page_more: Fault):
    server = serve(fake(as_of=ago(days=2)), store=open_store(sqlite_url), visit_budget_ms=5000)
    check_fault(server, sqlite_url, no_page_more, "no space left")


def test_files_that_may_not_grow(serve: Callable, fake: type, sqlite_url: str, no_byte_more: Fault):
    server = serve(fake(as_of=ago(days=2)), store=open_store(sqlite_url), visit_budget_ms=5000)
    check_fault(server, sqlite_url, no_byte_more, "its disk fails")  # as which SQLite sees it


@pytest.mark.parametrize("fault", ["no_page_more", "no_byte_more"])
def test_a_disk_that_fills_up_keeps_exactly_the_acknowledged_events(
    serve: Callable, fake: type, sqlite_url: str, fault: str, request: pytest.FixtureRequest
):
    """Many share a commit: all of it is there or nothing."""
    full: Fault = request.getfixturevalue(fault)
    server = serve(fake(), store=open_store(sqlite_url, Limits(write_s=5)))
    assert post_events(server, event_body()).status_code == 202
    batches = [many()[:7] for _ in range(80)]
    with full(), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda batch: post_events(server, *batch), batches))
    outcomes = [a.status_code for a in answers]
    assert set(outcomes) <= {202, 503}
    assert 503 in outcomes
    acknowledged = {e["event_id"] for b, s in zip(batches, outcomes, strict=True) if s == 202 for e in b}
    assert set(read_events(sqlite_url).filter(name="search")["event_id"]) == acknowledged
    again = [e for b, s in zip(batches, outcomes, strict=True) if s == 503 for e in b]
    assert accepted_before_long(server, again) == counts(accepted=len(again))


def without_privilege() -> None:
    """From now on file modes hold in this thread for root too."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, capabilities) == 0
        for set_ in (0, 1):  # effective, permitted
            capabilities[set_] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        assert libc.capset(header, capabilities) == 0


@pytest.mark.parametrize("closed", [False, True], ids=["after a crash", "after a stop"])
def test_a_file_and_a_directory_that_may_not_be_written(
    serve: Callable, fake: type, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
):
    """Without the files that SQLite keeps beside it, it cannot be read either: answers do without what was done."""
    store, there = open_store(sqlite_url), tmp_path / "mounted"
    store.append([event("view_item", now(), "before", event_id="first")]).result(5)
    if closed:
        store.close()
    there.mkdir()
    for file in tmp_path.glob("events.sqlite*"):
        shutil.copy(file, there)
    store.close()
    modes = [(file, 0o444) for file in there.iterdir()] + [(there, 0o555)]
    for path, mode in modes:
        path.chmod(mode)
    connect = sqlite3.connect

    def unprivileged(*args: Any, **options: Any) -> sqlite3.Connection:
        if threading.current_thread() is not threading.main_thread():
            without_privilege()
        return connect(*args, **options)

    monkeypatch.setattr("serving.event_store.sqlite.sqlite3.connect", unprivileged)
    url, events = str(there / "events.sqlite"), many()
    store = open_store(url)
    server = serve(fake(as_of=ago(days=2)), store=store, visit_budget_ms=5000)
    with crowd_at(server).asking() as crowd:
        for _ in range(3):
            assert_refused(post_events(server, *events), "may not be written")
        crowd.until(degraded if closed else fine)
        if not closed:
            assert recent_items(server) == ["before"]
        for path, mode in reversed(modes):
            path.chmod(mode | 0o200)
        if not closed:  # SQLite takes a file for read-only as long as it is open anywhere in the process
            store.close()
            server = serve(fake(as_of=ago(days=2)), store=open_store(url), visit_budget_ms=5000)
        assert accepted_before_long(server, events) == counts(accepted=300)
        if closed:
            crowd.until(fine)
    assert recent_items(server) == ["before"]
    assert read_events(url)["event_id"].n_unique() == 301
    assert not crowd.wrong
    assert not crowd.broken


def test_a_database_server_that_becomes_read_only(serve: Callable, fake: type, postgres: Postgres):
    """As providers do when its disk fills up."""
    url = postgres.database()

    def alter_database(statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as by_hand:
            by_hand.execute("SET default_transaction_read_only = off")
            by_hand.execute(f"ALTER DATABASE {by_hand.info.dbname} {statement}".encode())
            by_hand.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    @contextmanager
    def read_only() -> Iterator[None]:
        alter_database("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            alter_database("RESET default_transaction_read_only")

    server = serve(fake(as_of=ago(days=2)), store=open_store(url), visit_budget_ms=5000)
    check_fault(server, url, read_only, "may not be written")
