"""`Idempotency-Key`: a write that is sent again is not repeated."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from features.common.clock import DAY, now
from serving.event_store import EventStore, IdempotencyKey
from serving.event_store.store import merge_link
from tests.serving.api.test_problems import check
from tests.serving.conftest import RunningServer
from tests.serving.event_bodies import event_body, post_events

ITEMS = {"items": [{"item_id": "p1", "available": False}]}
MERGE = {"client_id": "d1", "customer_id": "u1"}
ERASE = {"customer_id": "u1"}


@pytest.fixture
def server(serve: Callable[..., RunningServer], fake: type, store: EventStore) -> RunningServer:
    return serve(fake(), store=store)


def ask(server: Any, path: str, body: object, key: str | None) -> Any:
    headers = {} if key is None else {"idempotency-key": key}
    method = "PATCH" if path == "/v1/items" else "POST"
    return server.client.request(method, path, json=body, headers=headers)


def replayed(response: Any) -> bool:
    assert response.status_code == 200, response.text
    return response.headers.get("idempotency-replayed") == "true"


def test_the_response_is_repeated(server: RunningServer) -> None:
    post_events(server, event_body(), event_body(customer_id="u1", client_id="d2"))
    for path, body in (("/v1/customers/merge", MERGE), ("/v1/customers/erase", ERASE), ("/v1/items", ITEMS)):
        key = str(uuid.uuid4())
        first, again = ask(server, path, body, key), ask(server, path, body, key)
        assert (replayed(first), replayed(again)) == (False, True)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
    assert ask(server, "/v1/customers/erase", ERASE, None).json()["events"] == 0


def test_the_write_is_not_repeated(server: RunningServer) -> None:
    key = str(uuid.uuid4())
    post_events(server, event_body(customer_id="u1"))
    assert ask(server, "/v1/customers/erase", ERASE, key).json()["events"] == 1
    post_events(server, event_body(customer_id="u1"))
    assert ask(server, "/v1/customers/erase", ERASE, key).json()["events"] == 1
    assert ask(server, "/v1/customers/erase", ERASE, None).json()["events"] == 1, "it was still there"


def test_an_old_patch_sent_again_does_not_undo_a_newer_one(server: RunningServer, store: EventStore) -> None:
    ask(server, "/v1/items", ITEMS, "first")
    ask(server, "/v1/items", {"items": [{"item_id": "p1", "available": True}]}, "second")
    assert replayed(ask(server, "/v1/items", ITEMS, "first"))
    assert [row.available for row in store.item_changes(0).result(5).rows] == [True]


def test_without_a_key_every_write_is_done(server: RunningServer) -> None:
    responses = [ask(server, "/v1/customers/merge", MERGE, None) for _ in range(2)]
    assert [a.json()["changed"] for a in responses] == [True, False]
    assert not any("idempotency-replayed" in a.headers for a in responses)


def test_the_same_key_with_another_request_is_a_conflict(server: RunningServer) -> None:
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    for path, body in (("/v1/customers/merge", MERGE | {"customer_id": "u2"}), ("/v1/customers/erase", ERASE)):
        problem = check(ask(server, path, body, "k1"), 409, "idempotency_conflict")
        assert "u1" not in str(problem)
        assert "u2" not in str(problem)
    assert replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))


def test_keys_are_shared_between_workers(
    server: RunningServer, serve: Callable[..., RunningServer], fake: type, open_: Callable
) -> None:
    other = serve(fake(), store=open_())
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    response = ask(other, "/v1/customers/merge", MERGE, "k1")
    assert (replayed(response), response.json()) == (True, {"changed": True})


def test_two_at_once_are_done_once(
    server: RunningServer, serve: Callable[..., RunningServer], fake: type, open_: Callable
) -> None:
    servers = [server, serve(fake(), store=open_())]
    for turn in range(5):
        responses: list[Any] = []
        body = {"client_id": f"d{turn}", "customer_id": "u1"}
        threads = [
            threading.Thread(target=lambda s=s: responses.append(ask(s, "/v1/customers/merge", body, f"k{turn}")))  # noqa: B023
            for s in servers * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(replayed, responses)) == [False, True, True, True]
        assert [a.json() for a in responses] == [{"changed": True}] * 4


def test_a_failed_request_may_be_corrected_and_sent_again(server: RunningServer) -> None:
    check(ask(server, "/v1/customers/merge", MERGE | {"customer_id": ""}, "k1"), 422, "invalid_request")
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))


def test_a_failed_write_leaves_no_response(store: EventStore) -> None:
    def fails(connection: Any) -> bytes:
        connection.link([merge_link("d1", "u1")])
        raise LookupError

    def succeeds(connection: Any) -> bytes:
        return b"%d" % connection.link([merge_link("d1", "u1")])

    key = IdempotencyKey(b"key", b"request")
    with pytest.raises(LookupError):
        store.write_once(key, fails).result(5)
    outcome = store.write_once(key, succeeds).result(5)
    assert outcome == (b"1", False), "neither the response nor what was written before it failed is there"


def test_keys_expire_after_a_day(server: RunningServer, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k2"))
    today = now()
    monkeypatch.setattr("features.common.clock.now", lambda: today + DAY - 60_000_000)
    assert replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    monkeypatch.setattr("features.common.clock.now", lambda: today + DAY + 60_000_000)
    response = ask(server, "/v1/customers/merge", MERGE, "k1")
    assert (replayed(response), response.json()) == (False, {"changed": False})
    assert store.purge().result(5) == 1, "k2; k1 is new"
    assert store.purge().result(5) == 0


def test_nothing_of_the_customer_is_stored(server: RunningServer, store: EventStore) -> None:
    ask(server, "/v1/customers/erase", {"customer_id": "somebody"}, "secret-idempotency-key")
    rows = store.write(lambda c: c._connection.execute("SELECT * FROM usual_answers").fetchall()).result(5)  # type: ignore[attr-defined]
    assert len(rows) == 1
    assert b"somebody" not in repr(rows).encode()
    assert b"secret-idempotency-key" not in repr(rows).encode()


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "k\u00e9y", "tab\there"])
def test_malformed_keys_are_refused(event_server: RunningServer, key: str) -> None:
    headers = {"idempotency-key": key.encode()}
    check(event_server.client.patch("/v1/items", json=ITEMS, headers=headers), 400, "bad_idempotency_key")


def test_events_need_no_idempotency_key(server: RunningServer) -> None:
    one = event_body()
    for status in ("accepted", "duplicates"):
        body = {"events": [one]}
        response = server.client.post("/v1/events", json=body, headers={"idempotency-key": "k1"})
        assert response.json()[status] == 1
