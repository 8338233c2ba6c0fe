"""What one server process grants its clients, and what its connections hold of it."""

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from serving.api.admission import Admission, Ticket
from serving.schemas.problems import ProblemCode
from serving.settings import Settings

_SWEEP_S = 0.25
_SPARE_FILES = 128  # for everything that is no connection


@dataclass(frozen=True)
class ConnectionLimits:
    """What one server process grants; `settings` has their meaning."""

    connections: int
    per_address: int
    header_bytes: int
    headers: int
    header_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float
    idle_s: float
    bodies_bytes: int
    unread_bytes: int
    requests: int
    target_s: float

    @classmethod
    def of(cls, settings: Settings) -> "ConnectionLimits":
        """Read the limits from settings, and what the system grants."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = settings.max_connections
        if files != resource.RLIM_INFINITY:
            most = max(16, min(most, files - _SPARE_FILES))
        return cls(
            most,
            settings.max_connections_per_address,
            settings.max_header_bytes,
            settings.max_headers,
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.write_timeout_s,
            settings.idle_timeout_s,
            settings.max_bodies_bytes,
            settings.max_unread_bytes,
            settings.max_requests,
            settings.overload_target_ms / 1e3,
        )


class PooledConnection(Protocol):
    """What the pool asks of a connection."""

    loop: asyncio.AbstractEventLoop

    @property
    def unread_bytes(self) -> int:
        """What is written and not sent."""
        ...

    def check(self, now: float) -> int:
        """Drop the connection where it takes too long; the bytes of answers that it has not read."""
        ...

    def drop(self, why: str) -> None:
        """Close at once, without an answer."""
        ...


class ConnectionPool:
    """The connections of one server process. Belongs to its event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.connections: set[PooledConnection] = set()
        self.by_address: Counter[str] = Counter()
        # Those without a request, longest first. They make room for a new one when there are too many.
        self.waiting: dict[PooledConnection, None] = {}
        self.body_bytes = 0
        self.requests = 0  # that have arrived and are not answered
        self.requests_by_host: Counter[str] = Counter()
        self.admission = Admission(limits.requests, limits.target_s)
        self._sweeping = False

    def add(self, connection: PooledConnection, address: str | None) -> ProblemCode | None:
        """Count a new connection; why it is refused, if it is."""
        limits = self.limits
        if address is not None and 0 < limits.per_address <= self.by_address[address]:
            return "too_many_connections"
        if len(self.connections) >= limits.connections:
            if not self.waiting:
                return "unavailable"
            next(iter(self.waiting)).drop("crowded")
        self.connections.add(connection)
        if address is not None:
            self.by_address[address] += 1
        self.waiting[connection] = None
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(_SWEEP_S, self._sweep, connection.loop)
        return None

    def remove(self, connection: PooledConnection, address: str | None) -> None:
        """Forget a connection, which may be one that was refused."""
        self.waiting.pop(connection, None)
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if address is not None:
            self.by_address[address] -= 1
            if not self.by_address[address]:
                del self.by_address[address]

    def begin_request(self, ticket: Ticket) -> None:
        """Count a request that has arrived."""
        self.requests += 1
        self.requests_by_host[ticket.host] += 1
        ticket.enter()

    def end_request(self, ticket: Ticket, answered: bool) -> None:
        """Count a request no more that is answered or given up."""
        ticket.leave(answered)
        self.requests -= 1
        self.requests_by_host[ticket.host] -= 1
        if self.requests_by_host[ticket.host] <= 0:
            del self.requests_by_host[ticket.host]

    def is_crowded(self, host: str) -> bool:
        """Whether one more plain request of an address is too many."""
        return self.admission.is_crowded(host) or self.is_busy(host)

    def is_busy(self, host: str) -> bool:
        """Whether one more request of an address is too many: it may have as many as there is place for others.

        A dynamic threshold (Choudhury & Hahne 1998): one address alone can take half of all places, two a third each.
        """
        return self.requests_by_host[host] >= self.limits.requests - self.requests

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now, unread = loop.time(), 0
        for connection in list(self.connections):
            unread += connection.check(now)
        if unread > self.limits.unread_bytes:
            for connection in sorted(self.connections, key=lambda c: -c.unread_bytes):
                unread -= connection.unread_bytes
                connection.drop("unread")
                if unread <= self.limits.unread_bytes:
                    break
        self._sweeping = bool(self.connections)
        if self._sweeping:
            loop.call_later(_SWEEP_S, self._sweep, loop)
