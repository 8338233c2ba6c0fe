"""Requests per second and latency over HTTP: `python benchmarks/serve.py [BUNDLE] [--seconds 3]`.

Closed loop, keep-alive, one request of twelve products each, one server process. The load generator
runs on the same processors as the server, so read ratios and not absolute numbers.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from serving.server import command_line, free_port, running, started  # noqa: E402

CONNECTIONS = 16


@dataclass
class Load:
    """What one load level measured."""

    rate: float  # requests per second
    p50_ms: float
    p99_ms: float


class _Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next; keeps the latencies in ms."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._buffer = b""
        self.latencies: list[float] = []
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().index(b"content-length:", 0, head) + 15
        length = int(self._buffer[at : self._buffer.index(b"\r", at)])
        if len(self._buffer) < head + 4 + length:
            return
        self.latencies.append((time.perf_counter() - self._sent) * 1e3)
        self.failed += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        self._send()


def _requests(port: int, customers: list[str]) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        body = json.dumps({"requests": [{"customer_id": customers[number % len(customers)]}]}).encode()
        yield (
            b"POST /v1/recommendations HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (port, len(body), body)
        )


async def _drive(port: int, connections: int, seconds: float, customers: list[str]) -> Load:
    loop = asyncio.get_running_loop()
    requests = _requests(port, customers)
    pairs = [await loop.create_connection(lambda: _Connection(requests), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.sleep(min(1.0, seconds / 2))  # warm
    for _, connection in pairs:
        connection.latencies.clear()
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - begun
    latencies = sorted(ms for _, connection in pairs for ms in connection.latencies)
    assert not sum(connection.failed for _, connection in pairs), "some answers were not 200"
    for transport, _ in pairs:
        transport.close()
    p99 = latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))]
    return Load(len(latencies) / took, statistics.median(latencies), p99)


def _run(port: int, connections: int, seconds: float, customers: list[str]) -> Load:
    import uvloop

    return uvloop.run(_drive(port, connections, seconds, customers))


@contextmanager
def _uvicorn(app: str) -> Iterator[str]:
    port = free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", app, *options, "--port", str(port), "--app-dir", str(ROOT)]
    with started(command, dict(os.environ), port) as url:
        yield url


@contextmanager
def _constant_service() -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as bundle:
        (Path(bundle) / "manifest.json").write_text("{}")
        command, env = command_line(bundle, "127.0.0.1", port, 1)
        with started([*command[:-1], "benchmarks.constant:Usual"], env, port) as url:
            yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--customers", type=Path, help="one customer_id a line; default: unknown ones")
    args = parser.parse_args()
    customers = args.customers.read_text().split() if args.customers else [f"c{n}" for n in range(1000)]
    rows = {
        "constant on bare uvicorn": _uvicorn("benchmarks.bare:app"),
        "our API, constant recommender, plain uvicorn": _uvicorn("benchmarks.constant:app"),
        "our API, constant recommender, BentoML": _constant_service(),
    }
    if args.bundle:
        rows["the service with the bundle"] = running(args.bundle)
    baseline = None
    home = tempfile.TemporaryDirectory()
    os.environ["USUAL_HOME"] = home.name  # BentoML keeps its files there
    print(f"| server | req/s, {CONNECTIONS} conn. | p50 ms | p99 ms | of bare | p50 ms, 1 conn. | p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, server in rows.items():
        with server as url, get_context("spawn").Pool(1) as pool:
            port = int(url.rpartition(":")[2])
            many = pool.apply(_run, (port, CONNECTIONS, args.seconds, customers))
            one = pool.apply(_run, (port, 1, args.seconds, customers))
        baseline = baseline or many.rate
        busy = f"{many.rate:,.0f} | {many.p50_ms:.2f} | {many.p99_ms:.2f} | {many.rate / baseline:.2f}"
        print(f"| {name} | {busy} | {one.p50_ms:.2f} | {one.p99_ms:.2f} |", flush=True)
    print(f"\n{len(os.sched_getaffinity(0))} processors, shared by server and load generator.")
    if not args.bundle:
        print("Give a bundle directory to measure the real service too.")


if __name__ == "__main__":
    main()
