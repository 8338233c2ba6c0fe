"""Who a page's visitor is, over HTTP: with the key that is in every page nobody learns what is known of others."""

import io
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import numpy as np
import pytest

from features.common.clock import HOUR, now
from models.bundle import Bundle
from models.recommender import BundleRecommender
from serving import logging as logs
from serving.event_store import Limits, open_store
from tests.serving.api.middleware.test_api_keys import KEYS, PUBLISHABLE, SECRET, bearer
from tests.serving.conftest import RunningServer, run_app
from tests.serving.store_events import FOR_EVER, event
from tests.serving.test_metrics import read_metrics

VISITORS = "visitors-" + "0123456789abcdef" * 2
SETTINGS = {**KEYS, "visitor_secrets": VISITORS, "server_secret": "server-" + "0123456789abcdef" * 2}
CUSTOMERS, DEVICE = 200, "d1"
EVERYTHING = {"include": ["reasons", "score", "generators"], "limit": 12}
PLACEMENTS = ("home.for_you", "home.trending", "home.new", "buy_again", "recently_viewed", "email.digest")


def sign(**claims: Any) -> str:
    return jwt.encode({"aud": "usual", "exp": int(time.time()) + 600} | claims, VISITORS, "HS256")


@pytest.fixture(scope="module")
def customers(bundle: Bundle) -> list[str]:
    ids = bundle.snapshot.customers.at(np.arange(len(bundle.snapshot.customers)))
    return [*ids, *(f"since-the-snapshot-{n}" for n in range(CUSTOMERS))][:CUSTOMERS]


@pytest.fixture(scope="module")
def items(bundle: Bundle) -> list[str]:
    return bundle.snapshot.items.at(np.arange(len(bundle.snapshot.items)))


