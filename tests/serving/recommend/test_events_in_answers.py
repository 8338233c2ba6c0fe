"""How the stored events of a visitor change responses, over HTTP."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.common.clock import now
from models.bundle import Bundle
from models.recommender import BundleRecommender
from serving.event_store import EventStore, open_store
from tests.serving.databases import Postgres
from tests.serving.event_bodies import ago, event_body, post_events
from tests.serving.store_events import event


def recent_events(server: Any) -> list[tuple[str, str]]:
    """Items and names of the recent events in the last request to the recommender."""
    return [(item, name) for item, name, *_ in server.recommender.batches[-1][0].recent]


def test_an_acknowledged_event_changes_the_next_answer(event_server):
    def recent(**visitor: str) -> list[tuple[str, str]]:
        event_server.post({**visitor, "context": {"item_ids": ["shown"]}})
        return recent_events(event_server)

    assert recent(client_id="d1") == [("shown", "view_item")]
    post_events(event_server, event_body("view_item", "p1"))
    post_events(
        event_server, event_body("add_to_cart", "p2", customer_id="u1"), event_body("search", params={"items": []})
    )
    assert recent(client_id="d1") == [("p1", "view_item"), ("", "search"), ("shown", "view_item")]
    events = recent(client_id="d1", customer_id="u1")
    assert events[0] == ("p1", "view_item")
    assert sorted(events[1:3]) == [("", "search"), ("p2", "add_to_cart")]
    assert events[3] == ("shown", "view_item"), "the context counts as newest"
    assert recent(session_id="s") == [("shown", "view_item")]


def test_an_event_that_is_stored_and_in_the_context_counts_once(event_server):
    post_events(
        event_server,
        event_body("view_item", "seen"),
        event_body("view_item", "both"),
        event_body("add_to_cart", "both"),
    )
    post_events(event_server, event_body("add_to_cart", "quick"))
    context = {"item_ids": ["seen", "new", "quick"], "cart_item_ids": ["both", "seen"]}
    event_server.post({"client_id": "d1", "context": context})
    stored, from_context = recent_events(event_server)[:4], recent_events(event_server)[4:]
    assert set(stored) == {
        ("seen", "view_item"), ("both", "view_item"), ("both", "add_to_cart"), ("quick", "add_to_cart"),
    }  # fmt: skip
    assert from_context == [("new", "view_item"), ("quick", "view_item"), ("seen", "add_to_cart")]
    event_server.post({"client_id": "d9", "context": context})
    assert len(recent_events(event_server)) == 5, "of another visitor nothing is stored"


def test_events_change_the_ranking_of_a_real_bundle(serve: Callable, sqlite_store: EventStore, bundle: Bundle):
    server = serve(BundleRecommender(bundle), store=sqlite_store, visit_budget_ms=5000)
    viewed = bundle.snapshot.items.at(np.arange(3))

    def answer() -> tuple[list[str], str | None]:
        (result,) = server.post({"client_id": "d1", "limit": 20}).json()["results"]
        return [item["item_id"] for item in result["items"]], result["fallback"]

    before = answer()
    assert before[1] == {"why": "unknown_visitor", "to": "predictive"}
    assert post_events(server, *(event_body("view_item", i) for i in viewed)).json()["accepted"] == 3
    after = answer()
    assert after[1] in (None, {"why": "shortage", "to": "popular"}), "it is about the visit now"
    assert after[0] != before[0]


def test_events_before_the_snapshot_are_not_read_again(event_server):
    post_events(
        event_server, event_body("view_item", "old", timestamp=ago(days=2, seconds=60)), event_body("view_item", "new")
    )
    event_server.post({"client_id": "d1"})
    assert recent_events(event_server) == [("new", "view_item")]


class Failing(sqlite3.Connection):
    """A connection that reads of visits from a disk that fails: SQLite then ends the transaction itself."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if "ORDER BY timestamp" not in statement:
            return super().execute(statement, *values)
        super().execute("ROLLBACK")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error


def test_a_disk_that_fails_to_be_read_degrades_answers(
    serve: Callable, fake: type, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Failing))
    server = serve(fake(), store=open_store(sqlite_url), visit_budget_ms=5000)
    (result,) = server.post({"customer_id": "u1"}).json()["results"]
    assert (result["degraded"], result["fallback"], result["segment"]) == (True, None, "segment of u1")


def test_a_store_that_may_not_be_written_can_still_be_read(
    serve: Callable, fake: type, sqlite_store: EventStore, sqlite_url: str
):
    sqlite_store.append([event("view_item", now(), "p1")]).result(5)
    sqlite_store.close()
    with Path(sqlite_url).open("r+b") as file:
        file.seek(18)
        file.write(bytes([9]))  # a format that this SQLite may read and not write
    server = serve(fake(as_of=ago(days=2)), store=open_store(sqlite_url), visit_budget_ms=5000)
    refused = post_events(server, event_body())
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert "may not be written" in refused.json()["detail"]
    assert server.post({"client_id": "d1"}).json()["results"][0]["degraded"] is False
    assert recent_events(server) == [("p1", "view_item")]


def test_ids_that_no_event_can_have_are_ignored(serve: Callable, fake: type, postgres: Postgres):
    server = serve(fake(), store=open_store(postgres.database()), visit_budget_ms=5000)
    results = server.post({"client_id": "a\0b"}, {"client_id": "d1"}, {"customer_id": "'; DROP TABLE"}).json()[
        "results"
    ]
    assert [(r["degraded"], len(r["items"])) for r in results] == [(False, 12)] * 3
