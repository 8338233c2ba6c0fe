"""Faults while visitors send requests: nobody gets another visitor's response, or an empty one."""

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from models import publishing
from models.bundle import Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender, load
from serving.deploy.server import run_server
from serving.event_store import Limits, open_store
from tests.serving.databases import Postgres
from tests.serving.event_bodies import event_body, post_events

VISITORS = 4
Outcome = tuple[int, bool, str | None]  # status, degraded, why there was a fallback


@dataclass
class Crowd:
    """Visitors that send requests over and over, each for themselves, and check the responses."""

    url: str
    is_own: Callable[[str, dict[str, Any]], bool]
    """Whether an answer is that visitor's own."""
    customers: list[str]
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    broken: int = 0  # connections that broke

    @contextmanager
    def asking(self) -> Iterator["Crowd"]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(c, stop)) for c in self.customers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)

    def _ask(self, customer: str, stop: threading.Event) -> None:
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            while not stop.is_set():
                try:
                    response = client.post("/v1/recommendations", json={"requests": [{"customer_id": customer}]})
                except httpx.TransportError:
                    self.broken += 1
                    time.sleep(0.05)
                    continue
                body = response.json()
                if response.status_code != 200:
                    assert response.headers["content-type"] == "application/problem+json"
                    self.outcomes[response.status_code, False, body["code"]] += 1
                    continue
                (result,) = body["results"]
                if not result["items"] or not self.is_own(customer, result):
                    self.wrong.append(result)
                fallback = result["fallback"] and result["fallback"]["why"]
                self.outcomes[response.status_code, result["degraded"], fallback] += 1

    def until(self, matches: Callable[[Outcome], bool], within_s: float = 30) -> None:
        """Wait for an outcome from now on."""
        self.outcomes.clear()
        end = time.monotonic() + within_s
        while not any(matches(outcome) for outcome in list(self.outcomes)):
            assert time.monotonic() < end, dict(self.outcomes)
            time.sleep(0.02)


def own_segment(customer: str, result: dict[str, Any]) -> bool:
    """Of the fake recommender: it names the customer it ranked for, and nobody where it failed."""
    named = result["segment"]
    return named == f"segment of {customer}" or (result["fallback"] is not None and named == "PROSPECT")


def crowd_at(server: Any) -> Crowd:
    return Crowd(f"http://{server.host}:{server.port}", own_segment, [f"c{n}" for n in range(VISITORS)])


FINE: Outcome = (200, False, None)


def fine(outcome: Outcome) -> bool:
    return outcome == FINE


def degraded(outcome: Outcome) -> bool:
    return outcome[0] == 200 and outcome[1]


def test_the_event_store_stops_and_comes_back(serve: Callable, fake: type, tmp_path_factory: pytest.TempPathFactory):
    database = Postgres(tmp_path_factory.mktemp("stopped"))
    try:
        store = open_store(database.database(), Limits(write_s=1))
        server = serve(fake(), store=store, visit_budget_ms=100)
        with crowd_at(server).asking() as crowd:
            crowd.until(fine)
            database.stop()
            crowd.until(degraded)
            refused = post_events(server, event_body())
            assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            database.start()
            crowd.until(fine)
        assert not crowd.wrong
        assert not crowd.broken
        assert {outcome[0] for outcome in crowd.outcomes} == {200}
    finally:
        database.close()


def test_a_ranker_that_is_slow(serve: Callable, fake: type):
    slow = fake()
    server = serve(slow, deadline_ms=50)
    with crowd_at(server).asking() as crowd:
        crowd.until(fine)
        slow.hook = lambda _: time.sleep(0.2)
        crowd.until(lambda o: o == (200, True, "deadline"))
        slow.hook = None
        crowd.until(fine)
    assert not crowd.wrong
    assert not crowd.broken


def test_a_ranker_that_fails_for_one_visitor(serve: Callable, fake: type):
    def poison(requests: list[RankingRequest]) -> None:
        if any(r.customer_id == "c1" for r in requests):
            raise ValueError("poison")

    poisoned = fake()
    server = serve(poisoned)
    with crowd_at(server).asking() as crowd:
        crowd.until(fine)
        poisoned.hook = poison
        crowd.until(lambda o: o == (200, True, "ranker_error"))
        crowd.until(fine)  # the others
    assert not crowd.wrong
    assert not crowd.broken
    assert set(crowd.outcomes) <= {FINE, (200, True, "ranker_error")}


def test_more_requests_than_can_be_ranked(serve: Callable, fake: type):
    busy = fake(hook=lambda _: time.sleep(0.05))
    server = serve(busy, max_queue=1, max_batch=1)
    with crowd_at(server).asking() as crowd:
        crowd.until(lambda o: o == (429, False, "overloaded"))
        crowd.until(fine)
    assert not crowd.wrong
    assert {outcome[0] for outcome in crowd.outcomes} <= {200, 429}


def test_a_new_model_that_is_damaged(serve: Callable, bundle: Bundle, tmp_path: Path):
    bundle_path, where = bundle.save(tmp_path / "bundle"), tmp_path / "champion"
    published = publishing.publish(bundle_path, "1", where)
    server = serve(BundleRecommender(bundle), champion=where, follow_every_s=0.05, load=load, published=published)
    crowd = crowd_of(f"http://{server.host}:{server.port}", bundle)
    with crowd.asking():
        crowd.until(fine)
        shutil.copytree(bundle_path, where / "2-bad")
        (where / "2-bad" / "items" / "features.npy").write_bytes(b"\x93NUMPY")
        (where / publishing.POINTER).write_text('{"bundle": "2-bad", "version": "2"}')
        end = time.monotonic() + 20
        while server.client.get("/v1/model").json()["following"]["problem"] is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        crowd.until(fine)
    assert not crowd.wrong
    assert not crowd.broken
    assert set(crowd.outcomes) == {FINE}


def crowd_of(url: str, bundle: Bundle) -> Crowd:
    """Regular customers of a real bundle, whose own answer is known."""
    s = bundle.snapshot
    regulars = np.argsort(-np.diff(s.history.indptr))[:VISITORS]
    customers = s.customers.at(regulars)
    rankings = BundleRecommender(bundle).recommend([RankingRequest(30, c) for c in customers])
    own = {c: set(r.item_ids) for c, r in zip(customers, rankings, strict=True)}
    segments = {c: r.segment for c, r in zip(customers, rankings, strict=True)}

    def is_own(customer: str, result: dict[str, Any]) -> bool:
        got = {i["item_id"] for i in result["items"]}
        return result["segment"] == segments[customer] and len(got & own[customer]) >= len(got) - 2

    return Crowd(url, is_own, customers)


@pytest.mark.e2e
def test_a_killed_worker_and_an_unreachable_registry(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bundle_path = bundle.save(tmp_path / "bundle")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    others = psutil.Process().children(recursive=True)  # what other tests have left, zombies too
    with run_server(bundle_path, workers=2) as url, crowd_of(url, bundle).asking() as crowd:
        crowd.until(fine)
        children = [p for p in psutil.Process().children(recursive=True) if p not in others]
        workers = [p for p in children if any("worker" in part for part in p.cmdline())]
        assert len(workers) >= 2
        os.kill(workers[0].pid, signal.SIGKILL)
        time.sleep(1)
        crowd.until(fine)
    assert not crowd.wrong
    assert crowd.broken <= 2 * VISITORS, "only what the killed worker had in hand"
    assert {outcome[0] for outcome in crowd.outcomes} == {200}
