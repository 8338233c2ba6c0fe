"""What honest visitors notice of somebody who wants to stop the shop, and what that costs the server's memory.

    python benchmarks/abuse.py [BUNDLE] [--only unread,heavy] [--from 127.0.0.2]

Honest visitors come at random times, each on a connection of its own, and ask for recommendations or send an event. An
attack runs beside them: connections that do not read, half-open ones, headers without end, the costliest requests,
filters, large event bodies, and five times as many requests as the server can answer. Everything is bounded, in time,
connections and bytes, and stays on the loopback address; attackers and visitors have the same address unless `--from`
gives the attackers another. Where there are several processors, the server has the first and the load generators have
the rest.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import psutil  # type: ignore[import-untyped]  # noqa: E402
import shop  # noqa: E402
from arrivals import Outcome, send_at_random_times  # noqa: E402
from load import Target, closed_loop  # noqa: E402

from models.bundle import Bundle  # noqa: E402
from serving.deploy.server import build_command, find_free_port, run_process  # noqa: E402

HONEST_PER_S, ALONE_S, ATTACK_S, AFTER_S = 20.0, 15.0, 10.0, 20.0
UNREAD, HALF_OPEN, ENDLESS, HEAVY, LARGE = 300, 400, 50, 400, 8
MOST_BYTES = 8_000_000  # that one hostile connection sends
ELSEWHERE = "5 x knee from elsewhere"
RECOMMEND, EVENTS = "/v1/recommendations", "/v1/events"


@dataclass(frozen=True)
class Shop:
    """Where the attack goes, from which address, and ids that the model knows."""

    port: int
    customers: tuple[str, ...]
    items: tuple[str, ...]
    address: str = "127.0.0.1"
    rate: float = 0  # for the flood


def post(path: str, body: object) -> bytes:
    """A request in bytes."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    return head.encode() + b"\r\n\r\n" + content


def event(rng: random.Random, target: Shop, padding: str = "") -> dict[str, Any]:
    """One view of an item, by a device of its own."""
    params = {"items": [{"item_id": rng.choice(target.items)}]} | ({"search_term": padding} if padding else {})
    return {"event_id": uuid4().hex, "name": "view_item", "client_id": uuid4().hex, "params": params}


