import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import pytest

from models.interface import RankingRequest
from serving.schemas.recommendations import RecommendationsResponse

ANYONE = {"session_id": "s"}


def test_response_has_the_requested_fields(server) -> None:
    response = server.post(
        {
            "placement": "home.trending",
            "customer_id": "u_91",
            "context": {"item_ids": ["p1", "p2"], "cart_item_ids": ["p9"]},
            "limit": 3,
            "exclude": {"item_ids": ["i1"]},
            "include": ["score", "generators"],
        }
    )
    assert response.status_code == 200
    (result,) = response.json()["results"]
    assert re.fullmatch("rec_[0-9a-f]{32}", result.pop("recommendation_id"))
    assert re.fullmatch("[A-Za-z0-9_-]+", result.pop("next_cursor"))
    assert result == {
        "placement": "home.trending",
        "items": [
            {"item_id": "i0", "rank": 1, "score": 1.0, "generators": ["popular", "als"]},
            {"item_id": "i2", "rank": 2, "score": 0.999, "generators": ["popular", "als"]},
            {"item_id": "i3", "rank": 3, "score": 0.998, "generators": ["popular", "als"]},
        ],
        "strategy": "one_to_one",
        "fallback": None,
        "degraded": False,
        "identity": "proven",
        "segment": "segment of u_91",
        "thanks": [],
        "model": {"name": "usual", "version": "17", "snapshot": "2026-11-20T00:00:00Z"},
        "experiment": None,
    }
    (ranking_request,) = server.recommender.batches[-1]
    assert (ranking_request.limit, ranking_request.customer_id, ranking_request.exclude) == (3, "u_91", {"i1"})
    assert ranking_request.recent == (("p1", "view_item"), ("p2", "view_item"), ("p9", "add_to_cart"))
    rules = ranking_request.rules
    assert (rules.generators, rules.use_ranker, rules.fill) == (("popular",), False, ("popular",))


def test_responses_match_the_documented_schema(server) -> None:
    response = server.post(ANYONE, {"customer_id": "a", "include": ["score"]}, {"limit": 0})
    RecommendationsResponse.model_validate_json(response.content)


def test_defaults_and_unknown_visitor(server) -> None:
    (result,) = server.post(ANYONE | {"customer_id": ""}).json()["results"]
    assert result["placement"] == "home.for_you"
    assert [i["rank"] for i in result["items"]] == list(range(1, 13))
    assert set(result["items"][0]) == {"item_id", "rank"}
    assert (result["strategy"], result["fallback"]) == ("popular", {"why": "unknown_visitor", "to": "popular"})


def test_results_come_in_order_each_with_its_own_id(server) -> None:
    results = server.post(*({"customer_id": f"u{n}", "limit": n + 1} for n in range(16))).json()["results"]
    assert [r["segment"] for r in results] == [f"segment of u{n}" for n in range(16)]
    assert [len(r["items"]) for r in results] == list(range(1, 17))
    assert len({r["recommendation_id"] for r in results}) == 16


def test_wrong_request_fails_alone(server) -> None:
    response = server.post({"customer_id": "a"}, {"customer_id": "b", "limit": 0}, {"customer_id": "c"})
    assert response.status_code == 200
    first, wrong, last = response.json()["results"]
    assert (first["segment"], last["segment"]) == ("segment of a", "segment of c")
    assert set(wrong) == {"error"}
    assert wrong["error"]["status"] == 422
    assert wrong["error"]["errors"][0]["pointer"] == "/requests/1/limit"


def test_concurrent_callers_get_their_own_answers(server) -> None:
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda n: server.post({"customer_id": f"u{n}", "limit": 1}), range(100)))
    segments = [r.json()["results"][0]["segment"] for r in responses]
    assert segments == [f"segment of u{n}" for n in range(100)]


def test_ids_of_visitors_follow_the_rules_of_events(server) -> None:
    assert server.post({"client_id": "\x1cx"}).status_code == 200
    assert server.post({"client_id": "\x1c"}).status_code == 422
    assert server.post({"client_id": " \n"}).status_code == 422


def test_headers(server) -> None:
    response = server.post(ANYONE)
    assert response.headers["cache-control"] == "private, no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"queue;dur=[\d.]+, rank;dur=[\d.]+", response.headers["server-timing"])
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])

    def echoed(header: bytes) -> str:
        return server.client.get("/livez", headers=[(b"x-request-id", header)]).headers["x-request-id"]

    assert echoed(b"trace-1.A_b") == "trace-1.A_b"
    for insane in (b"a b", b"x" * 65, b"", b"\xe4", b"<script>"):
        assert re.fullmatch("[0-9a-f]{32}", echoed(insane))


