"""Health: a model that answers nobody is not served, and a server that answers nobody is not ready."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from models import publishing
from models.bundle import Bundle
from models.recommender import BundleRecommender, load
from tests.serving.event_bodies import ago
from tests.serving.recommend.test_model_watcher import until, version


def with_available(bundle: Bundle, share: int) -> Bundle:
    """The bundle, of whose items every `share`-th is available; none at 0."""
    s = bundle.snapshot
    column = pa.array([bool(share) and n % share == 0 for n in range(len(s.items))], pa.bool_())
    catalog = s.catalog.set_column(s.catalog.schema.get_field_index("available"), "available", column)
    return replace(bundle, snapshot=replace(s, catalog=catalog))


@pytest.fixture(scope="module")
def good(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("good") / "bundle")


@pytest.fixture(scope="module")
def empty(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_available(bundle, 0).save(tmp_path_factory.mktemp("empty") / "bundle")


def ready(server: Any) -> tuple[int, str]:
    response = server.client.get("/readyz")
    return response.status_code, response.text


def patch_all(server: Any, items: int, available: bool | None) -> None:
    body = {"items": [{"item_id": f"i{n}", "available": available} for n in range(items)]}
    assert server.client.patch("/v1/items", json=body).status_code == 200


def test_a_swap_to_a_model_that_answers_nobody_fails(serve: Callable, good: Path, empty: Path, tmp_path: Path):
    where = tmp_path / "champion"
    published = publishing.publish(good, "1", where)
    server = serve(
        BundleRecommender(Bundle.load(published.path)),
        champion=where,
        follow_every_s=0.05,
        load=load,
        published=published,
    )
    assert ready(server) == (204, "")
    publishing.publish(empty, "2", where)
    until(lambda: ready(server)[0] == 200)
    assert version(server) == "17", "as before"
    body = server.client.get("/readyz").json()
    assert body["ready"] is True
    assert "fails its self check: every answer is empty: none of the" in body["problem"]
    refused = server.client.post("/v1/admin/reload")
    assert (refused.status_code, "every answer is empty" in refused.json()["detail"]) == (503, True)
    assert 'usual_swaps_total{outcome="failed"}' in server.client.get("/metrics").text
    publishing.publish(good, "3", where)
    until(lambda: version(server) == "3")
    assert ready(server) == (204, "")


def test_a_first_model_that_answers_nobody_is_not_ready(serve: Callable, empty: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "usual.serving"):
        server = serve(load(empty))
    assert "the server is not ready: every answer is empty" in caplog.text
    status, text = ready(server)
    assert (status, "none of the 60 items of the model is available" in text) == (503, True)
    (result,) = server.post({"client_id": "d1"}).json()["results"]
    assert result["items"] == []


def test_overrides_that_leave_nothing_make_the_server_unready_until_they_are_undone(
    event_server: Any, caplog: pytest.LogCaptureFixture
):
    n = event_server.recommender.catalog
    assert ready(event_server) == (204, "")
    assert f"usual_available_items {n}.0" in event_server.client.get("/metrics").text
    with caplog.at_level(logging.WARNING, "usual.serving"):
        patch_all(event_server, n, False)
        status, text = ready(event_server)
        assert status == 503
        assert f"{n:,} were set unavailable by PATCH /v1/items since the snapshot" in text
        assert event_server.post({"client_id": "d1"}).json()["results"][0]["items"] == []
        patch_all(event_server, 1, None)
        assert ready(event_server) == (204, "")
    metrics = event_server.client.get("/metrics").text
    assert "usual_available_items 1.0" in metrics
    assert 'usual_empty_answers_total{placement="home.for_you"}' in metrics
    messages = [record.message for record in caplog.records]
    assert sum("the server is not ready" in m for m in messages) == 1
    assert sum("the server is ready again: 1 items" in m for m in messages) == 1


def test_a_recommender_without_answers_is_not_ready(serve: Callable, fake: Any):
    """Whatever the reason, also where all items are available."""

    class Silent(fake):
        def _rank(self, request: Any, fallback: Any = None) -> Any:
            return replace(super()._rank(request, fallback), item_ids=[], scores=[], generators=[])

    server = serve(Silent(as_of=ago(days=2)))
    status, text = ready(server)
    assert (status, "although 1,000 of 1,000 items are available" in text) == (503, True)
