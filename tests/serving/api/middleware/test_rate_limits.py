"""How often a key may be used."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.middleware.rate_limits import TokenBucket, RateLimit, build_rate_limit
from tests.serving.api.middleware.test_api_keys import ASKED, KEYS, NEXT, PUBLISHABLE, SECRET, bearer
from tests.serving.api.test_problems import check
from tests.serving.conftest import Server


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def passes(bucket: TokenBucket, times: int) -> int:
    """How many of so many requests may pass."""
    return sum(not bucket.spend().retry_after_s for _ in range(times))


def test_a_burst_then_the_rate() -> None:
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
def test_never_more_than_it_says(per_s: float, burst: int, steps: list[float]) -> None:
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


def test_no_rate_is_no_limit() -> None:
    assert build_rate_limit(0, 2) is None
    assert build_rate_limit(0.1, 2) == RateLimit(0.1, 1)
    assert build_rate_limit(100, 2) == RateLimit(100, 200)


@pytest.fixture
def limited(serve: Callable[..., Server], fake: type) -> Server:
    return serve(fake(), rate_publishable=0.5, rate_burst_s=6, **KEYS)


def test_answers_say_what_is_left(limited: Server) -> None:
    def ask(key: str = PUBLISHABLE) -> tuple[int, dict[str, str]]:
        answer = limited.client.post("/v1/recommendations", json=ASKED, headers=bearer(key))
        if answer.status_code == 429:
            check(answer, 429, "rate_limited")
        return answer.status_code, dict(answer.headers)

    answers = [ask() for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 429]
    assert [headers["ratelimit-remaining"] for _, headers in answers] == ["2", "1", "0", "0"]
    assert {headers["ratelimit-limit"] for _, headers in answers} == {"3"}
    assert {headers["ratelimit-policy"] for _, headers in answers} == {'"key";q=3;w=6'}
    _, first = answers[0]
    assert (first["ratelimit"], first["ratelimit-reset"]) == ('"key";r=2;t=2', "2")
    assert "retry-after" not in first
    _, last = answers[-1]
    assert 1 <= int(last["retry-after"]) <= 2
    assert last["ratelimit"] == f'"key";r=0;t={last["retry-after"]}'
    assert ask(NEXT)[0] == 200, "each key has a rate of its own"
    for _ in range(5):
        status, headers = ask(SECRET)
        assert (status, "ratelimit-limit" in headers) == (200, False)
    assert limited.client.get("/readyz").status_code == 204
    check(limited.client.get("/v2", headers=bearer(PUBLISHABLE)), 403, "forbidden")


def test_by_default_there_is_no_limit(serve: Callable[..., Server], fake: type) -> None:
    server = serve(fake(), **KEYS)
    for _ in range(20):
        answer = server.client.get("/v1/model", headers=bearer(PUBLISHABLE))
        assert (answer.status_code, "ratelimit-limit" in answer.headers) == (200, False)