def test_poisoned_request_is_degraded_and_alone(serve, fake, caplog: pytest.LogCaptureFixture) -> None:
    def poison(requests: list[RankingRequest]) -> None:
        for request in requests:
            if request.customer_id == "secret":
                raise KeyError(request.customer_id)

    server = serve(fake(hook=poison))
    with caplog.at_level(logging.INFO):
        response = server.post(
            {"customer_id": "a"},
            {"customer_id": "secret", "limit": 2, "exclude": {"item_ids": ["i0"]}},
            {"customer_id": "b"},
        )
    first, poisoned, last = response.json()["results"]
    assert (first["segment"], last["segment"]) == ("segment of a", "segment of b")
    assert (first["degraded"], last["degraded"]) == (False, False)
    assert poisoned["degraded"] is True
    assert (poisoned["strategy"], poisoned["fallback"]["why"]) == ("popular", "ranker_error")
    assert [i["item_id"] for i in poisoned["items"]] == ["i1", "i2"]
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


def test_nothing_left_to_degrade_to_is_500(serve, fake) -> None:
    broken = fake()
    server = serve(broken)
    broken.hook = lambda _: 1 / 0
    broken.recommend_without_ranker = lambda *_: 1 / 0
    response = server.post(ANYONE)
    assert response.status_code == 500
    problem = response.json()
    assert problem["code"] == "internal_error"
    assert "division" not in response.text
    assert "Traceback" not in response.text


def test_missing_results_are_never_those_of_another_request(serve, fake) -> None:
    class Short(fake):
        def recommend(self, requests):
            answers = super().recommend(requests)
            return answers[:-1] if requests[0].customer_id else answers  # not while warming up

    results = serve(Short()).post({"customer_id": "a"}, {"customer_id": "b"}).json()["results"]
    assert [r["fallback"]["why"] for r in results] == ["ranker_error", "ranker_error"]
    assert not any("segment of" in r["segment"] for r in results)


class Held:
    """A recommender's hook that holds every request but the warm-up until let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Event()

    def __call__(self, requests: list[RankingRequest]) -> None:
        if requests[0].customer_id:
            self.entered.set()
            assert self.go.wait(10)


def test_overload_is_429_with_retry_after(serve, fake) -> None:
    held = Held()
    server = serve(fake(hook=held), max_queue=1, max_batch=1, deadline_ms=60_000)
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(server.post, {"customer_id": "a"})
        assert held.entered.wait(10)
        others = [pool.submit(server.post, {"customer_id": c}) for c in "bcd"]
        refused = [f.result() for f in islice(as_completed(others), 2)]  # the third waits in the queue
        held.go.set()
        assert [f.result().status_code for f in (running, *others)].count(200) == 2
    for response in refused:
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert response.json()["code"] == "overloaded"


def test_part_of_a_call_may_be_refused(serve, fake) -> None:
    server = serve(fake(), max_queue=2)
    results = server.post(*({"customer_id": c} for c in "abc")).json()["results"]
    assert [r.get("segment") for r in results] == ["segment of a", "segment of b", None]
    assert results[2]["error"]["status"] == 429


def test_a_missed_deadline_falls_back_to_best_sellers(serve, fake) -> None:
    held = Held()
    server = serve(fake(hook=held), deadline_ms=20)
    response = server.post({"customer_id": "a", "exclude": {"item_ids": ["i0"]}})
    held.go.set()
    (result,) = response.json()["results"]
    assert (response.status_code, result["degraded"]) == (200, True)
    assert (result["strategy"], result["fallback"]["why"]) == ("popular", "deadline")
    assert [i["item_id"] for i in result["items"]] == [f"i{n}" for n in range(1, 13)]
    while server.post({"customer_id": "a"}).json()["results"][0]["degraded"]:  # the thread is free again
        time.sleep(0.01)


def test_event_loop_stays_free_while_ranking(serve, fake) -> None:
    held = Held()
    server = serve(fake(hook=held), deadline_ms=60_000)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, {"customer_id": "a"})
        assert held.entered.wait(10)
        assert server.client.get("/livez").status_code == 204
        held.go.set()
        assert running.result().status_code == 200


def test_model_and_health(server) -> None:
    assert server.client.get("/v1/model").json() == {
        "name": "usual",
        "version": "17",
        "as_of": "2026-11-20T00:00:00Z",
        "metrics": {"one_to_one.ndcg_10": 0.1},
        "following": None,
    }
    assert server.client.get("/readyz").status_code == 204
    assert server.client.get("/livez").status_code == 204