async def read_answer(reader: asyncio.StreamReader) -> str:
    """Read one answer; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if (at := head.find(b"content-length:")) >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r", at)]))
    else:
        await reader.readuntil(b"0\r\n\r\n")
    return head[9:12].decode()


async def ask(target: Shop, request: bytes, within_s: float = 15) -> str:
    """Send one request on a connection of its own; the status, "-" without an answer."""
    writer = None
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", target.port, local_addr=(target.address, 0), limit=1 << 22
            )
            writer.write(request)
            return await read_answer(reader)
    except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
        return "-"
    finally:
        if writer is not None:
            writer.close()


def honest(target: Shop, seconds: float) -> Outcome:
    """Visitors who ask for recommendations, every fourth of whom sends an event."""

    def make(rng: random.Random) -> bytes:
        if rng.random() < 0.25:
            return post(EVENTS, {"events": [event(rng, target)]})
        return post(RECOMMEND, {"requests": [{"customer_id": rng.choice(target.customers)}]})

    return send_at_random_times(target.port, HONEST_PER_S, seconds, make, target.address)


async def stubborn(
    target: Shop, connections: int, seconds: float, talk: Callable[[socket.socket, int], Awaitable[None]]
) -> Outcome:
    """Keep `connections` open for `seconds`, also when the server closes them, and have `talk` send on them."""
    loop, outcome, end = asyncio.get_running_loop(), Outcome(), time.perf_counter() + seconds

    async def one(number: int) -> None:
        while time.perf_counter() < end:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                try:
                    sock.bind((target.address, 0))
                    async with asyncio.timeout(max(0.01, end - time.perf_counter())):
                        await loop.sock_connect(sock, ("127.0.0.1", target.port))
                        await talk(sock, number)
                    outcome.note("closed", 0)
                except TimeoutError:
                    outcome.note("held", 0)
                except OSError:
                    outcome.note("closed", 0)
            await asyncio.sleep(1)

    await asyncio.gather(*(one(n) for n in range(connections)))
    return outcome


async def unread(target: Shop, seconds: float) -> Outcome:
    """Ask for long pages, again and again, and read nothing."""
    request = b"GET /docs/ui.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50

    async def talk(sock: socket.socket, number: int) -> None:
        for _ in range(MOST_BYTES // len(request)):
            await asyncio.get_running_loop().sock_sendall(sock, request)
        await asyncio.sleep(seconds)

    return await stubborn(target, UNREAD, seconds, talk)


async def half_open(target: Shop, seconds: float) -> Outcome:
    """Begin a request, or its body, and never end it."""
    whole = post(RECOMMEND, {"requests": [{"client_id": "c", "context": {"query": "q" * 200}}]})
    bulk = whole.replace(RECOMMEND.encode(), RECOMMEND.encode() + b"/bulk")
    parts = [b"", whole[:60], whole[:-20], bulk[:-20]]

    async def talk(sock: socket.socket, number: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, parts[number % len(parts)])
        while await loop.sock_recv(sock, 4096):
            continue

    return await stubborn(target, HALF_OPEN, seconds, talk)


async def endless(target: Shop, seconds: float) -> Outcome:
    """Send headers, and no end of them."""
    line = b"X-Header: " + b"x" * 4000 + b"\r\n"

    async def talk(sock: socket.socket, number: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"GET /livez HTTP/1.1\r\n")
        for _ in range(MOST_BYTES // len(line)):
            await loop.sock_sendall(sock, line)
        await asyncio.sleep(seconds)

    return await stubborn(target, ENDLESS, seconds, talk)


def costliest(rng: random.Random, target: Shop) -> bytes:
    """A request with as much of everything as may be asked for."""
    conditions = [
        {"field": f"attributes.a{rng.randrange(10**6)}", "op": "contains", "value": uuid4().hex[:2]} for _ in range(4)
    ] + [{"field": "title", "op": "contains", "value": uuid4().hex[:2]} for _ in range(16)]
    items = list(target.items)
    one = {
        "customer_id": rng.choice(target.customers),
        "context": {"item_ids": rng.choices(items, k=50), "cart_item_ids": rng.choices(items, k=50)},
        "limit": 100,
        "diversity": 0.5,
        "exclude": {"item_ids": rng.choices(items, k=500), "purchased_within_days": 3650},
        "include": ["score", "generators", "reasons"],
    }
    requests = [one | {"filter": {"none": conditions[n:] + conditions[:n]}} for n in range(16)]
    return post(RECOMMEND, {"requests": requests, "distinct": True})


async def heavy(target: Shop, seconds: float) -> Outcome:
    """The costliest requests, all at once."""
    rng, outcome = random.Random(1), Outcome()

    async def one(request: bytes) -> None:
        begun = time.perf_counter()
        outcome.note(await ask(target, request), (time.perf_counter() - begun) * 1e3)

    await asyncio.gather(*(one(costliest(rng, target)) for _ in range(HEAVY)))
    return outcome


async def again_and_again(
    target: Shop, connections: int, seconds: float, make: Callable[[random.Random], bytes]
) -> Outcome:
    """Send the next request as soon as the one before is answered."""
    outcome, end = Outcome(), time.perf_counter() + seconds

    async def one(number: int) -> None:
        rng = random.Random(number)
        while (begun := time.perf_counter()) < end:
            outcome.note(await ask(target, make(rng)), (time.perf_counter() - begun) * 1e3)

    await asyncio.gather(*(one(n) for n in range(connections)))
    return outcome


async def filters(target: Shop, seconds: float) -> Outcome:
    """Filters that no request before had."""

    def make(rng: random.Random) -> bytes:
        conditions = [
            {"field": f"attributes.a{rng.randrange(10**6)}", "op": "contains", "value": uuid4().hex[:2]}
            for _ in range(4)
        ] + [{"field": "title", "op": "contains", "value": uuid4().hex[:2]} for _ in range(16)]
        return post(RECOMMEND, {"requests": [{"client_id": uuid4().hex, "filter": {"none": conditions}}]})

    return await again_and_again(target, 16, seconds, make)


async def large_events(target: Shop, seconds: float) -> Outcome:
    """Bodies of as many events, and as many bytes, as are taken."""

    def make(rng: random.Random) -> bytes:
        return post(EVENTS, {"events": [event(rng, target, "x" * 250) for _ in range(1_000)]})

    return await again_and_again(target, LARGE, seconds, make)


def flood(target: Shop, seconds: float) -> Outcome:
    """More plain requests than the server can answer."""
    bodies = [post(RECOMMEND, {"requests": [{"customer_id": c}]}) for c in target.customers]
    return send_at_random_times(target.port, target.rate, seconds, lambda rng: rng.choice(bodies), target.address)


ATTACKS: dict[str, Callable[[Shop, float], Outcome | Coroutine[Any, Any, Outcome]]] = {
    "unread": unread, "half-open": half_open, "headers": endless, "heavy": heavy, "filters": filters,
    "events": large_events, "5 x knee": flood, ELSEWHERE: flood,
}  # fmt: skip


def run(name: str, target: Shop, seconds: float) -> Outcome:
    """Run an attack, or the honest visitors, in this process."""
    import uvloop

    outcome = ATTACKS.get(name, honest)(target, seconds)
    return outcome if isinstance(outcome, Outcome) else uvloop.run(outcome)


def pin(process: int, processors: set[int]) -> None:
    """Keep all threads of a process, and those that they start, to some processors."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), processors)


