"""A server without keys trusts programs of its own machine, and no page of another origin."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.errors import InputError
from serving.api.middleware.local_pages import FOREIGN_PATHS, LocalPages, host_name
from serving.settings import parse_hosts
from tests.features.shop import examples
from tests.serving.api.test_problems import check
from tests.serving.conftest import RunningServer, run_app
from tests.serving.hostile import BODIES, LISTS

BODY = {"requests": [{"client_id": "c", "limit": 1}]}
PATHS = [
    *(("PATCH" if path == "/v1/items" else "POST", path) for path in (*BODIES, *LISTS)),
    *(("POST", path) for path in ("/v1/admin/reload", "/v1/admin/refresh")),
    *(("GET", path) for path in ("/v1/model", "/v1/placements", "/metrics", "/openapi.json", "/demo/shop", "/nowhere")),
]
FOREIGN_HOSTS = [
    "evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example.localhost:1",
    "10.0.0.5", "[::]", "0.0.0.0:3000", "[2001:db8::1]:3000", "localhost@evil.example", "localhost:x", "[::1", "",
    "2130706433", "127.1", "0x7f.0.0.1", "localhost,evil.example",
]  # fmt: skip
FOREIGN_PAGES = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:8080", "sec-fetch-site": "same-site"},
    {"origin": "http://localhost.evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "Cross-Site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "of a kind to come"},
]


@pytest.fixture(scope="module")
def keyless() -> Any:
    with run_app() as server:
        yield server


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_name_gets_nothing(keyless: RunningServer, host: str) -> None:
    """DNS rebinding: the page's own origin is the name that now leads here, so only Host tells."""
    for method, path in PATHS:
        response = keyless.client.request(method, path, json=BODY, headers={"host": host})
        check(response, 403, "forbidden")
    assert keyless.client.get("/livez", headers={"host": host}).status_code == 403


def test_no_name_at_all_gets_nothing(keyless: RunningServer) -> None:
    with socket.create_connection((keyless.host, keyless.port), timeout=5) as connection:
        connection.sendall(b"GET /v1/model HTTP/1.0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("page", FOREIGN_PAGES, ids=str)
def test_a_foreign_page_gets_nothing_and_changes_nothing(keyless: RunningServer, page: dict[str, str]) -> None:
    before = len(keyless.recommender.batches)
    for method, path in PATHS:
        check(keyless.client.request(method, path, json=BODY, headers=page), 403, "forbidden")
        simple = {"content-type": "text/plain"} | page  # what a page may send without asking first
        check(keyless.client.request(method, path, content=b"{}", headers=simple), 403, "forbidden")
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
        assert keyless.client.request(method, "/v1/admin/reload", headers=page).status_code == 403
    assert len(keyless.recommender.batches) == before, "nobody was ranked for"


def test_what_pages_may_include_is_for_all_and_tells_nothing(keyless: RunningServer) -> None:
    for path in FOREIGN_PATHS - {"/healthz"}:
        response = keyless.client.get(path, headers={"sec-fetch-site": "cross-site"})
        assert response.status_code in (200, 204), path
        assert "segment of" not in response.text


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "LOCALHOST", "localhost.", "127.0.0.1:9", "127.8.9.1",
                                  "[::1]:3000", "[::ffff:127.0.0.1]"])  # fmt: skip
def test_programs_and_own_pages_are_answered(keyless: RunningServer, host: str) -> None:
    headers: dict[str, str] = {"host": host}
    assert keyless.client.post("/v1/recommendations", json=BODY, headers=headers).status_code == 200
    own = headers | {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert keyless.client.post("/v1/recommendations", json=BODY, headers=own).status_code == 200
    typed = headers | {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
    assert keyless.client.get("/v1/model", headers=typed).status_code == 200


def test_hosts_and_origins_that_are_named(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), allowed_hosts="dev.shop.test, ::7", cors_origins="https://shop.test")
    page = {"origin": "https://shop.test", "sec-fetch-site": "cross-site"}
    for host in ("dev.shop.test:3000", "DEV.shop.test", "[::7]:3000", "localhost"):
        response = server.client.post("/v1/recommendations", json=BODY, headers={"host": host} | page)
        assert response.status_code == 200, response.text
        assert response.headers["access-control-allow-origin"] == "https://shop.test"
    asked = {"access-control-request-method": "POST"}
    assert server.client.options("/v1/recommendations", headers=page | asked).status_code == 204
    for wrong in ({"host": "shop.test"}, {"origin": "https://shop.test.evil.example"}, {"origin": "http://shop.test"}):
        response = server.client.options("/v1/recommendations", headers=page | asked | wrong)
        check(response, 403, "forbidden")
        assert "access-control-allow-origin" not in response.headers


def test_a_server_with_keys_goes_by_its_keys(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), open=False, secret_keys="s" * 20)
    headers = {"host": "api.shop.example", "origin": "https://shop.example", "authorization": "Bearer " + "s" * 20}
    assert server.client.post("/v1/recommendations", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("text", ["http://dev.shop.test", "dev.shop.test:3000", "*", "a b", "dev.shop.test/", "[::1]"])
def test_settings_that_are_no_names_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="USUAL_ALLOWED_HOSTS"):
        parse_hosts(text)


@examples(200)
@given(host=st.one_of(st.binary(max_size=30), st.text("localhst.0127:[]@%", max_size=20).map(str.encode)))
def test_only_loopback_names_pass(host: bytes) -> None:
    refused = LocalPages().check("/v1/model", {b"host": host.lower()}, "127.0.0.1") is not None
    name = host_name(host.lower())
    assert refused or name == "localhost" or name.startswith("127.") or ":" in name
