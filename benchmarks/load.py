"""HTTP load generator, which runs in its own process; used by `benchmarks/serve.py` and `benchmarks/live.py`.

Closed loop: a fixed number of connections, each of which waits for its answer before it sends the next request. Open
loop: requests arrive at random times like visitors, whether or not earlier ones have been answered.
"""

import asyncio
import json
import random
import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from typing import cast

MAX_CONNECTIONS = 512


@dataclass(frozen=True)
class Load:
    """Throughput and latency at one level of load. `failed`: answers other than 200, and requests without an answer."""

    rate: float  # answers per second
    p50_ms: float
    p99_ms: float
    failed: int = 0


@dataclass(frozen=True)
class Target:
    """Where requests go: `path` on local `port`; `bodies` names the format of the body (`_BODIES`)."""

    port: int
    path: str
    customers: tuple[str, ...]
    bodies: str = "recommendations"

    def requests(self) -> Iterator[bytes]:
        number = 0
        while True:
            customer = self.customers[number % len(self.customers)]
            number += 1
            body = json.dumps(_BODIES[self.bodies](customer)).encode()
            yield (
                b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (self.path.encode(), self.port, len(body), body)
            )


_BODIES = {
    "recommendations": lambda c: {"requests": [{"customer_id": c}]},
    "mlflow": lambda c: {"dataframe_split": {"columns": ["customer_id", "k"], "data": [[c, 12]]}},
}


class _Connection(asyncio.Protocol):
    """One keep-alive connection, which is returned to `idle` after each answer."""

    def __init__(self, idle: "deque[_Connection]") -> None:
        self._idle = idle
        self._buffer = b""
        self._waiting: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def ask(self, request: bytes) -> "asyncio.Future[bool]":
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:", 0, head)
        if at < 0:  # chunked: complete with the last chunk
            if not self._buffer.endswith(b"0\r\n\r\n"):
                return
        elif len(self._buffer) < head + 4 + int(self._buffer[at + 15 : self._buffer.index(b"\r", at)]):
            return
        success, self._buffer = self._buffer.startswith(b"HTTP/1.1 200"), b""
        self._idle.append(self)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(success)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(False)


def _summary(latencies: list[float], seconds: float, failed: int) -> Load:
    ordered = sorted(latencies) or [float("inf")]
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Load(len(latencies) / seconds, statistics.median(ordered), p99, failed)


async def _closed(target: Target, connections: int, seconds: float) -> Load:
    requests, idle = target.requests(), deque[_Connection]()
    latencies: list[float] = []
    failed = 0
    start = time.perf_counter() + min(1.0, seconds / 2)  # warm-up until then
    end = start + seconds

    async def one() -> None:
        nonlocal failed
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(idle), "127.0.0.1", target.port
        )
        while (sent_at := time.perf_counter()) < end:
            success = await connection.ask(next(requests))
            if sent_at >= start:
                latencies.append((time.perf_counter() - sent_at) * 1e3)
                failed += not success

    await asyncio.gather(*(one() for _ in range(connections)))
    return _summary(latencies, seconds, failed)


async def _open(target: Target, rate: float, seconds: float) -> Load:
    """Measure latency from the moment a request is due, so that a stalled server is charged for the wait."""
    loop, requests, idle = asyncio.get_running_loop(), target.requests(), deque[_Connection]()
    rng, latencies, failed, opened = random.Random(7), list[float](), 0, 0
    warm = min(2.0, seconds / 2)
    start = time.perf_counter()
    due, tasks = start, set[asyncio.Task[None]]()

    async def one(due: float) -> None:
        nonlocal failed, opened
        if idle:
            connection = idle.popleft()
        elif opened < MAX_CONNECTIONS:
            opened += 1
            _, connection = await loop.create_connection(lambda: _Connection(idle), "127.0.0.1", target.port)
        else:
            failed += due >= start + warm
            return
        try:
            async with asyncio.timeout(10):
                success = await connection.ask(next(requests))
        except TimeoutError:
            success = False
        if due >= start + warm:
            latencies.append((time.perf_counter() - due) * 1e3)
            failed += not success

    while due < start + warm + seconds:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += rng.expovariate(rate)
    if tasks:
        await asyncio.wait(tasks, timeout=15)
    return _summary(latencies, seconds, failed)


def run(kind: str, target: Target, level: float, seconds: float) -> Load:
    """Generate load from this process. `level`: connections if `kind` is "closed", requests per second if "open"."""
    import uvloop

    drive = _closed(target, int(level), seconds) if kind == "closed" else _open(target, level, seconds)
    return uvloop.run(drive)


def closed_loop(target: Target, connections: int, seconds: float) -> Load:
    """Measure `connections` clients that each send a request as soon as the previous one is answered."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(run, ("closed", target, connections, seconds))


def open_loop(target: Target, rate: float, seconds: float) -> Load:
    """Measure `rate` requests per second on average, at random times (a Poisson process)."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(run, ("open", target, rate, seconds))


def highest_rate(target: Target, p99_ms: float, start: float, seconds: float) -> Load:
    """Return the load at the highest rate of arrivals, to 10%, with this p99 and without failures."""
    best, low, high = Load(0, float("inf"), float("inf")), 0.0, start
    while True:
        load = open_loop(target, high, seconds)
        if load.failed or load.p99_ms > p99_ms:
            break
        best, low, high = load, high, high * 1.6
    while high / max(low, 1e-9) > 1.1 and high > 1:
        middle = (low + high) / 2
        load = open_loop(target, middle, seconds)
        if load.failed or load.p99_ms > p99_ms:
            high = middle
        else:
            best, low = load, middle
    return best
