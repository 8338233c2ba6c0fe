"""Rate limits: token buckets per API key and per address, in each worker process.

A request costs a token before anything of it is read, and what it weighs more as soon as that is known.

Responses report its state in the fields of draft-ietf-httpapi-ratelimit-headers: `RateLimit` and `RateLimit-Policy`
as in drafts since 08, and the three separate fields of drafts before 07, which most clients read.
"""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import NamedTuple

_MAX_DEBT_S = 60  # a bucket is full again after so many seconds and those of the burst, whatever was taken
_MAX_ADDRESSES = 10_000
_ROUNDING = 1e-6  # a client that waits exactly as long as Retry-After says finds a token


class RateLimit(NamedTuple):
    """Sustained requests per second, and how many may come at once after a pause."""

    per_s: float
    burst: int


def build_rate_limit(per_s: float, burst_s: float) -> RateLimit | None:
    """Return a limit of `per_s` requests per second with bursts of `burst_s` seconds' worth, at least one request.

    None, no limit, where `per_s` is 0.
    """
    return RateLimit(per_s, max(1, round(per_s * burst_s))) if per_s else None


class RateDecision(NamedTuple):
    """The rate-limit headers of a response, and the seconds after which to retry: 0 for a request that may pass."""

    headers: list[tuple[bytes, bytes]]
    retry_after_s: int


class TokenBucket:
    """A bucket of up to `burst` tokens that gains `per_s` a second and spends one per request.

    Not thread-safe: it belongs to one event loop.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._tokens, self._updated_at = float(limit.burst), clock()
        window_s = max(1, ceil(limit.burst / limit.per_s))
        self._constant_headers = [
            (b"ratelimit-limit", b"%d" % limit.burst),
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit.burst, window_s)),
        ]

    def spend(self) -> RateDecision:
        """Spend a token on a request, if there is one."""
        per_s, burst = self._limit
        now = self._clock()
        tokens = min(burst, self._tokens + (now - self._updated_at) * per_s)
        self._updated_at = now
        wait_s = 0
        if tokens > 1 - _ROUNDING:
            tokens = max(0.0, tokens - 1)
            reset_s = ceil((burst - tokens) / per_s)
        else:
            wait_s = reset_s = max(1, ceil((1 - tokens) / per_s))
        self._tokens = tokens
        remaining = max(0, int(tokens))
        headers = [
            *self._constant_headers,
            (b"ratelimit-remaining", b"%d" % remaining),
            (b"ratelimit-reset", b"%d" % reset_s),
            (b"ratelimit", b'"key";r=%d;t=%d' % (remaining, reset_s)),
        ]
        return RateDecision(headers, wait_s)

    def charge(self, cost: float) -> None:
        """Take as many tokens more for a request that has passed; the bucket may owe them."""
        self._tokens = max(self._tokens - max(0.0, cost), -_MAX_DEBT_S * self._limit.per_s)


class AddressLimits:
    """A bucket for each of the addresses that came last."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def find(self, address: str) -> TokenBucket:
        """Return the bucket of an address."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._limit)
            if len(self._buckets) > _MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        return bucket
