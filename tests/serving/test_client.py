"""The Python client, against a real server."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from serving import client as client_module
from serving.client import ApiError, Client, Unreachable
from serving.event_store import EventStore
from tests.serving.api.middleware.test_api_keys import KEYS, PUBLISHABLE, SECRET
from tests.serving.conftest import RunningServer
from tests.serving.event_bodies import ago, event_body

VISITOR_SECRET = "the shop's server and ours know it".replace(" ", "-")


def token(customer_id: str, lasts_s: float = 600) -> str:
    """A visitor token, as the shop's server signs them."""
    claims = {"sub": customer_id, "aud": "usual", "exp": int(time.time() + lasts_s)}
    return jwt.encode(claims, VISITOR_SECRET, algorithm="HS256")


class FaultyTransport(httpx.BaseTransport):
    """Sends requests and records them with their local ports. `faults` happen to requests one after the other.

    "unreachable" raises its exception in place of sending, "lost" after the server has responded: the write is done.
    "answer" replaces the server's response.
    """

    def __init__(self) -> None:
        self.faults: list[tuple[str, Any]] = []
        self.requests: list[httpx.Request] = []
        self.ports: set[Any] = set()
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        kind, fault = self.faults.pop(0) if self.faults else ("", None)
        if kind == "unreachable":
            raise fault
        if kind == "answer":
            return fault
        response = self._transport.handle_request(request)
        self.ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        if kind == "lost":
            response.read()
            raise fault
        return response

    def close(self) -> None:
        self._transport.close()


