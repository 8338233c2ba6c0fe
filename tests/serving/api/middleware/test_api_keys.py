"""API keys: which key may call which path."""

import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import serving
from features.common.errors import InputError
from serving.api.app import create_app
from serving.deploy import server as server_command
from serving.event_store import EventStore
from serving.settings import Settings, read_settings
from tests.serving.api.test_problems import check
from tests.serving.conftest import RunningServer
from tests.serving.event_bodies import event_body

PUBLISHABLE, NEXT, SECRET = (f"{name}-{'0123456789abcdef' * 2}" for name in ("publishable", "next", "secret"))
KEYS = {"open": False, "publishable_keys": f"{PUBLISHABLE}, {NEXT}", "secret_keys": SECRET}
BODY = {"requests": [{"session_id": "s"}]}

PUBLIC: list[tuple[str, str, Any, int]] = [
    ("POST", "/v1/recommendations", BODY, 200),
    ("POST", "/v1/events", {"events": [event_body()]}, 202),
    ("POST", "/v1/events/segment", {"batch": []}, 422),
    ("POST", "/v1/clients", None, 201),
    ("GET", "/v1/model", None, 200),
]
PRIVATE: list[tuple[str, str, Any, int]] = [
    ("PATCH", "/v1/items", {"items": [{"item_id": "p1", "available": False}]}, 200),
    ("POST", "/v1/customers/merge", {"client_id": "d1", "customer_id": "u1"}, 200),
    ("POST", "/v1/customers/erase", {"customer_id": "u1"}, 200),
    ("POST", "/v1/admin/unheard-of", None, 404),
    ("GET", "/v1/recommendations/", None, 404),
    ("GET", "/v2", None, 404),
]


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {key}"}


@pytest.fixture
def keyed(serve: Callable[..., RunningServer], fake: type, sqlite_store: EventStore) -> RunningServer:
    return serve(fake(), store=sqlite_store, **KEYS)


def test_each_kind_of_key_opens_its_paths(keyed: RunningServer) -> None:
    for method, path, body, status in PUBLIC + PRIVATE:
        check(keyed.client.request(method, path, json=body), 401, "unauthorized")
        for key in (PUBLISHABLE, NEXT):
            response = keyed.client.request(method, path, json=body, headers=bearer(key))
            if (method, path, body, status) in PRIVATE:
                check(response, 403, "forbidden")
                assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
            else:
                assert response.status_code == status, (path, response.text)
        response = keyed.client.request(method, path, json=body, headers=bearer(SECRET))
        assert response.status_code == status, (path, response.text)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/placements"])
def test_a_publishable_key_may_call_these_paths(keyed: RunningServer, path: str) -> None:
    assert keyed.client.get(path, headers=bearer(PUBLISHABLE)).status_code != 403


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/openapi.json"])
def test_probes_and_documentation_need_no_key(keyed: RunningServer, path: str) -> None:
    assert keyed.client.get(path).status_code in (200, 204)


def test_metrics_need_no_key(keyed: RunningServer) -> None:
    assert keyed.client.get("/metrics").status_code != 401


