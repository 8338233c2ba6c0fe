"""Rate limits of API keys."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.middleware.rate_limits import RateLimit, TokenBucket, build_rate_limit
from tests.serving.api.middleware.test_api_keys import BODY, KEYS, NEXT, PUBLISHABLE, SECRET, bearer
from tests.serving.api.test_problems import check
from tests.serving.conftest import RunningServer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def passes(bucket: TokenBucket, times: int) -> int:
    """Count how many of `times` requests may pass."""
    return sum(not bucket.spend().retry_after_s for _ in range(times))


def test_a_burst_passes_then_the_sustained_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(RateLimit(2, 5), clock)
    assert passes(bucket, 100) == 5
    clock.now += 1
    assert passes(bucket, 100) == 2
    clock.now += 1000
    assert passes(bucket, 100) == 5, "no more than a burst is saved up"


@given(
    per_s=st.floats(0.01, 1000),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(0, 10), max_size=100),
)
def test_never_more_pass_than_the_limit(per_s: float, burst: int, steps: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(RateLimit(per_s, burst), clock)
    passed = 0
    for step in steps:
        clock.now += step
        passed += passes(bucket, 1)
        assert passed <= burst + per_s * clock.now + 1e-6
    wait_s = max((bucket.spend().retry_after_s for _ in range(burst + 1)), default=0)
    assert wait_s >= 1
    clock.now += wait_s
    assert passes(bucket, 1) == 1, "who waits as long as told may pass"


def test_what_a_request_weighs_is_paid_by_those_after_it() -> None:
    clock = Clock()
    bucket = TokenBucket(RateLimit(10, 20), clock)
    assert passes(bucket, 1) == 1
    bucket.charge(39)  # the burst, and 2 s more
    assert passes(bucket, 5) == 0
    clock.now += 2.1
    assert passes(bucket, 5) == 1
    bucket.charge(1e9)
    clock.now += 62.1
    assert passes(bucket, 1) == 1, "no debt is for ever"


def test_a_costly_request_counts_as_what_it_weighs(serve: Callable[..., RunningServer]) -> None:
    server = serve(rate_address=1, rate_burst_s=10)
    costly = [{"client_id": "c", "include": ["reasons"], "limit": 20}] * 4
    assert [server.post(*requests).status_code for requests in ([costly[0]], costly, costly)] == [200, 200, 429]
    server = serve(rate_address=1, rate_burst_s=10)
    assert [server.post({"client_id": "c"}).status_code for _ in range(11)] == [200] * 10 + [429]


def test_a_rate_of_zero_is_no_limit() -> None:
    assert build_rate_limit(0, 2) is None
    assert build_rate_limit(0.1, 2) == RateLimit(0.1, 1)
    assert build_rate_limit(100, 2) == RateLimit(100, 200)


@pytest.fixture
def limited(serve: Callable[..., RunningServer], fake: type) -> RunningServer:
    return serve(fake(), rate_publishable=0.5, rate_burst_s=6, **KEYS)


def test_responses_report_what_remains(limited: RunningServer) -> None:
    def request(key: str = PUBLISHABLE) -> tuple[int, dict[str, str]]:
        response = limited.client.post("/v1/recommendations", json=BODY, headers=bearer(key))
        if response.status_code == 429:
            check(response, 429, "rate_limited")
        return response.status_code, dict(response.headers)

    responses = [request() for _ in range(4)]
    assert [status for status, _ in responses] == [200, 200, 200, 429]
    assert [headers["ratelimit-remaining"] for _, headers in responses] == ["2", "1", "0", "0"]
    assert {headers["ratelimit-limit"] for _, headers in responses} == {"3"}
    assert {headers["ratelimit-policy"] for _, headers in responses} == {'"key";q=3;w=6'}
    _, first = responses[0]
    assert (first["ratelimit"], first["ratelimit-reset"]) == ('"key";r=2;t=2', "2")
    assert "retry-after" not in first
    _, last = responses[-1]
    assert 1 <= int(last["retry-after"]) <= 2
    assert last["ratelimit"] == f'"key";r=0;t={last["retry-after"]}'
    assert request(NEXT)[0] == 200, "each key has a rate of its own"
    for _ in range(5):
        status, headers = request(SECRET)
        assert (status, "ratelimit-limit" in headers) == (200, False)
    assert limited.client.get("/readyz").status_code == 204
    check(limited.client.get("/v2", headers=bearer(PUBLISHABLE)), 403, "forbidden")


def test_by_default_there_is_no_limit(serve: Callable[..., RunningServer], fake: type) -> None:
    server = serve(fake(), **KEYS)
    for _ in range(20):
        response = server.client.get("/v1/model", headers=bearer(PUBLISHABLE))
        assert (response.status_code, "ratelimit-limit" in response.headers) == (200, False)
