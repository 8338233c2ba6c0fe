"""How often a key may be used: a token bucket for each, in each worker process.

Answers say how it stands in the fields of draft-ietf-httpapi-ratelimit-headers: `RateLimit` and `RateLimit-Policy`
as of the present drafts (since 08), and the three of drafts before 07, which most clients read.
"""

from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import NamedTuple

_ROUNDING = 1e-6  # who waits as long as told finds a token


class Rate(NamedTuple):
    """Requests per second for good, and how many may come at once after a pause."""

    per_s: float
    burst: int


def rate(per_s: float, burst_s: float) -> Rate | None:
    """`per_s` requests per second, and `burst_s` seconds' worth of them, at least one, at once; None for 0."""
    return Rate(per_s, max(1, round(per_s * burst_s))) if per_s else None


class Spent(NamedTuple):
    """The headers that say what is left, and in how many seconds to come back: 0 for a request that may pass."""

    headers: list[tuple[bytes, bytes]]
    retry_after_s: int


class Bucket:
    """Holds up to `burst` tokens, gains `per_s` a second, and gives one to each request. Of one event loop."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._tokens, self._at = float(rate.burst), clock()
        window_s = max(1, ceil(rate.burst / rate.per_s))
        self._fixed = [
            (b"ratelimit-limit", b"%d" % rate.burst),
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (rate.burst, window_s)),
        ]

    def spend(self) -> Spent:
        """Take a token for a request, if there is one."""
        per_s, burst = self._rate
        now = self._clock()
        tokens = min(burst, self._tokens + (now - self._at) * per_s)
        self._at = now
        wait_s = 0
        if tokens > 1 - _ROUNDING:
            tokens = max(0.0, tokens - 1)
            reset_s = ceil((burst - tokens) / per_s)
        else:
            wait_s = reset_s = max(1, ceil((1 - tokens) / per_s))
        self._tokens = tokens
        left = int(tokens)
        headers = [
            *self._fixed,
            (b"ratelimit-remaining", b"%d" % left),
            (b"ratelimit-reset", b"%d" % reset_s),
            (b"ratelimit", b'"key";r=%d;t=%d' % (left, reset_s)),
        ]
        return Spent(headers, wait_s)
