"""Behaviour of a running server under 50 random arrivals per second.

    python benchmarks/live.py BUNDLE [--soak 300 --rate 50]

- model swaps: latency before and during 20 swaps, and the number of failed requests
- freshness: time from the acknowledgement of a purchase to the first answer that reflects it, and from an item becoming
  unavailable to the last answer, of either of two workers, that shows it
- with --soak SECONDS: latency and memory, minute by minute

The load generator runs on the same processors as the server.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import psutil  # type: ignore[import-untyped]  # noqa: E402
import shop  # noqa: E402
from load import Load, Target, open_loop, run  # noqa: E402

from models import publishing  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from serving.deploy.server import build_command, find_free_port, run_process  # noqa: E402

RATE, SWAPS, PATH = 50.0, 20, "/v1/recommendations"


@contextmanager
def _serving(directory: Path, workers: int) -> Iterator[int]:
    """Run a server that watches `directory` for models; yields its port."""
    port = find_free_port()
    os.environ[publishing.CHAMPION_VARIABLE] = str(directory)
    command, env = build_command(None, "127.0.0.1", port, workers, own_keys=False)
    with run_process(command, env, port):
        yield port


@contextmanager
def _load(target: Target, seconds: float) -> Iterator["AsyncResult[Load]"]:
    """Generate load while the block runs, for at most `seconds`."""
    with get_context("spawn").Pool(1) as pool:
        yield pool.apply_async(run, ("open", target, RATE, seconds))


def measure_swaps(target: Target, bundle: Path, directory: Path) -> list[list[str]]:
    """Measure latency and failures before and during model swaps."""
    before = open_loop(target, RATE, 15)
    with _load(target, SWAPS * 1.5) as during:
        time.sleep(3)
        client = httpx.Client(base_url=f"http://127.0.0.1:{target.port}", timeout=60)
        swapped, start = 0, time.perf_counter()
        for n in range(SWAPS):
            publishing.publish(bundle, str(n + 2), directory)
            swapped += client.post("/v1/admin/reload").json()["swapped"]
        seconds = time.perf_counter() - start
        load = during.get()
    return [
        ["before swaps", f"{before.rate:.0f}", f"{before.p50_ms:.1f}", f"{before.p99_ms:.1f}", f"{before.failed}"],
        [
            f"{swapped} swaps in {seconds:.0f} s",
            *(f"{load.rate:.0f}", f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", f"{load.failed}"),
        ],
    ]


def measure_freshness(target: Target, items: list[str], rounds: int = 150) -> list[list[str]]:
    """Measure milliseconds from the acknowledgement of a purchase to the first answer that lists it under `thanks`."""
    latencies_ms, answers_needed = [], []
    with _load(target, rounds * 0.12 + 5) as _, httpx.Client(base_url=f"http://127.0.0.1:{target.port}") as client:
        time.sleep(3)
        for n in range(rounds):
            client_id, item = f"fresh-{n}-{uuid4().hex[:6]}", items[n % len(items)]
            _post_purchase(client, client_id, item)
            start, answers = time.perf_counter(), 0
            while True:
                answers += 1
                (result,) = client.post(PATH, json={"requests": [{"client_id": client_id}]}).json()["results"]
                if result["thanks"] == [item]:
                    break
            latencies_ms.append((time.perf_counter() - start) * 1e3)
            answers_needed.append(answers)
            time.sleep(0.05)
    p99 = sorted(latencies_ms)[int(len(latencies_ms) * 0.99)]
    return [["event → next answer", f"{statistics.median(latencies_ms):.1f}", f"{p99:.1f}", f"{max(answers_needed)}"]]


def measure_removal(target: Target, rounds: int = 20) -> list[list[str]]:
    """Measure milliseconds from PATCH /v1/items to the last answer that shows the item."""
    delays_ms = []
    body = {"requests": [{"client_id": "somebody", "placement": "home.trending", "limit": 5}]}
    with _load(target, rounds * 1.6 + 5) as _, httpx.Client(base_url=f"http://127.0.0.1:{target.port}") as client:
        time.sleep(3)
        for _round in range(rounds):
            item = client.post(PATH, json=body).json()["results"][0]["items"][0]["item_id"]
            start = time.perf_counter()
            client.patch("/v1/items", json={"items": [{"item_id": item, "available": False}]})
            last = start
            while time.perf_counter() - start < 1.5:
                # A new connection each time, so that every worker answers.
                answer = httpx.post(f"http://127.0.0.1:{target.port}{PATH}", json=body).json()
                if item in [i["item_id"] for i in answer["results"][0]["items"]]:
                    last = time.perf_counter()
            delays_ms.append((last - start) * 1e3)
    median = f"{statistics.median(delays_ms):.0f}"
    return [["item unavailable → no longer shown", median, f"{max(delays_ms):.0f} (maximum)", "2 workers"]]


def measure_memory(target: Target, rate: float, seconds: float) -> list[list[str]]:
    """Measure latency and memory of the server (unique set size), minute by minute.

    `stolen`: seconds in which the hypervisor gave a processor to another machine.
    """
    rows, memory = [], []
    for minute in range(max(3, round(seconds / 60))):
        steal_s = _stolen_s()
        load = open_loop(target, rate, 58)
        steal_s = _stolen_s() - steal_s
        memory.append(_unique_mb())
        cells = f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", f"{memory[-1]:.0f} MB", f"{steal_s:.1f} s"
        rows.append([f"minute {minute + 1}", *cells])
    rows.append(["growth after the first", "", "", f"{100 * (memory[-1] / memory[0] - 1):+.1f} %", ""])
    return rows


def _stolen_s() -> float:
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _unique_mb() -> float:
    return sum(p.memory_full_info().uss for p in psutil.Process().children(recursive=True) if p.is_running()) / 1e6


def _post_purchase(client: httpx.Client, client_id: str, item: str) -> None:
    event: dict[str, Any] = {
        "event_id": uuid4().hex,
        "name": "purchase",
        "client_id": client_id,
        "params": {"transaction_id": uuid4().hex, "currency": "EUR", "items": [{"item_id": item, "price": 5}]},
    }
    client.post("/v1/events", json={"events": [event]}).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--soak", type=float, default=0)
    parser.add_argument("--rate", type=float, default=RATE, help="arrivals a second of the soak")
    args = parser.parse_args()
    bundle = args.bundle.resolve()
    s = Bundle.load(bundle).snapshot
    customers = tuple(
        s.customers.values[n].as_py() for n in range(0, len(s.customers), max(1, len(s.customers) // 5000))
    )
    items = [s.items.values[n].as_py() for n in range(0, len(s.items), max(1, len(s.items) // 200))]
    print(f"{len(s.items):,} items, {len(s.customers):,} customers, {RATE:.0f} arrivals a second\n")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["USUAL_HOME"] = scratch
        directory = Path(scratch) / "champion"
        publishing.publish(bundle, "1", directory)
        with _serving(directory, 1) as port:
            target = Target(port, PATH, customers)
            open_loop(target, RATE, 3)
            shop.print_table(
                ("one worker", "req/s", "p50 ms", "p99 ms", "failed"), measure_swaps(target, bundle, directory)
            )
            print()
            shop.print_table(("", "p50 ms", "p99 ms", "answers needed, at most"), measure_freshness(target, items))
            if args.soak:
                print()
                shop.print_table(
                    ("", "p50 ms", "p99 ms", "memory", "stolen"), measure_memory(target, args.rate, args.soak)
                )
        with _serving(directory, 2) as port:
            print()
            shop.print_table(("", "median ms", "ms", ""), measure_removal(Target(port, PATH, customers)))


if __name__ == "__main__":
    main()