@pytest.fixture(scope="module")
def shop(
    bundle: Bundle, customers: list[str], items: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server of a shop where every customer, and the device d1, has just bought something."""
    store = open_store(str(tmp_path_factory.mktemp("identity") / "events.sqlite"), Limits(keep_days=FOR_EVER))
    bought = [
        event(
            "purchase", now() - HOUR, items[n % len(items)], price=3.0, quantity=1.0, session_id="theirs", **{name: who}
        )
        for n, (name, who) in enumerate([("client_id", DEVICE), *(("customer_id", c) for c in customers)])
    ]
    store.append(bought).result(10)
    with run_app(BundleRecommender(bundle), store=store, visit_budget_ms=5000, **SETTINGS) as server:
        yield server
    store.close()


def ask(
    server: RunningServer,
    *requests: dict[str, Any],
    key: str = PUBLISHABLE,
    token: str | None = None,
    path: str = "/v1/recommendations",
) -> list[dict[str, Any]]:
    headers = bearer(key) | ({} if token is None else {"x-visitor-token": token})
    results = []
    for start in range(0, len(requests), 16):
        body = {"requests": requests[start : start + 16]} if path == "/v1/recommendations" else requests[start]
        response = server.client.post(path, json=body, headers=headers)
        assert response.status_code == 200, response.text
        results += response.json().get("results", [response.json()])
    return results


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What an answer tells, but for what differs each time: its own id, and the time in its cursor."""
    return {k: v for k, v in result.items() if k not in ("recommendation_id", "next_cursor", "identity")}


def new_client(server: RunningServer) -> str:
    response = server.client.post("/v1/clients", headers=bearer(PUBLISHABLE))
    assert response.status_code == 201, response.text
    return str(response.json()["client_id"])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_who_guesses_ids_learns_nothing(shop: RunningServer, customers: list[str], placement: str) -> None:
    """The publishable key and the ids of 200 customers: each answer is that of a visitor who names nobody."""
    more = EVERYTHING | {"placement": placement, "exclude": {"purchased_within_days": 365}, "session_id": "s"}
    (anonymous,) = ask(shop, more)
    assert (anonymous["identity"], anonymous["thanks"], anonymous["segment"]) == ("anonymous", [], "prospect")
    guessed = customers[: CUSTOMERS if placement == "home.for_you" else 32]
    results = ask(shop, *(more | {"customer_id": customer} for customer in guessed))
    assert [result["identity"] for result in results] == ["unproven"] * len(guessed)
    assert [told(result) for result in results] == [told(anonymous)] * len(guessed)
    assert not any("bought" in str(reason["text"]) and "again" in str(reason["text"]) for result in results
                   for item in result["items"] for reason in item["reasons"] or ())  # fmt: skip
    believed = ask(shop, *(more | {"customer_id": customer} for customer in guessed), key=SECRET)
    assert {result["identity"] for result in believed} == {"proven"}
    if placement == "home.for_you":
        known = [told(one) != told(anonymous) for one in believed]
        assert sum(known) == len(guessed), "to the shop each of them is somebody"
        assert all(result["thanks"] for result in believed)


def test_nor_from_rerank(shop: RunningServer, customers: list[str], items: list[str]) -> None:
    body = {"item_ids": items[:40], "session_id": "s", "include": ["reasons", "score"]}
    (anonymous,) = ask(shop, body, path="/v1/rerank")
    for customer in customers[:40]:
        (result,) = ask(shop, body | {"customer_id": customer}, path="/v1/rerank")
        assert result["identity"] == "unproven"
        assert told(result) == told(anonymous)
    (believed,) = ask(shop, body | {"customer_id": customers[0]}, path="/v1/rerank", token=sign(sub=customers[0]))
    assert believed["identity"] == "proven"
    assert told(believed) != told(anonymous)


def test_nor_from_a_cursor(shop: RunningServer, customers: list[str]) -> None:
    body = {"session_id": "s", "limit": 5}
    pages = []
    for who in ({}, {"customer_id": customers[3]}):
        (first,) = ask(shop, body | who)
        (second,) = ask(shop, body | who | {"cursor": first["next_cursor"]})
        pages.append([told(first), told(second)])
    assert pages[0] == pages[1]
    # Nor does somebody's name make more of a cursor than it is.
    (own,) = ask(shop, body | {"customer_id": customers[3]}, token=sign(sub=customers[3]))
    (named,) = ask(shop, body | {"customer_id": customers[3], "cursor": own["next_cursor"]})
    assert (named["segment"], named["identity"]) == ("prospect", "unproven")


def test_nor_of_devices(shop: RunningServer) -> None:
    more = EVERYTHING | {"session_id": "s"}
    (anonymous,) = ask(shop, more)
    (guessed,) = ask(shop, more | {"client_id": DEVICE})
    assert (told(guessed), guessed["identity"]) == (told(anonymous), "unproven")
    (believed,) = ask(shop, more | {"client_id": DEVICE}, key=SECRET)
    assert believed["thanks"]
    (proven,) = ask(shop, more | {"client_id": DEVICE}, token=sign(client_id=DEVICE))
    assert (told(proven), proven["identity"]) == (told(believed), "anonymous")


@pytest.mark.parametrize("key", [PUBLISHABLE, SECRET])
def test_nor_of_sessions(shop: RunningServer, key: str) -> None:
    """A session's id reads nothing that is stored, whoever asks."""
    for placement in ("recently_viewed", "buy_again", "home.trending"):
        of_session, of_none = (
            ask(shop, EVERYTHING | {"placement": placement, "session_id": name}, key=key)[0] for name in ("theirs", "s")
        )
        assert told(of_session) == told(of_none)
        assert (of_session["thanks"], of_session["identity"]) == ([], "anonymous")


def test_the_answer_is_then_that_of_the_device(shop: RunningServer, customers: list[str]) -> None:
    client = new_client(shop)
    more = EVERYTHING | {"client_id": client}
    (alone,) = ask(shop, more)
    (named,) = ask(shop, more | {"customer_id": customers[0]})
    assert (alone["identity"], named["identity"]) == ("anonymous", "unproven")
    assert told(alone) == told(named)


def test_a_token_gives_what_the_secret_key_gives(shop: RunningServer, customers: list[str]) -> None:
    client = new_client(shop)
    for customer in customers[:20]:
        body = EVERYTHING | {"customer_id": customer, "client_id": client}
        for claims in ({"sub": customer}, {"sub": customer, "client_id": client}):
            (proven,) = ask(shop, body, token=sign(**claims))
            (believed,) = ask(shop, body, key=SECRET)
            assert proven["identity"] == believed["identity"] == "proven"
            assert told(proven) == told(believed)


def test_a_token_is_of_one_customer(shop: RunningServer, customers: list[str]) -> None:
    mine, other = customers[:2]
    bodies = [EVERYTHING | {"session_id": "s"} | who for who in ({"customer_id": mine}, {"customer_id": other}, {})]
    own, others, anonymous = ask(shop, *bodies, token=sign(sub=mine))
    assert [r["identity"] for r in (own, others, anonymous)] == ["proven", "unproven", "anonymous"]
    assert told(others) == told(anonymous) != told(own)


def test_a_token_of_one_device_is_worth_nothing_on_another(shop: RunningServer, customers: list[str]) -> None:
    mine, other = new_client(shop), new_client(shop)
    token = sign(sub=customers[0], client_id=mine)
    for client, identity in ((mine, "proven"), (other, "unproven"), ("d2", "unproven"), (None, "unproven")):
        (result,) = ask(shop, {"customer_id": customers[0], "client_id": client}, token=token)
        assert result["identity"] == identity, client


BAD = {
    "expired": {"sub": "u1", "exp": 1000},
    "not_yet_valid": {"sub": "u1", "nbf": int(time.time()) + 30 * 86_400},
    "lives_too_long": {"sub": "u1", "exp": int(time.time()) + 30 * 86_400},
    "wrong_audience": {"sub": "u1", "aud": "another"},
    "malformed": {},
}


@pytest.mark.parametrize("status", ["valid", "bad_signature", *BAD])
def test_the_status_of_a_token_is_told_and_counted(shop: RunningServer, customers: list[str], status: str) -> None:
    mine = customers[0]
    token = sign(**BAD[status] | ({} if status == "malformed" else {"sub": mine})) if status in BAD else sign(sub=mine)
    token = token[:-9] + "AAAAAAAAA" if status == "bad_signature" else token
    before = read_metrics(shop)
    headers = bearer(PUBLISHABLE) | {"x-visitor-token": token}
    response = shop.client.post("/v1/recommendations", json={"requests": [{"customer_id": mine}]}, headers=headers)
    assert response.status_code == 200, "a bad token fails nothing"
    assert response.headers["x-visitor-token-status"] == status
    (result,) = response.json()["results"]
    assert result["identity"] == ("proven" if status == "valid" else "unproven")
    name = ("usual_visitor_tokens_total", (("status", status),))
    assert read_metrics(shop)[name] - before[name] == 1


def test_only_who_sends_a_token_is_told_of_it(shop: RunningServer) -> None:
    body = {"requests": [{"session_id": "s"}]}
    for headers in (
        bearer(PUBLISHABLE),
        bearer(PUBLISHABLE) | {"x-visitor-token": ""},
        {"x-visitor-token": sign(sub="u")},
    ):
        response = shop.client.post("/v1/recommendations", json=body, headers=headers)
        assert "x-visitor-token-status" not in response.headers
    response = shop.client.post("/v1/recommendations", json=body, headers=bearer(SECRET) | {"x-visitor-token": "x"})
    assert (response.status_code, response.headers["x-visitor-token-status"]) == (200, "malformed")


def send_raw(server: RunningServer, *lines: str) -> bytes:
    body = '{"requests":[{"customer_id":"u1"}]}'
    head = [
        "POST /v1/recommendations HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json",
        f"Authorization: Bearer {PUBLISHABLE}", f"Content-Length: {len(body)}", *lines, "", body,
    ]  # fmt: skip
    answer = b""
    with socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall("\r\n".join(head).encode("latin-1"))
        while part := connection.recv(65536):
            answer += part
    return answer


def test_two_tokens_are_none(shop: RunningServer) -> None:
    mine, other = sign(sub="u1"), sign(sub="u2")
    for lines in (
        (f"X-Visitor-Token: {mine}", f"X-Visitor-Token: {mine}"),
        (f"X-Visitor-Token: {other}", f"x-visitor-token: {mine}"),
        (f"X-Visitor-Token: {mine}", "X-VISITOR-TOKEN:"),
    ):
        answer = send_raw(shop, *lines)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"X-Visitor-Token" in answer
        assert mine.encode() not in answer
    answer = send_raw(shop, f"X-Visitor-Token: {mine}, {mine}")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-visitor-token-status: malformed" in answer


@pytest.mark.parametrize(
    "token", ["\xe9" * 40, "\xff.\xfe.\xfd", "a.b.c\xa0", "x" * 20_000, "." * 9_000, "a\tb", "%s%n", "null"]
)
def test_no_header_is_an_error(shop: RunningServer, token: str) -> None:
    answer = send_raw(shop, f"X-Visitor-Token: {token}")
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert b"x-visitor-token-status: malformed" in answer
    assert b'"identity":"unproven"' in answer


def test_a_header_that_is_too_long_is_refused(shop: RunningServer) -> None:
    assert send_raw(shop, f"X-Visitor-Token: {'x' * 40_000}").startswith(b"HTTP/1.1 431 ")


def test_tokens_are_in_no_log_and_no_answer(
    serve: Callable[..., RunningServer], fake: type, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the ranker fails, which is logged")

    recommender = fake()
    server = serve(recommender, **SETTINGS)
    recommender.hook = fail
    caplog.set_level(logging.DEBUG)
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger("usual.access").setLevel(logging.INFO)
    tokens = [
        sign(sub="u1"),
        sign(sub="u1", exp=1),
        sign(sub="u1", aud="x"),
        sign(sub="u1")[:-1] + "_",
        "not-a.token-at.all-1234",
    ]
    answers = ""
    try:
        for token in tokens:
            for path in ("/v1/recommendations", "/v1/rerank", "/v1/clients", "/v1/events", "/v1/explain", "/nowhere"):
                headers = bearer(PUBLISHABLE) | {"x-visitor-token": token}
                for body in ({"requests": [{"customer_id": "u1"}]}, {"customer_id": "u1", "item_ids": ["i1"]}, [token]):
                    response = server.client.post(path, json=body, headers=headers)
                    if body != [token]:
                        answers += response.text + str(response.headers)
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("usual.access").setLevel(logging.NOTSET)
    mine = "".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore")))
    for token in tokens:
        for part in (token, token.rpartition(".")[2], token.split(".")[1]):
            assert part not in mine + answers + server.client.get("/metrics").text
            assert part not in "".join(line for line in written.getvalue().splitlines() if '"httpcore' not in line)


def test_client_ids_are_given_out(shop: RunningServer) -> None:
    made = {new_client(shop) for _ in range(50)}
    assert len(made) == 50
    assert all(ask(shop, {"client_id": client})[0]["identity"] == "anonymous" for client in made)
    for key, status in ((SECRET, 201), ("x" * 30, 401)):
        assert shop.client.post("/v1/clients", headers=bearer(key)).status_code == status
    assert shop.client.post("/v1/clients").status_code == 401
    assert shop.client.get("/v1/clients", headers=bearer(PUBLISHABLE)).status_code == 405
    for body in (b"", b"{}", b"[", b"\xff" * 100):
        assert shop.client.post("/v1/clients", content=body, headers=bearer(PUBLISHABLE)).status_code == 201


def test_client_ids_of_another_installation_are_not_believed(
    shop: RunningServer, serve: Callable[..., RunningServer], fake: type
) -> None:
    secret = "another-" + "0123456789abcdef" * 2
    other = serve(fake(), **SETTINGS | {"server_secret": secret})
    theirs = new_client(other)
    assert ask(shop, {"client_id": theirs})[0]["identity"] == "unproven"
    rotated = serve(fake(), **SETTINGS | {"server_secrets_before": secret})
    assert ask(rotated, {"client_id": theirs})[0]["identity"] == "anonymous"


def test_a_shop_may_have_client_ids_of_its_own(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), client_ids="any", **SETTINGS)
    results = ask(server, {"client_id": "d1"}, {"client_id": "~d1"}, {"client_id": "d1", "customer_id": "u1"})
    assert [result["identity"] for result in results] == ["anonymous", "unproven", "unproven"]


def test_without_keys_everybody_is_believed(serve: Callable[..., RunningServer], fake: type) -> None:
    (result,) = serve(fake()).post({"customer_id": "u1"}).json()["results"]
    assert (result["identity"], result["segment"]) == ("proven", "segment of u1")


def test_without_a_secret_for_tokens_none_proves_anything(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), **KEYS)
    headers = bearer(PUBLISHABLE) | {"x-visitor-token": sign(sub="u1")}
    response = server.client.post("/v1/recommendations", json={"requests": [{"customer_id": "u1"}]}, headers=headers)
    assert (response.status_code, response.headers["x-visitor-token-status"]) == (200, "no_keys")


def test_what_costs_is_what_is_done(serve: Callable[..., RunningServer], fake: type) -> None:
    """The recommender is asked for nobody, though the request named somebody."""
    recommender = fake()
    server = serve(recommender, **SETTINGS)
    ask(server, {"customer_id": "u1", "client_id": "d1"})
    assert recommender.batches[-1][0].customer_id is None


def test_pages_of_other_origins_may_send_it_and_read_what_it_is(
    serve: Callable[..., RunningServer], fake: type
) -> None:
    server = serve(fake(), cors_origins="https://shop.example", **SETTINGS)
    page = {"origin": "https://shop.example"}
    preflight: httpx.Response = server.client.options(
        "/v1/recommendations", headers=page | {"access-control-request-method": "POST"}
    )
    assert "X-Visitor-Token" in preflight.headers["access-control-allow-headers"]
    response = server.client.post("/v1/clients", headers=bearer(PUBLISHABLE) | page)
    assert "X-Visitor-Token-Status" in response.headers["access-control-expose-headers"]
