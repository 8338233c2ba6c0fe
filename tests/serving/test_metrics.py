"""Metrics and logs of the server, over HTTP."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.bundle import Bundle
from models.recommender import BundleRecommender
from serving import logging as logs
from serving.api.middleware.telemetry import ROUTES
from serving.event_store import EventStore
from tests.serving.event_bodies import event_body, post_events

VISITOR = "somebody-secret"


def read_metrics(server: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = server.client.get("/metrics").text
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


@pytest.fixture
def shop(serve: Callable, sqlite_store: EventStore, bundle: Bundle) -> Any:
    return serve(BundleRecommender(bundle), store=sqlite_store, visit_budget_ms=5000)


def test_requests_slates_and_events_are_counted(shop: Any):
    before = read_metrics(shop)
    shop.post({"client_id": VISITOR}, {"client_id": VISITOR, "placement": "home.trending"})
    post_events(
        shop, event_body("view_item", "p1"), event_body("view_item", "p2"), event_body("view_item", "p3", currency=3)
    )
    shop.client.get("/v1/nowhere")
    after = read_metrics(shop)

    def increase(name: str, **labels: str) -> float:
        key = name, tuple(sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert increase("usual_requests_total", route="/v1/recommendations", status="200") == 1
    assert increase("usual_requests_total", route="other", status="404") == 1
    assert increase("usual_answers_total", placement="home.trending", strategy="generators") == 1
    assert increase("usual_fallbacks_total", why="unknown_visitor") == 1
    assert increase("usual_events_total", outcome="accepted") == 2
    assert increase("usual_events_total", outcome="rejected") == 1
    assert increase("usual_request_seconds_count", route="/v1/recommendations") == 1
    assert increase("usual_batch_size_sum") == 2
    for stage in ("queue", "visitor", "plan", "candidates", "features", "ranker", "rules"):
        assert increase("usual_stage_seconds_count", stage=stage) >= 1, stage
    assert after["usual_model_version", ()] == 17


def test_labels_are_bounded_and_hold_nothing_that_callers_send(shop: Any):
    for path in (f"/{VISITOR}", "/v1/recommendations/x", f"/v1/model?who={VISITOR}"):
        shop.client.get(path)
    shop.client.request("BREW", "/v1/model")
    shop.post({"client_id": VISITOR, "placement": VISITOR}, {"customer_id": VISITOR})
    text = shop.client.get("/metrics").text
    assert VISITOR not in text
    assert "BREW" not in text
    routes = {s.labels["route"] for f in text_string_to_metric_families(text) for s in f.samples if "route" in s.labels}
    assert routes <= ROUTES | {"other"}


def test_every_route_has_a_label_of_its_own(shop: Any):
    assert set(shop.client.get("/openapi.json").json()["paths"]) <= ROUTES


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """A function that reads the log lines as JSON."""
    logger = logging.getLogger("usual")
    before, output = (logger.handlers, logger.propagate, logs.access.level), io.StringIO()
    logger.handlers = [logging.StreamHandler(output)]
    logs.configure(json_lines=True, every_request=True)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    logger.handlers, logger.propagate = before[0], before[1]
    logs.access.setLevel(before[2])


def test_a_request_is_one_line_with_its_id_and_trace(shop: Any, lines: Callable[[], list[dict[str, Any]]]):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "r-1"}
    body = {"requests": [{"client_id": VISITOR, "context": {"item_ids": [VISITOR]}}]}
    shop.client.post("/v1/recommendations?q=" + VISITOR, json=body, headers=headers)
    (line,) = [x for x in lines() if x["logger"] == "usual.access"]
    assert (line["route"], line["method"], line["status"]) == ("/v1/recommendations", "POST", 200)
    assert (line["request"], line["trace"], line["level"]) == ("r-1", trace, "info")
    assert line["ms"] > 0
    assert VISITOR not in json.dumps(lines())


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        (b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", None),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None),
        (b"secret", None),
        (None, None),
    ],
)
def test_malformed_trace_headers_are_ignored(header: bytes | None, trace: str | None):
    assert logs.parse_trace_id(header) == trace


def test_without_an_access_log_only_failures_are_logged(lines: Callable[[], list[dict[str, Any]]]):
    logs.configure(json_lines=True, every_request=False)
    logs.log_request("/v1/model", "GET", 200, 0.1, "r", None)
    assert lines() == []
    logs.log_request("/v1/model", "GET", 503, 0.1, "r", None)
    assert [x["status"] for x in lines()] == [503]


def test_the_dashboard_queries_existing_metrics(shop: Any):
    shop.post({"client_id": VISITOR})
    post_events(shop, event_body("view_item", "p1"))
    text = shop.client.get("/metrics").text
    dashboard = json.loads(Path("serving/dashboards/grafana.json").read_text())
    names = {name for p in dashboard["panels"] for t in p["targets"] for name in re.findall(r"usual_\w+", t["expr"])}
    assert len(names) > 8
    for name in names - {"usual_swaps_total"}:  # counted with the first swap
        assert f"\n{name}" in text, name
