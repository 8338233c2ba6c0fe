"""The BentoML service, in this process."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.event_store import EventStore, Limits
from serving.settings import Settings
from tests.serving.api.test_problems import check
from tests.serving.hostile import MALFORMED, VALUES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["serving.api.app", "serving.service"])
def test_serving_imports_nothing_of_training(module: str) -> None:
    """A server needs neither the memory nor the packages that training does."""
    code = f"import {module}, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"mlflow", "optuna", "matplotlib", "training"}


@pytest.fixture
def client(fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TestClient]:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    from serving import service

    monkeypatch.setattr("models.recommender.load", lambda _: fake())
    monkeypatch.setattr(service, "settings", Settings(bundle=tmp_path, max_batch=3))
    with TestClient(service.Usual.to_asgi()) as client:
        yield client


def test_http_api_is_mounted(client: TestClient) -> None:
    response = client.post("/v1/recommendations", json={"requests": [{"customer_id": "a", "limit": 1}]})
    assert response.status_code == 200
    assert response.json()["results"][0]["segment"] == "segment of a"
    assert response.headers["cache-control"] == "private, no-store"
    assert client.get("/readyz").status_code == 204
    assert client.get("/openapi.json").json()["info"]["title"] == "The Usual"


def test_readiness_is_that_of_the_model(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not BentoML's, which knows nothing of it."""
    why = "every answer is empty"
    monkeypatch.setattr("serving.recommend.engine.RecommendationEngine.problem", property(lambda _: why))
    response = client.get("/readyz")
    assert (response.status_code, response.json()["detail"]) == (503, f"The model cannot answer: {why}")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/nowhere", 404), ("GET", "/v1/recommendations", 405)],
)
def test_errors_of_the_service_are_problems_too(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.headers.get_list("x-request-id")) == 1


def test_bulk_gives_each_request_its_own_result(client: TestClient) -> None:
    requests = [{"customer_id": f"u{n}", "limit": 1} for n in range(10)]
    requests[4] = {"customer_id": "u4", "limit": 0}
    results = client.post("/v1/recommendations/bulk", json={"requests": requests}).json()
    assert len(results) == 10
    assert [r.get("segment") for r in results[:4]] == [f"segment of u{n}" for n in range(4)]
    assert [r.get("segment") for r in results[5:]] == [f"segment of u{n}" for n in range(5, 10)]
    assert results[4]["error"]["errors"] == [
        {"pointer": "/limit", "detail": "Input should be greater than or equal to 1"}
    ]


def test_bulk_refuses_large_bodies(client: TestClient) -> None:
    response = client.post("/v1/recommendations/bulk", content=b" " * 3_000_000)
    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"


def test_bulk_errors_log_no_input(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    check(client.post("/v1/recommendations/bulk", json={"requests": "secret"}), 422, "invalid_request")
    assert "secret" not in caplog.text


FIELDS = b"client_id limit cursor placement filter context exclude include diversity strict other".split()
ONE = b'{"requests": [{"client_id": "c", "limit": 1}]}'
OTHER_TYPES = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/octet-stream",
               "multipart/form-data; boundary=x", "application/vnd.bentoml+pickle", "application/vnd.bentoml+arrow",
               "application/json, multipart/form-data"]  # fmt: skip


@pytest.mark.parametrize("content_type", OTHER_TYPES)
@pytest.mark.parametrize(
    "body", [ONE, b"requests=1", b'--x\r\nContent-Disposition: form-data; name="requests"\r\n\r\n1']
)
def test_bulk_reads_json_only(client: TestClient, content_type: str, body: bytes) -> None:
    response = client.post("/v1/recommendations/bulk", content=body, headers={"content-type": content_type})
    check(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_bulk_refuses_what_is_no_json(client: TestClient, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    response = client.post("/v1/recommendations/bulk", content=body, headers={"content-type": "application/json"})
    check(response, 400, "malformed_json")
    assert not caplog.records, "nobody fills the log"


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_bulk_takes_any_json(client: TestClient, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    bodies = [b'{"requests": %s}', b'{"requests": [%s]}', b'{"requests": [], "requests": %s}', b"%s", b"[%s]"]
    bodies += [b'{"requests": [{"client_id": "c", "%s": %%s}]}' % name for name in FIELDS]
    for body in bodies:
        headers = {"content-type": "application/json"}
        response = client.post("/v1/recommendations/bulk", content=body % value, headers=headers)
        if response.status_code != 200:
            check(response, *((400, "malformed_json") if response.status_code == 400 else (422, "invalid_request")))
    assert not caplog.records


def test_bulk_takes_no_more_than_its_share(client: TestClient) -> None:
    request = {"client_id": "c", "limit": 1}
    check(client.post("/v1/recommendations/bulk", json={"requests": [request] * 257}), 422, "invalid_request")
    assert len(client.post("/v1/recommendations/bulk", json={"requests": [request] * 256}).json()) == 256
    none = client.post("/v1/recommendations/bulk", json={"requests": []})
    assert none.json() == []
    assert "server" not in none.headers


def test_writes_as_slow_as_allowed_are_waited_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """BentoML's own timer must not end what our limits allow: two writes, each almost as long as it may take."""

    def delay(write: Callable[..., Future]) -> Callable[..., Future]:
        def begin(*args: object) -> Future:
            future: Future = Future()
            threading.Timer(0.9 * Limits().write_s, lambda: future.set_result(write(*args).result(5))).start()
            return future

        return begin

    monkeypatch.setattr(EventStore, "link", delay(EventStore.link))
    monkeypatch.setattr(EventStore, "append", delay(EventStore.append))
    at = datetime.now(UTC).isoformat()
    calls = [
        {"type": "alias", "userId": "u1", "previousId": "d1", "timestamp": at},
        {"type": "track", "event": "Product Viewed", "anonymousId": "d1", "timestamp": at,
         "properties": {"product_id": "p1"}},
    ]  # fmt: skip
    response = client.post("/v1/events/segment", json={"batch": calls})
    assert (response.status_code, response.json()["accepted"]) == (202, 1)


def test_refusals_of_the_gateway_are_counted(client: TestClient) -> None:
    def count() -> float:
        lines = client.get("/metrics").text.splitlines()
        series = 'usual_requests_total{route="/v1/recommendations",status="413"} '
        return next((float(line.removeprefix(series)) for line in lines if line.startswith(series)), 0)

    before = count()
    assert client.post("/v1/recommendations", content=b"x" * 3_000_000).status_code == 413
    assert count() == before + 1
