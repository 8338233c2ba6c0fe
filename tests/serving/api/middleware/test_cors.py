"""CORS: pages of other origins."""

from collections.abc import Callable

import httpx
import pytest

from features.common.errors import InputError
from serving.settings import Settings
from tests.serving.api.middleware.test_api_keys import BODY, KEYS, PUBLISHABLE, bearer
from tests.serving.conftest import RunningServer

SHOP, OTHER = "https://shop.example", "https://other.example"


@pytest.fixture
def server(serve: Callable[..., RunningServer], fake: type) -> RunningServer:
    return serve(fake(), cors_origins=f"{SHOP}, http://localhost:5173", rate_publishable=1, rate_burst_s=3, **KEYS)


def preflight(
    server: RunningServer, origin: str, path: str = "/v1/recommendations", method: str = "POST"
) -> httpx.Response:
    headers = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    return server.client.options(path, headers={"origin": origin} | headers)


def names(response: httpx.Response, header: str) -> set[str]:
    return {name.strip().lower() for name in response.headers[header].split(",")}


def test_preflight_of_an_allowed_origin(server: RunningServer) -> None:
    for origin in (SHOP, "http://localhost:5173"):
        response = preflight(server, origin)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == origin
        assert {"post", "get", "patch"} <= names(response, "access-control-allow-methods")
        assert names(response, "access-control-allow-headers") == {
            "authorization", "content-type", "x-request-id", "traceparent", "idempotency-key", "x-visitor-token",
        }  # fmt: skip
        assert "access-control-allow-credentials" not in response.headers
        assert response.headers["vary"] == "Origin"
        assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "https://shop.example.evil", "https://SHOP.example", "http://shop.example"]
)
def test_other_origins_are_not_allowed(server: RunningServer, origin: str) -> None:
    refusal = preflight(server, origin)
    assert refusal.status_code == 401
    ranking = server.client.post("/v1/recommendations", json=BODY, headers=bearer(PUBLISHABLE) | {"origin": origin})
    for response in (refusal, ranking):
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert response.headers["vary"] == "Origin"


def test_pages_may_read_responses_and_errors(server: RunningServer) -> None:
    key, page = bearer(PUBLISHABLE), {"origin": SHOP}
    json = {"content-type": "application/json"}

    def post(content: bytes, headers: dict[str, str]) -> httpx.Response:
        return server.client.post("/v1/recommendations", content=content, headers=page | headers)

    good = b'{"requests": [{"session_id": "s"}]}'
    responses = {
        401: post(good, json),
        403: server.client.patch("/v1/items", headers=page | key),
        200: post(good, key | json),
        400: post(b"{", key | json),
        413: post(b" " * 3_000_000, key | json),
        429: post(good, key | json),
    }
    for status, response in responses.items():
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == SHOP
        assert {"x-request-id", "server-timing", "retry-after", "ratelimit", "ratelimit-remaining"} <= names(
            response, "access-control-expose-headers"
        )


def test_without_a_list_no_origin_is_allowed(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), **KEYS)
    assert preflight(server, SHOP).status_code == 401
    response = server.client.post("/v1/recommendations", json=BODY, headers=bearer(PUBLISHABLE) | {"origin": SHOP})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control") or name == "vary"]


def test_any_origin_never_gets_credentials(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), cors_origins="*", **KEYS)
    response = preflight(server, OTHER)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (204, "*")
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "wrong",
    ["shop.example", "https://shop.example/", "https://Shop.example", "null", "*, https://shop.example", "ftp://x"],
)
def test_an_origin_that_browsers_never_send_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="USUAL_CORS_ORIGINS"):
        Settings(cors_origins=wrong, **KEYS)  # type: ignore[arg-type]