def memory_mb(port: int, processes: list[psutil.Process]) -> tuple[float, float]:
    """RSS and PSS of the server's processes."""
    infos = [p.memory_full_info() for p in processes if p.is_running()]
    return sum(i.rss for i in infos) / 1e6, sum(i.pss for i in infos) / 1e6


def measure(port: int, bundle: Bundle, names: list[str], address: str) -> list[list[str]]:
    """The honest visitors alone, then beside each attack."""
    server = [p for p in psutil.Process().children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())]
    s = bundle.snapshot
    customers, items = (
        tuple(s.customers.at(np.arange(min(500, len(s.customers))))),
        tuple(s.items.at(np.arange(min(2_000, len(s.items))))),
    )
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        first, *rest = sorted(os.sched_getaffinity(0))
        pin(os.getpid(), set(rest))
        for process in server:
            pin(process.pid, {first})
    knee = closed_loop(Target(port, RECOMMEND, customers), 16, 4)
    print(f"knee: {knee.rate:.0f} requests/s at 16 connections, p50 {knee.p50_ms:.0f} ms", flush=True)
    visitors, rows = Shop(port, customers, items), []
    attackers = Shop(port, customers, items, address, 5 * knee.rate)
    with get_context("spawn").Pool(2) as pool:
        alone: Outcome = pool.apply(run, ("honest", visitors, ALONE_S))
        rss, pss = memory_mb(port, server)
        p, every = Outcome.p, alone.latencies
        memory = f"{rss:.0f}/{pss:.0f}"
        rows.append(["alone", p(every, 0.5), p(every, 0.99), str(alone.failed), memory, "", "", ""])
        print("  ".join(rows[-1]), flush=True)
        for name in names:
            before = memory_mb(port, server)
            attacker = replace(attackers, address="127.0.0.2") if name == ELSEWHERE else attackers
            both = [pool.apply_async(run, (n, t, ATTACK_S)) for n, t in ((name, attacker), ("honest", visitors))]
            peak = before
            while not all(result.ready() for result in both):
                time.sleep(0.5)
                peak = max(peak, memory_mb(port, server))
            attack, beside = (result.get() for result in both)
            time.sleep(AFTER_S)
            after = memory_mb(port, server)
            what = ", ".join(f"{status} {count}" for status, count in sorted(attack.statuses.items()))
            if attack.latencies:
                what += f"; answered p99 {p(attack.latencies, 0.99)} ms"
            if attack.refused:
                what += f"; 429 p50 {p(attack.refused, 0.5)}, p99 {p(attack.refused, 0.99)} ms"
            if attack.late:
                what += f"; sent late p99 {p(attack.late, 0.99)} ms"
            every = beside.latencies
            memories = [f"{m[0]:.0f}/{m[1]:.0f}" for m in (before, peak, after)]
            rows.append([name, p(every, 0.5), p(every, 0.99), str(beside.failed), *memories, what])
            print("  ".join(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Run the attacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", help="default: one that is trained on a simulated shop")
    parser.add_argument("--only", default=",".join(ATTACKS), help="attacks, with commas between them")
    parser.add_argument("--from", dest="address", default="127.0.0.1", help="the attackers' loopback address")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.bundle
        if path is None:
            path = Path(scratch) / "bundle"
            shop.train_bundle(shop.simulate_log(Path(scratch))).save(path)
        os.environ["USUAL_HOME"] = scratch
        port = find_free_port()
        command, env = build_command(path, "127.0.0.1", port, 1, own_keys=False)
        with run_process(command, env, port):
            rows = measure(port, Bundle.load(path), options.only.split(","), options.address)
    names = ["", "p50 ms", "p99 ms", "failed", "MB before", "at most", "20 s after", "attack"]
    shop.print_table(names, rows)


if __name__ == "__main__":
    main()