@pytest.mark.parametrize(
    "headers",
    [
        bearer(PUBLISHABLE[:-1]),
        bearer(PUBLISHABLE + "0"),
        bearer(PUBLISHABLE.upper()),
        bearer(f"{PUBLISHABLE}, {NEXT}"),
        bearer(PUBLISHABLE, "Basic"),
        bearer(PUBLISHABLE, "Token"),
        {"authorization": PUBLISHABLE},
        {"authorization": "Bearer"},
        {"authorization": ""},
        {"x-api-key": PUBLISHABLE},
        {"cookie": f"authorization=Bearer {PUBLISHABLE}"},
    ],
)
def test_wrong_keys_are_refused(keyed: RunningServer, headers: dict[str, str]) -> None:
    response = keyed.client.post("/v1/recommendations", json=BODY, headers=headers)
    check(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith('Bearer realm="usual"')


def test_a_key_in_another_place_does_not_count(keyed: RunningServer) -> None:
    for where in ("key", "api_key", "access_token", "authorization"):
        response = keyed.client.get("/v1/model", params={where: SECRET})
        assert SECRET not in str(check(response, 401, "unauthorized"))
    body = BODY | {"access_token": SECRET}
    check(keyed.client.post("/v1/recommendations", json=body), 401, "unauthorized")


def test_the_scheme_is_case_insensitive(keyed: RunningServer) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        assert keyed.client.get("/v1/model", headers=bearer(SECRET, scheme)).status_code == 200


def test_a_long_body_without_a_key_is_not_read(keyed: RunningServer) -> None:
    response = keyed.client.post("/v1/events", content=b"[" * 1_500_000, headers={"content-type": "application/json"})
    check(response, 401, "unauthorized")
    assert keyed.client.get("/v1/model", headers=bearer(SECRET)).status_code == 200


def test_keys_are_in_no_log_and_no_response(keyed: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = SECRET.replace("secret", "Secret")
    for key in (PUBLISHABLE, SECRET, wrong):
        for method, path, _, _ in PRIVATE:
            response = keyed.client.request(method, path, content=b"{", headers=bearer(key))
            assert key not in response.text + str(response.headers)
    mine = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert not [text for text in mine if any(key in text for key in (PUBLISHABLE, SECRET, wrong))]


def test_keys_are_in_no_settings() -> None:
    settings = Settings(**KEYS)  # type: ignore[arg-type]
    dump = repr(settings) + str(settings) + str(settings.model_dump())
    assert not any(key in dump for key in (PUBLISHABLE, NEXT, SECRET))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"SECRET_KEYS": "short"}, "USUAL_SECRET_KEYS: key 1 of 1 has 5 characters.*token_urlsafe"),
        ({"SECRET_KEYS": f"{SECRET},x{'y' * 18}"}, "USUAL_SECRET_KEYS: key 2 of 2 has 19 characters"),
        (
            {"PUBLISHABLE_KEYS": "a key with spaces in it, and more"},
            "USUAL_PUBLISHABLE_KEYS: key 1 of 2 has a character",
        ),
        ({"PUBLISHABLE_KEYS": "ключ" * 10}, "USUAL_PUBLISHABLE_KEYS: key 1 of 1 has a character"),
        ({"PUBLISHABLE_KEYS": f"{NEXT},{SECRET}", "SECRET_KEYS": SECRET}, "stands in both"),
        ({}, "there are no keys.*USUAL_SECRET_KEYS.*token_urlsafe.*--open"),
        ({"SECRET_KEYS": " , "}, "there are no keys"),
        ({"SECRET_KEYS": SECRET, "OPEN": "1"}, "exclude each other"),
        ({"OPEN": "1", "CORS_ORIGINS": "*"}, "any web page"),
        ({"OPEN": "1", "HOST": "0.0.0.0"}, "loopback address, not on 0.0.0.0"),  # noqa: S104
        ({"OPEN": "1", "HOST": "::"}, "loopback address, not on ::"),
    ],
)
def test_a_server_that_anyone_could_use_does_not_start(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.delenv("USUAL_OPEN")
    for name, value in environment.items():
        monkeypatch.setenv(f"USUAL_{name}", value)
    with pytest.raises(InputError, match=told) as error:
        server_command.serve(tmp_path)
    for key in environment.get("SECRET_KEYS", "").split(","):
        assert len(key) < 5 or key not in str(error.value)


def test_an_error_about_another_setting_does_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_SECRET_KEYS", SECRET)
    monkeypatch.setenv("USUAL_OPEN", "perhaps")
    with pytest.raises(InputError, match="USUAL_OPEN") as error:
        read_settings()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.8.9.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200),
        ("10.0.0.5", 403), ("2001:db8::1", 403), ("::ffff:10.0.0.5", 403),
    ],
)  # fmt: skip
def test_without_keys_only_this_machine_gets_responses(fake: type, host: str, status: int) -> None:
    """However it was started: `bentoml serve` listens on all addresses by default."""
    url = f"http://[{host}]:3000" if ":" in host else f"http://{host}:3000"
    client = TestClient(create_app(fake(), Settings()), base_url=url)
    response = client.get("/v1/model")
    assert response.status_code == status, response.text
    assert status == 200 or "keys" in response.json()["detail"]


