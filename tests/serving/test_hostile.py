"""Hostile bodies and bytes on every path that takes a body: refused by name, or stored as text.

After each test the server responds to another visitor as before, and neither its log nor its metrics hold the input.
"""

import http.client
import io
import json
import logging
import socket
import sqlite3
import time
import unicodedata
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import numpy as np
import pytest

from features.common.ids import normalize_id
from models.bundle import Bundle
from models.recommender import BundleRecommender
from serving import logging as logs
from serving.event_store import Limits, open_store
from serving.schemas.problems import ProblemCode
from tests.serving.conftest import RunningServer, run_app
from tests.serving.event_bodies import event_body, post_events
from tests.serving.hostile import (
    BODIES,
    CALL,
    CONTEXT,
    EQUAL,
    LISTS,
    MALFORMED,
    TEXTS,
    VALUES,
    WHO,
    WIRES,
    WORDS,
    leaves,
    put,
    wire,
)
from tests.serving.store_events import read_events


@dataclass
class HostileTarget:
    """A server with a real bundle and a store, its log, and its first response to an honest visitor."""

    server: RunningServer
    url: str
    store: sqlite3.Connection
    logged: io.StringIO
    before: Any = None

    def send(self, path: str, body: bytes | object, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        begun = time.monotonic()
        response = self.server.client.request(
            "PATCH" if path == "/v1/items" else "POST",
            path,
            content=content,
            headers={"content-type": "application/json"} | headers,
        )
        assert time.monotonic() - begun < 3
        assert response.status_code < 500, response.text
        assert response.headers["content-type"].split("+")[-1] in ("application/json", "json"), "never a page"
        return response

    def ordinary(self) -> Any:
        (result,) = self.server.post({"client_id": "somebody", "limit": 20, "include": ["score"]}).json()["results"]
        return result["items"], result["strategy"], result["fallback"], result["degraded"]

    def writes(self) -> int:
        """A number that changes with each commit to the store."""
        return int(self.store.execute("PRAGMA data_version").fetchone()[0])

    def strangers(self, *visitors: dict[str, str]) -> list[bool]:
        """For each of these visitors, whether they are unknown."""
        fallbacks = [result["fallback"] for result in self.server.post(*visitors).json()["results"]]
        return [fallback is not None and fallback["why"] == "unknown_visitor" for fallback in fallbacks]


@pytest.fixture(scope="module")
def shop(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileTarget]:
    url = str(tmp_path_factory.mktemp("hostile") / "events.sqlite")
    app_logger, root, log_text = logging.getLogger("usual"), logging.getLogger(), io.StringIO()
    handlers, propagate, level = app_logger.handlers, app_logger.propagate, logs.access.level
    every = logging.StreamHandler(log_text)
    every.setFormatter(logs.JsonFormatter())
    app_logger.handlers = [logging.StreamHandler(log_text)]
    logs.configure(json_lines=True, every_request=True)
    root.addHandler(every)  # of the libraries too
    with run_app(BundleRecommender(bundle), store=open_store(url, Limits(write_s=5)), visit_budget_ms=5000) as server:
        shop = HostileTarget(server, url, sqlite3.connect(url, check_same_thread=False), log_text)
        assert post_events(
            server, event_body("view_item", *bundle.snapshot.items.at(np.arange(3)), client_id="somebody")
        )
        shop.before = shop.ordinary()
        yield shop
    root.removeHandler(every)
    app_logger.handlers, app_logger.propagate = handlers, propagate
    logs.access.setLevel(level)


@pytest.fixture(autouse=True)
def undisturbed(shop: HostileTarget) -> Iterator[None]:
    yield
    assert shop.ordinary() == shop.before
    lines = shop.logged.getvalue().splitlines()
    assert all({"time", "level", "logger", "message"} <= json.loads(line).keys() for line in lines)
    assert not [line for line in lines if "xyzzy" in line or json.loads(line)["level"] in ("error", "critical")]
    metrics = shop.server.client.get("/metrics").text
    assert "xyzzy" not in metrics
    assert "forged" not in metrics
    shop.logged.truncate(0)
    shop.logged.seek(0)


def check(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    assert response.status_code in statuses, response.text
    problem: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["code"] in get_args(ProblemCode)
    assert "xyzzy" not in response.text, "errors repeat nothing"
    return problem


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json(shop: HostileTarget, body: bytes):
    before = shop.writes()
    for path in (*BODIES, *LISTS):
        assert check(shop.send(path, body), 400)["code"] == "malformed_json", path
    assert shop.writes() == before


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_hostile_values_in_place_of_each_field(shop: HostileTarget, value: bytes):
    for path, body in BODIES.items():
        for place in leaves(body):
            before = shop.writes()
            response = shop.send(path, put(body, place, value))
            if response.status_code != 200:
                check(response, 422)
                assert shop.writes() == before, (path, place)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_hostile_values_in_one_of_many_elements(shop: HostileTarget, value: bytes):
    places = [list(leaves(body)) for _, body in LISTS.values()]
    for (path, (many, body)), of_body in zip(LISTS.items(), places, strict=True):
        at_once = 15 if path == "/v1/recommendations" or len(value) > 10_000 else 60
        for start in range(0, len(of_body), at_once):
            wrong = [put(body, place, value) for place in of_body[start : start + at_once]]
            fine = json.dumps(_honest(path)).encode()
            answer = shop.send(path, b'{"%s": [%s]}' % (many.encode(), b",".join([*wrong, fine]))).json()
            if path == "/v1/recommendations":
                assert len(answer["results"]) == len(wrong) + 1
                assert len(answer["results"][-1]["items"]) == 12
                continue
            refused = {r["index"] for r in answer["rejected"]}
            assert len(wrong) not in refused, answer
            assert answer["accepted"] + answer["duplicates"] + len(refused) + answer.get("ignored", 0) >= len(wrong) + 1
            before = shop.writes()
            if refused:
                alone = b",".join(wrong[n] for n in sorted(refused))
                check(shop.send(path, b'{"%s": [%s]}' % (many.encode(), alone)), 422)
            assert shop.writes() == before


def _honest(path: str) -> dict[str, Any]:
    if path == "/v1/recommendations":
        return {"client_id": "somebody"}
    return event_body() if path == "/v1/events" else CALL | {"messageId": str(uuid.uuid4()), "anonymousId": "honest"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_is_stored_and_found_as_text(shop: HostileTarget, bundle: Bundle, text: str):
    """A visitor, a customer and an item of that name come, are known by it as files have it, and go."""
    stored = normalize_id(text, "client")
    assert stored
    real = bundle.snapshot.items.at(np.arange(3))
    free = dict.fromkeys(
        ("event_id", "client_id", "session_id", "recommendation_id", "source", "device", "country"), text
    )
    params = {"transaction_id": text, "search_term": text, "item_list_id": text}
    event = event_body("view_item", *real, text, params=params, **free)
    alike = {text[:-1] + "w", text.strip(), text.upper()[:256], unicodedata.normalize("NFKC", text)}
    alike = {other for other in alike if normalize_id(other, "client") != stored}
    assert shop.strangers({"client_id": text}) == [True]
    assert shop.send("/v1/events", {"events": [event, event]}).json()["accepted"] == 1
    rows = read_events(shop.url).filter(event_id=stored)
    assert sorted(rows["item_id"]) == sorted([*real, stored])
    for column in (*free, "order_id", "query", "list_id"):
        plain = column in ("device", "country", "query")
        assert rows[column].unique().to_list() == [text if plain else stored], column
    is_stranger, *others = shop.strangers(*({"client_id": name} for name in (text, *alike)))
    assert not is_stranger, "it is found again"
    assert all(others), "and nobody else"
    call = CALL | {"messageId": text, "anonymousId": text, "userId": None, "properties": {"product_id": text}}
    assert shop.send("/v1/events/segment", call).json()["duplicates"] == 1, "the same id here"
    assert shop.send("/v1/customers/merge", {"client_id": text, "customer_id": text}).json() == {"changed": True}
    assert shop.strangers({"customer_id": text}) == [False]

    assert shop.send("/v1/items", {"items": [{"item_id": text, "price": 2.5}]}).json() == {"updated": 1}
    assert shop.store.execute("SELECT price FROM usual_items WHERE item_id = ?", (stored,)).fetchall() == [(2.5,)]
    request = WHO | {"context": dict.fromkeys(CONTEXT, text) | {"item_ids": [text], "cart_item_ids": [text]}}
    (result,) = shop.send("/v1/recommendations", {"requests": [request | {
        "exclude": {"item_ids": [text]}, "filter": {"none": [
            EQUAL | {"value": text}, {"field": "attributes.size", "op": "in", "value": [text]},
            *({"field": "title", "op": op, "value": text} for op in ("contains", "under"))]}}]}
    ).json()["results"]  # fmt: skip
    assert len(result["items"]) == 12
    ranked = shop.send("/v1/rerank", request | {"item_ids": [text, real[0]], "include": ["reasons"]}).json()["items"]
    assert [item["item_id"] for item in ranked] == [real[0], stored]
    check(shop.send("/v1/explain", request | {"item_ids": [text]}), 422)
    assert shop.send("/demo/items", {"item_ids": [text]}).json() == {"items": []}
    page = shop.server.client.get("/demo/items", params={"search": text, "category": text})
    assert page.json()["total"] == 0

    counts = shop.send("/v1/customers/erase", {"customer_id": text}).json()
    assert (counts["events"], counts["clients"]) == (4, 1), counts
    assert shop.strangers({"client_id": text}) == [True]
    assert read_events(shop.url).filter(client_id="somebody").height == 3


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_in_fields_with_fixed_values_is_refused(shop: HostileTarget, text: str):
    before, value = shop.writes(), json.dumps(text).encode()
    whole = BODIES | {path: {many: [body]} for path, (many, body) in LISTS.items() if path != "/v1/events/segment"}
    for path, body in whole.items():
        for place in leaves(body):
            if place[-1] in WORDS:
                check(shop.send(path, put(body, place, value)), 422)
    assert shop.writes() == before


@pytest.mark.parametrize(
    ("status", "sent_bytes"), [pytest.param(s, w, id=name) for s, ws in WIRES.items() for name, w in ws.items()]
)
def test_bytes_on_the_wire(shop: HostileTarget, status: int, sent_bytes: bytes):
    before = shop.writes()
    with socket.create_connection((shop.server.host, shop.server.port), timeout=3) as connection:
        connection.sendall(sent_bytes)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body, kind = answer.read(), answer.headers["content-type"]
    assert answer.status == status, body
    assert answer.headers["set-cookie"] is None
    assert b"xyzzy" not in body + str(answer.headers).encode()
    assert kind == "application/json" if status == 200 else kind == "application/problem+json" or status in (400, 403)
    assert shop.writes() == before


@pytest.mark.parametrize("path", [*BODIES, *LISTS])
def test_a_slow_body(shop: HostileTarget, path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving.api.json_io.BODY_TIMEOUT_S", 0.05)
    slow = wire(
        b"Content-Length: 500", at=path.encode(), method=b"PATCH" if path == "/v1/items" else b"POST", body=b"{"
    )
    with socket.create_connection((shop.server.host, shop.server.port), timeout=3) as connection:
        connection.sendall(slow)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["code"]) == (408, "slow_body")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["connection"] == "close"


def test_a_hostile_idempotency_key_is_a_text(shop: HostileTarget):
    key = {"idempotency-key": "');DROP/**/TABLE/**/usual_answers;--"}
    answers = [shop.send("/v1/customers/merge", {"client_id": "k", "customer_id": "k"}, **key) for _ in range(2)]
    assert [a.json() for a in answers] == [{"changed": True}] * 2
    assert answers[1].headers["idempotency-replayed"] == "true"


def test_the_last_of_repeated_keys_counts(shop: HostileTarget):
    shop.send("/v1/customers/merge", b'{"client_id": "twice", "customer_id": "first", "customer_id": "last"}')
    assert shop.store.execute("SELECT customer_id FROM usual_links WHERE client_id = 'twice'").fetchall() == [("last",)]
    twice = b'{"client_id": "xyzzy", "client_id": null, "event_id": "e", "name": "login"}'
    check(shop.send("/v1/events", b'{"events": [%s]}' % twice), 422)


def test_a_refused_call_links_nobody(shop: HostileTarget, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")
    call = CALL | {"traits": {"email": "xyzzy@shop.example"}, "properties": {}}
    before = shop.writes()
    check(shop.send("/v1/events/segment", call), 422)
    assert shop.writes() == before
