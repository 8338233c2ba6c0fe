"""Requests that arrive at random times, each on a connection of its own, with as little work for each as can be.

An event loop costs so much per connection that a flood measures the generator: here one thread waits on epoll and calls
the system itself, about 0.1 ms for each request. Latency counts from the moment that a request is due; what the
generator itself was late is told beside it.
"""

import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_OPEN = 8_000
_READ = 1 << 18
_BIND_WITHOUT_PORT = 24  # IP_BIND_ADDRESS_NO_PORT, which Python names from 3.12 on


@dataclass
class Outcome:
    """Latencies in ms of what was answered, and how often each status came; "-": no answer, "refused": no connection.

    `late`: ms by which requests were sent too late; no fault of the server.
    """

    latencies: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    refused: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def note(self, status: str, ms: float) -> None:
        """Count an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status.startswith("2"):
            self.latencies.append(ms)
        elif status == "429":
            self.refused.append(ms)

    @property
    def failed(self) -> int:
        """How many were not answered, or with an error."""
        return sum(count for status, count in self.statuses.items() if not status.startswith("2"))

    @staticmethod
    def p(values: list[float], share: float) -> str:
        """Format a quantile."""
        ordered = sorted(values)
        return f"{ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.0f}" if ordered else "–"


class _Exchange:
    """One request and its answer."""

    __slots__ = ("due", "request", "socket", "text")

    def __init__(self, sock: socket.socket, due: float, request: bytes) -> None:
        self.socket, self.due, self.request = sock, due, request
        self.text = b""

    def is_complete(self) -> bool:
        """Whether the whole answer has come."""
        head = self.text.find(b"\r\n\r\n")
        if head < 0:
            return False
        at = self.text[:head].lower().find(b"content-length:")
        if at < 0:
            return self.text.endswith(b"0\r\n\r\n")
        return len(self.text) >= head + 4 + int(self.text[at + 15 : head + 2].split(b"\r")[0])


def send_at_random_times(
    port: int,
    rate: float,
    seconds: float,
    make: Callable[[random.Random], bytes],
    address: str = "127.0.0.1",
    within_s: float = 15.0,
    seed: int = 7,
) -> Outcome:
    """Send `rate` requests a second on average (a Poisson process) from `address`, and await each for `within_s`."""
    rng, outcome, epoll = random.Random(seed), Outcome(), select.epoll()
    open_by_file: dict[int, _Exchange] = {}
    oldest: deque[_Exchange] = deque()
    clock = time.perf_counter
    due = clock()
    end = due + seconds

    def close(exchange: _Exchange, status: str) -> None:
        outcome.note(status, (clock() - exchange.due) * 1e3)
        open_by_file.pop(exchange.socket.fileno(), None)
        exchange.socket.close()

    def begin(due: float) -> None:
        request = make(rng)
        outcome.late.append((clock() - due) * 1e3)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        exchange = _Exchange(sock, due, request)
        try:
            if address != "127.0.0.1":
                if sys.platform == "linux":  # else each connection takes a port for a minute, and they run out
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_WITHOUT_PORT, 1)
                sock.bind((address, 0))
            sock.connect_ex(("127.0.0.1", port))
            wanted = select.EPOLLIN
            if not _send(exchange):
                wanted |= select.EPOLLOUT
            epoll.register(sock, wanted)
        except OSError:
            close(exchange, "refused")
            return
        open_by_file[sock.fileno()] = exchange
        oldest.append(exchange)

    def go_on(exchange: _Exchange, event: int) -> None:
        try:
            if event & select.EPOLLOUT and _send(exchange):
                epoll.modify(exchange.socket, select.EPOLLIN)
            if not event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                return
            part = exchange.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            close(exchange, exchange.text[9:12].decode() or "-")
            return
        exchange.text += part
        if exchange.is_complete():
            close(exchange, exchange.text[9:12].decode())
        elif not part:
            close(exchange, "-")

    try:
        while due < end or open_by_file:
            now = clock()
            while due < end and due <= now:
                if len(open_by_file) < MOST_OPEN:
                    begin(due)
                due += rng.expovariate(rate)
                now = clock()
                if len(outcome.late) % 16 == 0:
                    break  # answers are read in between
            while oldest and (oldest[0].socket.fileno() < 0 or now - oldest[0].due > within_s):
                exchange = oldest.popleft()
                if exchange.socket.fileno() >= 0:
                    close(exchange, "-")
            wait = max(0.0, due - clock()) if due < end else 0.1
            for file, event in epoll.poll(wait, 256):
                if file in open_by_file:
                    go_on(open_by_file[file], event)
    finally:
        for exchange in list(open_by_file.values()):
            exchange.socket.close()
        epoll.close()
    return outcome


def _send(exchange: _Exchange) -> bool:
    """Send what is left of the request; whether that is all."""
    try:
        sent = exchange.socket.send(exchange.request)
    except BlockingIOError:
        return False
    exchange.request = exchange.request[sent:]
    return not exchange.request