@pytest.mark.parametrize(
    "lines",
    [
        (f"Authorization: Bearer {PUBLISHABLE}", f"Authorization: Bearer {SECRET}"),
        (f"Authorization: Bearer {SECRET}", f"authorization: Bearer {SECRET}"),
        (f"Authorization: Bearer {SECRET}", "AUTHORIZATION:"),
        (f"Authorization: Bearer {SECRET}", "Host: other"),
        (f"Authorization: Bearer {SECRET}", "Content-Length: 2", "Content-Length: 2"),
        (f"Authorization: Bearer {SECRET}", "Content-Type: text/plain", "Content-Type: application/json"),
        (f"Authorization: Bearer {SECRET}", "Idempotency-Key: a", "Idempotency-Key: b"),
        (f"Authorization: Bearer {SECRET}", "Origin: https://a.example", "Origin: https://b.example"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/model", "/v1/admin/reload", "/livez"])
def test_a_header_that_decides_stands_once(keyed: RunningServer, lines: tuple[str, ...], path: str) -> None:
    """A proxy that reads the first and a server that reads the last would let pass what neither wants."""
    head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", "{}"])
    with socket.create_connection((keyed.host, keyed.port), timeout=5) as connection:
        connection.sendall(head.encode())
        response = connection.recv(65536)
    assert response.startswith(b"HTTP/1.1 400 "), response
    assert SECRET.encode() not in response


def test_a_page_is_told_of_the_model_what_answers_say_of_it(keyed: RunningServer) -> None:
    told = keyed.client.get("/v1/model", headers=bearer(PUBLISHABLE)).json()
    assert told == {"name": "usual", "version": "17", "as_of": "2026-11-20T00:00:00Z", "following": None}
    everything = keyed.client.get("/v1/model", headers=bearer(SECRET)).json()
    assert everything["metrics"] == {"one_to_one.ndcg_10": 0.1}
    (result,) = keyed.client.post("/v1/recommendations", json=BODY, headers=bearer(PUBLISHABLE)).json()["results"]
    assert result["model"] == {"name": "usual", "version": "17", "snapshot": told["as_of"]}


def test_without_keys_the_model_is_told_whole(serve: Callable[..., RunningServer], fake: type) -> None:
    assert "metrics" in serve(fake()).client.get("/v1/model").json()


@pytest.mark.parametrize(
    "path",
    ["//v1/admin/reload", "/v1//admin/reload", "/v1/admin/reload/", "/V1/ADMIN/RELOAD", "/v1/recommendations/../admin/"
     "reload", "/v1/recommendations%2f..%2fadmin%2freload", "/v1/admin%2freload", "/%76%31/admin/reload",
     "/v1/recommendations;/../admin/reload", "/v1/recommendations/%2e%2e/admin/reload", "/livez/../v1/admin/reload",
     "/docs/../v1/customers/erase", "/tracker.js%00/v1/admin/reload", "/v1/model%00", "/v1/items?/v1/model"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_spelling_of_a_path_opens_nothing(keyed: RunningServer, path: str, method: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {PUBLISHABLE}\r\n\r\n"
    with socket.create_connection((keyed.host, keyed.port), timeout=5) as connection:
        connection.sendall(head.encode())
        status = int(connection.recv(65536).split()[1])
    assert status in (403, 404, 405), status


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/model", "/nowhere", "/v1/customers/erase", "/docs"])
def test_answers_are_kept_and_framed_by_nobody(keyed: RunningServer, path: str) -> None:
    for key in (PUBLISHABLE, SECRET, "x"):
        for method in ("GET", "POST", "TRACE"):
            headers = keyed.client.request(method, path, json=BODY, headers=bearer(key)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["cache-control"] == "private, no-store"


@pytest.fixture
def bento(fake: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TestClient]:
    """The BentoML service, imported where there are keys."""
    monkeypatch.delenv("USUAL_OPEN")
    monkeypatch.setenv("USUAL_PUBLISHABLE_KEYS", PUBLISHABLE)
    monkeypatch.setenv("USUAL_SECRET_KEYS", SECRET)
    monkeypatch.setenv("USUAL_BUNDLE", str(tmp_path))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    monkeypatch.setattr("models.recommender.load", lambda _: fake())
    monkeypatch.delitem(sys.modules, "serving.service", raising=False)
    monkeypatch.setattr(serving, "service", None, raising=False)
    service = importlib.import_module("serving.service")
    with TestClient(service.Usual.to_asgi()) as client:
        yield client
    sys.modules.pop("serving.service")


def test_the_bentoml_service_checks_keys_too(bento: TestClient) -> None:
    bulk = {"requests": [{"customer_id": "a", "limit": 1}]}
    for path, body in (("/v1/recommendations/bulk", bulk), ("/v1/recommendations", BODY)):
        response = bento.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert bento.post(path, json=body, headers=bearer(SECRET)).status_code == 200
    assert bento.post("/v1/recommendations", json=BODY, headers=bearer(PUBLISHABLE)).status_code == 200
    # Requests of many callers come to the bulk endpoint at once, so none of them could prove a visitor.
    assert bento.post("/v1/recommendations/bulk", json=bulk, headers=bearer(PUBLISHABLE)).status_code == 403
    for path in ("/v1/customers/erase", "/schema.json", "/docs.json", "/nowhere"):
        assert bento.post(path, json={"customer_id": "u"}).status_code == 401
        assert bento.post(path, json={"customer_id": "u"}, headers=bearer(PUBLISHABLE)).status_code == 403
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert bento.get(path).status_code in (200, 204)


def test_a_bento_without_keys_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USUAL_OPEN")
    monkeypatch.delitem(sys.modules, "serving.service", raising=False)
    with pytest.raises(InputError, match="there are no keys"):
        importlib.import_module("serving.service")


def test_the_openapi_document_says_which_key_will_do(fake: type) -> None:
    document = create_app(fake(), Settings()).openapi()
    schemes = document["components"]["securitySchemes"]
    assert {s["scheme"] for s in schemes.values()} == {"bearer"}
    for _, path, _, _ in PUBLIC:
        for operation in document["paths"][path].values():
            assert operation["security"] == [{"publishable": []}, {"secret": []}]
            assert {"401", "429"} <= set(operation["responses"])
    for path in ("/v1/items", "/v1/customers/merge", "/v1/customers/erase"):
        for operation in document["paths"][path].values():
            assert operation["security"] == [{"secret": []}]
            assert {"401", "403", "409", "429"} <= set(operation["responses"])
    assert document["paths"]["/livez"]["get"]["security"] == []


def test_the_demo_and_benchmarks_need_no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.delenv("USUAL_OPEN")
    monkeypatch.setenv("USUAL_SECRET_KEYS", SECRET)
    _, env = server_command.build_command(tmp_path, "127.0.0.1", 3000, 1, own_keys=False)
    assert (env["USUAL_OPEN"], "USUAL_SECRET_KEYS" in env) == ("1", False)
    assert "USUAL_OPEN" not in os.environ
