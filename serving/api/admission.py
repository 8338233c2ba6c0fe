"""Admission: how many plain ranking requests a server process takes on at once, so that none it answers waits for long.

A burst is taken on as far as the fixed limits allow. Where answers have come late for a while, more keeps coming than
can be answered: then, by Little's law, as many may be in progress as are answered in the time that one may take. The
rate is measured all along, so that nobody has to know the machine or the model.
"""

from collections import Counter
from collections.abc import Callable
from time import monotonic

_ROUTES = (b"/v1/recommendations", b"/v1/rerank")
_PLAIN_BYTES = 8_192  # a longer body has a queue of its own
_WINDOW_S = 0.1
_IDLE_S = 0.02  # without a request: there is no overload; shorter pauses are those between two batches
_LEAST = 32  # an address may always have as many in progress: batches pay from there on
_TOO_LATE = 2.0  # times the target: so late are answers on average in overload
_LATE_WINDOWS = 2  # make an overload
_DECAY = 0.9  # of the limit, per window, at most
_MEMORY = 0.5  # of the rate, from window to window


def is_plain(method: bytes, path: bytes, body_bytes: int) -> bool:
    """Whether a request is one of many that only the ranker has to answer, as far as can be told before it is read."""
    return method == b"POST" and body_bytes <= _PLAIN_BYTES and path in _ROUTES


class Admission:
    """Counts plain requests in progress. Belongs to one event loop."""

    def __init__(self, most: int, target_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._most, self._target_s, self._clock = most, target_s, clock
        self.limit = most
        """How many requests there may be, of which one address alone gets half."""
        self._count = 0
        self._by_host: Counter[str] = Counter()
        self._idle_at = self._window_at = self._waited_s = 0.0
        self._answered, self._refused = 0, False
        self._late_windows = 0  # in a row
        self._rate = 0.0  # answers per second in overload

    @property
    def is_overloaded(self) -> bool:
        """Whether more comes than can be answered."""
        return self.limit < self._most

    def is_crowded(self, host: str) -> bool:
        """Whether one more request of an address is too many: it may have as many as there is place for others.

        A dynamic threshold (Choudhury & Hahne 1998): one address alone can take half of all places, two a third each.
        """
        crowded = self._by_host[host] >= self.limit - self._count
        self._refused |= crowded
        return crowded

    def enter(self, host: str) -> float:
        """Count a request; return the time."""
        now = self._clock()
        if not self._count and now - self._idle_at >= _IDLE_S:
            self.limit, self._late_windows = self._most, 0
            self._begin_window(now)
        self._count += 1
        self._by_host[host] += 1
        return now

    def leave(self, host: str, since: float, answered: bool) -> None:
        """Count a request no more that came at `since`."""
        self._count -= 1
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        now = self._clock()
        if not self._count:
            self._idle_at = now
        if not answered:
            return
        self._answered += 1
        self._waited_s += now - since
        if now - self._window_at >= _WINDOW_S:
            self._adapt(now - self._window_at)
            self._begin_window(now)

    def _begin_window(self, now: float) -> None:
        self._window_at, self._answered, self._waited_s, self._refused = now, 0, 0.0, False

    def _adapt(self, elapsed_s: float) -> None:
        rate = self._answered / elapsed_s
        if not self.is_overloaded:
            late = self._waited_s > _TOO_LATE * self._target_s * self._answered
            self._late_windows = self._late_windows + 1 if late else 0
            if self._late_windows < _LATE_WINDOWS:
                return
            self._rate = rate
        elif not self._refused:
            self.limit, self._late_windows = self._most, 0
            return
        self._rate += (1 - _MEMORY) * (rate - self._rate)
        limit = max(2 * _LEAST, round(2 * self._rate * self._target_s))
        # What is in progress is not taken back: until it is answered, others still find a place beside it.
        self.limit = min(self._most, max(limit, min(self._count + _LEAST, int(_DECAY * self.limit))))


class Ticket:
    """One request: counted by `admission`, if it has one, from when it has arrived until it is answered or parked."""

    __slots__ = ("_admission", "_since", "host")

    def __init__(self, host: str, admission: Admission | None = None) -> None:
        self.host, self._admission, self._since = host, admission, 0.0

    def enter(self) -> None:
        """Begin to count the request: it has arrived."""
        if self._admission is not None:
            self._since = self._admission.enter(self.host)

    def leave(self, answered: bool) -> None:
        """Count the request no more."""
        if self._admission is not None:
            self._admission.leave(self.host, self._since, answered)
            self._admission = None

    def park(self) -> None:
        """Count the request no more, as it waits where plain ones do not, or costs as much as many."""
        self.leave(answered=False)
