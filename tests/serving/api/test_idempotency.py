"""`Idempotency-Key`: what is sent again is not done again."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from features.common.clock import DAY
from serving.event_store import EventStore
from serving.event_store import store as clock
from tests.serving.api.test_problems import check
from tests.serving.conftest import Server
from tests.serving.sending import post, sent

ITEMS = {"items": [{"item_id": "p1", "available": False}]}
MERGE = {"client_id": "d1", "customer_id": "u1"}
ERASE = {"customer_id": "u1"}


@pytest.fixture
def server(serve: Callable[..., Server], fake: type, store: EventStore) -> Server:
    return serve(fake(), store=store)


def ask(server: Any, path: str, body: object, key: str | None) -> Any:
    headers = {} if key is None else {"idempotency-key": key}
    method = "PATCH" if path == "/v1/items" else "POST"
    return server.client.request(method, path, json=body, headers=headers)


def replayed(answer: Any) -> bool:
    assert answer.status_code == 200, answer.text
    return answer.headers.get("idempotency-replayed") == "true"


def test_the_same_answer_again(server: Server) -> None:
    post(server, sent(), sent(customer_id="u1", client_id="d2"))
    for path, body in (("/v1/customers/merge", MERGE), ("/v1/customers/erase", ERASE), ("/v1/items", ITEMS)):
        key = str(uuid.uuid4())
        first, again = ask(server, path, body, key), ask(server, path, body, key)
        assert (replayed(first), replayed(again)) == (False, True)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
    assert ask(server, "/v1/customers/erase", ERASE, None).json()["events"] == 0


def test_it_is_not_done_again(server: Server) -> None:
    key = str(uuid.uuid4())
    post(server, sent(customer_id="u1"))
    assert ask(server, "/v1/customers/erase", ERASE, key).json()["events"] == 1
    post(server, sent(customer_id="u1"))
    assert ask(server, "/v1/customers/erase", ERASE, key).json()["events"] == 1
    assert ask(server, "/v1/customers/erase", ERASE, None).json()["events"] == 1, "it was still there"


def test_an_old_patch_that_is_sent_again_takes_nothing_back(server: Server, store: EventStore) -> None:
    ask(server, "/v1/items", ITEMS, "first")
    ask(server, "/v1/items", {"items": [{"item_id": "p1", "available": True}]}, "second")
    assert replayed(ask(server, "/v1/items", ITEMS, "first"))
    assert [row.available for row in store.item_changes(0).result(5).rows] == [True]


def test_without_a_key_all_is_done(server: Server) -> None:
    answers = [ask(server, "/v1/customers/merge", MERGE, None) for _ in range(2)]
    assert [a.json()["changed"] for a in answers] == [True, False]
    assert not any("idempotency-replayed" in a.headers for a in answers)


def test_the_same_key_for_something_else(server: Server) -> None:
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    for path, body in (("/v1/customers/merge", MERGE | {"customer_id": "u2"}), ("/v1/customers/erase", ERASE)):
        problem = check(ask(server, path, body, "k1"), 409, "idempotency_conflict")
        assert "u1" not in str(problem)
        assert "u2" not in str(problem)
    assert replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))


def test_another_worker_knows_it(server: Server, serve: Callable[..., Server], fake: type, open_: Callable) -> None:
    other = serve(fake(), store=open_())
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    answer = ask(other, "/v1/customers/merge", MERGE, "k1")
    assert (replayed(answer), answer.json()) == (True, {"changed": True})


def test_two_at_once_are_one(server: Server, serve: Callable[..., Server], fake: type, open_: Callable) -> None:
    servers = [server, serve(fake(), store=open_())]
    for turn in range(5):
        answers: list[Any] = []
        body = {"client_id": f"d{turn}", "customer_id": "u1"}
        threads = [
            threading.Thread(target=lambda s=s: answers.append(ask(s, "/v1/customers/merge", body, f"k{turn}")))  # noqa: B023
            for s in servers * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(replayed, answers)) == [False, True, True, True]
        assert [a.json() for a in answers] == [{"changed": True}] * 4


def test_what_failed_may_be_sent_again_mended(server: Server) -> None:
    check(ask(server, "/v1/customers/merge", MERGE | {"customer_id": ""}, "k1"), 422, "invalid_request")
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))


def test_what_the_store_did_not_do_is_not_answered_for(store: EventStore) -> None:
    def fails(connection: Any) -> bytes:
        connection.link([clock.merger("d1", "u1")])
        raise LookupError

    once = clock.Once(b"key", b"asked")
    with pytest.raises(LookupError):
        store.once(once, fails).result(5)
    done = store.once(once, lambda connection: b"%d" % connection.link([clock.merger("d1", "u1")])).result(5)
    assert done == (b"1", False), "neither the answer nor what was written before it failed is there"


def test_a_day_later_it_is_new(server: Server, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    assert not replayed(ask(server, "/v1/customers/merge", MERGE, "k2"))
    today = clock.now()
    monkeypatch.setattr(clock, "now", lambda: today + DAY - 60_000_000)
    assert replayed(ask(server, "/v1/customers/merge", MERGE, "k1"))
    monkeypatch.setattr(clock, "now", lambda: today + DAY + 60_000_000)
    answer = ask(server, "/v1/customers/merge", MERGE, "k1")
    assert (replayed(answer), answer.json()) == (False, {"changed": False})
    assert store.purge().result(5) == 1, "k2; k1 is new"
    assert store.purge().result(5) == 0


def test_nothing_of_the_customer_is_kept(server: Server, store: EventStore) -> None:
    ask(server, "/v1/customers/erase", {"customer_id": "somebody"}, "secret-idempotency-key")
    rows = store.write(lambda c: c._connection.execute("SELECT * FROM usual_answers").fetchall()).result(5)  # type: ignore[attr-defined]
    assert len(rows) == 1
    assert b"somebody" not in repr(rows).encode()
    assert b"secret-idempotency-key" not in repr(rows).encode()


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "k\u00e9y", "tab\there"])
def test_a_key_that_is_none(event_server: Server, key: str) -> None:
    headers = {"idempotency-key": key.encode()}
    check(event_server.client.patch("/v1/items", json=ITEMS, headers=headers), 400, "bad_idempotency_key")


def test_events_need_no_such_key(server: Server) -> None:
    one = sent()
    for status in ("accepted", "duplicates"):
        body = {"events": [one]}
        answer = server.client.post("/v1/events", json=body, headers={"idempotency-key": "k1"})
        assert answer.json()[status] == 1