@pytest.fixture
def transport() -> FaultyTransport:
    return FaultyTransport()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept."""
    seconds: list[float] = []
    monkeypatch.setattr(client_module, "sleep", seconds.append)
    return seconds


@pytest.fixture
def server(serve: Callable[..., RunningServer], fake: type, sqlite_store: EventStore) -> RunningServer:
    settings = {"visit_budget_ms": 5000, "visitor_secrets": VISITOR_SECRET, **KEYS}
    return serve(fake(as_of=ago(days=2)), store=sqlite_store, **settings)


@pytest.fixture
def client(server: RunningServer, transport: FaultyTransport, waits: list[float]) -> Iterator[Client]:
    with Client(f"http://{server.host}:{server.port}", SECRET, transport=transport) as client:
        yield client


def problem(status: int, code: str = "unavailable", **headers: str) -> httpx.Response:
    body = {"title": "t", "status": status, "detail": "not now", "code": code}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json", **headers})


def test_every_method(client: Client, server: RunningServer) -> None:
    first, second = client.recommend(
        {"customer_id": "u1", "limit": 3}, {"session_id": "s", "placement": "home.trending", "limit": 4}, distinct=True
    )
    assert [i["item_id"] for i in first["items"]] == ["i0", "i1", "i2"]
    assert [i["item_id"] for i in second["items"]] == ["i3", "i4", "i5", "i6"]
    assert client.recommend({"customer_id": "u1"}, dry_run=True)[0]["recommendation_id"] is None
    wrong, right = client.recommend({"placement": "nowhere", "session_id": "s"}, {"session_id": "s"})
    assert wrong["error"]["code"] == "unknown_placement"
    assert len(right["items"]) == 12
    reranked = client.rerank(["i5", "i2", "unknown"], customer_id="u1")
    assert [i["item_id"] for i in reranked["items"]] == ["i2", "i5", "unknown"]
    assert client.patch_items([{"item_id": "i0", "available": False}]) == 1
    assert client.recommend({"session_id": "s", "limit": 1})[0]["items"][0]["item_id"] == "i1"
    assert client.merge("d1", "u1") is True
    assert client.merge("d1", "u1") is False
    assert client.erase("u1")["links"] == 1
    assert client.placements()["home.for_you"]["limit"] == 12
    assert client.model()["version"] == "17"
    with pytest.raises(ApiError, match="422 invalid_request"):
        client.explain(customer_id="u1", item_ids=["i1"])


def test_events_are_stored_and_wrong_ones_returned(client: Client) -> None:
    events = [
        event_body("view_item", "p1"),
        {"name": "view_item", "client_id": "d1", "timestamp": datetime.now(UTC) - timedelta(hours=1),
         "params": {"items": [{"item_id": "p2"}]}},
        event_body("purchase", "p3", params={"currency": "EURO"}),
    ]  # fmt: skip
    outcome = client.send([*events, events[0]])
    assert (outcome.accepted, outcome.duplicates) == (2, 1)
    assert [(r["index"], r["pointer"]) for r in outcome.rejected] == [(2, "/events/2/params/currency")]
    assert "event_id" not in events[1], "the argument is not changed"


def test_more_events_than_fit_one_request(client: Client, transport: FaultyTransport) -> None:
    many = [event_body("view_item", "p1") for _ in range(1500)]
    del many[1200]["client_id"]
    outcome = client.send(many)
    assert outcome.accepted == 1499
    assert [(r["index"], r["pointer"]) for r in outcome.rejected] == [(1200, "/events/1200")]
    long = [
        event_body("search", params={"search_term": "x" * 900, "more": "y" * 9000, "items": []}) for _ in range(300)
    ]
    before = len(transport.requests)
    assert client.send(long).accepted == 300
    assert all(len(request.content) < 2_000_000 for request in transport.requests[before:])
    assert len(transport.requests) - before == 2
    assert client.send([]).accepted == 0


def test_an_event_sent_again_is_not_stored_twice(
    client: Client, transport: FaultyTransport, server: RunningServer, waits: list[float]
) -> None:
    transport.faults = [
        ("unreachable", httpx.ConnectError("no")),
        ("lost", httpx.ReadError("cut")),
        ("answer", problem(503)),
    ]
    nameless = {"name": "view_item", "client_id": "d1", "params": {"items": [{"item_id": "p1"}]}}
    outcome = client.send([nameless, nameless])
    assert (outcome.accepted, outcome.duplicates) == (0, 2), "the second attempt had done it"
    client.recommend({"client_id": "d1"})
    recent = server.recommender.batches[-1][0].recent
    assert [item for item, *_ in recent] == ["p1", "p1"]
    assert len(waits) == 3
    uuid.UUID(transport.requests[0].read().decode().split('"')[5])


@pytest.mark.parametrize("act", ["erase", "merge", "patch_items"])
def test_a_write_sent_again_is_not_done_twice(
    act: str, client: Client, transport: FaultyTransport, server: RunningServer
) -> None:
    client.send([event_body("view_item", "p1", customer_id="u1")])
    before = len(transport.requests)
    transport.faults = [("lost", httpx.RemoteProtocolError("cut"))]
    if act == "erase":
        assert client.erase("u1")["events"] == 1, "the response is the first one's: after it there was nothing left"
    elif act == "merge":
        assert client.merge("d7", "u1") is True
    else:
        assert client.patch_items([{"item_id": "i1", "price": 2}]) == 1
    keys = [request.headers["idempotency-key"] for request in transport.requests[before:]]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    client.patch_items([{"item_id": "i1", "price": 3}])
    assert transport.requests[-1].headers["idempotency-key"] not in keys


def test_it_waits_as_long_as_retry_after_says(client: Client, transport: FaultyTransport, waits: list[float]) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=8)
    transport.faults = [
        ("answer", problem(429, "rate_limited", **{"retry-after": "7"})),
        ("answer", problem(503, **{"retry-after": soon.strftime("%a, %d %b %Y %H:%M:%S GMT")})),
        ("answer", problem(503)),
    ]
    assert client.recommend({"session_id": "s"})
    assert 7 <= waits[0] < 8
    assert 6 <= waits[1] < 9
    assert 0.3 < waits[2] < 1.5


def test_it_gives_up_after_so_many_attempts(client: Client, transport: FaultyTransport, waits: list[float]) -> None:
    transport.faults = [("answer", problem(503)) for _ in range(9)]
    with pytest.raises(ApiError) as refused:
        client.model()
    assert (refused.value.status, refused.value.code, refused.value.detail) == (503, "unavailable", "not now")
    assert (len(transport.requests), len(waits)) == (4, 3)
    assert waits[0] < waits[-1]
    transport.faults = [("unreachable", httpx.ConnectTimeout("slow")) for _ in range(9)]
    with pytest.raises(Unreachable, match="GET /v1/model: ConnectTimeout in 4 attempts"):
        client.model()
    transport.faults, transport.requests[:] = [("answer", problem(503, **{"retry-after": "3600"}))], []
    with pytest.raises(ApiError) as later:
        client.model()
    assert later.value.retry_after_s == 3600
    assert len(transport.requests) == 1


def test_requests_that_cannot_succeed_are_not_repeated(
    client: Client, transport: FaultyTransport, waits: list[float], server: RunningServer
) -> None:
    with pytest.raises(ApiError) as wrong:
        client.recommend({"customer_id": "secret-u91", "limit": 0})
    assert (wrong.value.status, wrong.value.code) == (422, "invalid_request")
    assert wrong.value.errors[0]["pointer"] == "/requests/0/limit"
    assert wrong.value.request_id
    assert "/requests/0/limit" in str(wrong.value)
    assert "u91" not in str(wrong.value)
    with Client(f"http://{server.host}:{server.port}", PUBLISHABLE) as page, pytest.raises(ApiError) as forbidden:
        page.erase("secret-u91")
    assert (forbidden.value.status, forbidden.value.code) == (403, "forbidden")
    transport.faults = [("answer", httpx.Response(502, text="<h1>secret-u91</h1>")) for _ in range(4)]
    with pytest.raises(ApiError, match=r"^502 http_error: Bad Gateway$"):
        client.model()
    transport.faults = [("answer", httpx.Response(200, text="<h1>Welcome to the hotel's network</h1>"))]
    with pytest.raises(ApiError, match=r"^200 http_error"):
        client.model()
    assert len(waits) == 3


def test_connections_are_reused(client: Client, transport: FaultyTransport) -> None:
    for _ in range(5):
        client.recommend({"session_id": "s"})
    assert len(transport.ports) == 1


def test_no_id_and_no_key_is_logged(
    client: Client, transport: FaultyTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    transport.faults = [("unreachable", httpx.ConnectError("no"))]
    client.send([event_body("view_item", "secret-p1", customer_id="secret-u91")])
    proof = token("secret-u91")
    client.recommend({"customer_id": "secret-u91"}, visitor_token=proof)
    client.erase("secret-u91")
    assert "secret-" not in caplog.text
    assert SECRET not in caplog.text + repr(client)
    assert proof not in caplog.text


def test_with_a_publishable_key_a_token_proves_the_customer(
    server: RunningServer, transport: FaultyTransport, sqlite_store: EventStore
) -> None:
    address = f"http://{server.host}:{server.port}"
    with Client(address, PUBLISHABLE, transport=transport) as page:
        client_id = page.new_client_id()
        assert client_id != page.new_client_id()
        request = {"customer_id": "u1", "client_id": client_id}

        def identities(visitor_token: str | None = None) -> list[str]:
            reranked = page.rerank(["i1"], visitor_token=visitor_token, **request)
            return [page.recommend(request, visitor_token=visitor_token)[0]["identity"], reranked["identity"]]

        assert identities() == ["unproven"] * 2
        assert identities(token("u2")) == ["unproven"] * 2
        assert identities(token("u1", -3600)) == ["unproven"] * 2
        assert identities(token("u1")) == ["proven"] * 2
        assert page.recommend({"client_id": client_id})[0]["identity"] == "anonymous"
        order = event_body("purchase", "p1", **request, params={"transaction_id": "o1", "currency": "EUR"})
        outcome = page.send([order])
        assert (outcome.accepted, outcome.unproven, outcome.claims) == (1, 1, 1)
        outcome = page.send([order, event_body("view_item", "p2", **request)], visitor_token=token("u1"))
        assert (outcome.accepted, outcome.unproven, outcome.claims) == (2, 0, 0)
        assert page.send([event_body("view_item", "p1", client_id="made-up")]).unproven == 1
    with Client(address, PUBLISHABLE, visitor_token=token("u1")) as app:
        assert app.recommend(request)[0]["identity"] == "proven"
        assert app.recommend(request, visitor_token="")[0]["identity"] == "unproven"
        assert app.recommend(request, visitor_token=token("u2"))[0]["identity"] == "unproven"
        assert app.send([event_body("view_item", "p3", **request)]).unproven == 0
    assert not any(token("u1").split(".")[2] in str(request.url) for request in transport.requests)


def test_with_a_secret_key_no_token_is_needed(client: Client) -> None:
    (result,) = client.recommend({"customer_id": "u1", "client_id": "d1"})
    assert result["identity"] == "proven"
    outcome = client.send([event_body("purchase", "p1", customer_id="u1", client_id="d1")])
    assert (outcome.accepted, outcome.unproven, outcome.claims) == (1, 0, 0)


def test_a_client_id_asked_for_again_is_another(client: Client, transport: FaultyTransport, waits: list[float]) -> None:
    transport.faults = [("lost", httpx.ReadError("cut"))]
    assert client.new_client_id().startswith("u1.")
    assert len(waits) == 1


@pytest.mark.parametrize("wrong", ["a.b.c\r\nx-other: 1", "<!doctype html>", "ä.ö.ü"])
def test_what_can_be_no_token_raises_without_repeating_it(wrong: str, client: Client) -> None:
    for call in (
        lambda: Client("http://127.0.0.1:1", visitor_token=wrong),
        lambda: client.recommend({"session_id": "s"}, visitor_token=wrong),
        lambda: client.send([event_body("view_item", "p1")], visitor_token=wrong),
    ):
        with pytest.raises(ValueError, match=r"^the visitor token has a character that no token has$"):
            call()


@pytest.mark.parametrize("wrong", [{"key": "a key\nwith a line break"}, {"url": "usual.example"}, {"attempts": 0}])
def test_wrong_arguments_raise_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Client(**{"url": "http://127.0.0.1:1", **wrong})
    assert "line break" not in str(error.value)


def test_a_server_that_is_not_running(waits: list[float]) -> None:
    started = time.perf_counter()
    with Client("http://127.0.0.1:1", attempts=2) as nobody, pytest.raises(Unreachable, match="ConnectError"):
        nobody.placements()
    assert len(waits) == 1
    assert time.perf_counter() - started < 5
