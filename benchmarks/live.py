"""A running server under 50 arrivals a second: `python benchmarks/live.py BUNDLE [--soak 300 --rate 50]`.

- hot swap: latency before and during 20 swaps of the model, and how many requests failed
- freshness: from the acknowledgement of a purchase to an answer that thanks for it, and from taking an item off the
  shelf to the last answer, of any of two workers, that shows it
- with --soak SECONDS: memory after the first minute and at the end, latency in the second minute and in the last

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
from load import Load, Target, arriving, run  # noqa: E402

from models import publishing  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from serving.deploy.server import command_line, free_port, started  # noqa: E402

RATE, SWAPS, ASKED = 50.0, 20, "/v1/recommendations"


@contextmanager
def _serving(where: Path, workers: int) -> Iterator[int]:
    """A server that follows the directory `where`; yields its port."""
    port = free_port()
    os.environ[publishing.VARIABLE] = str(where)
    command, env = command_line(None, "127.0.0.1", port, workers, own_keys=False)
    with started(command, env, port):
        yield port


@contextmanager
def _load(target: Target, seconds: float) -> Iterator["AsyncResult[Load]"]:
    """Arrivals while the block runs, at most `seconds`."""
    with get_context("spawn").Pool(1) as pool:
        yield pool.apply_async(run, ("open", target, RATE, seconds))


def swaps(target: Target, bundle: Path, where: Path) -> list[list[str]]:
    before = arriving(target, RATE, 15)
    with _load(target, SWAPS * 1.5) as during:
        time.sleep(3)
        client = httpx.Client(base_url=f"http://127.0.0.1:{target.port}", timeout=60)
        swapped, begun = 0, time.perf_counter()
        for n in range(SWAPS):
            publishing.publish(bundle, str(n + 2), where)
            swapped += client.post("/v1/admin/reload").json()["swapped"]
        took = time.perf_counter() - begun
        measured = during.get()
    return [
        ["before swaps", f"{before.rate:.0f}", f"{before.p50_ms:.1f}", f"{before.p99_ms:.1f}", f"{before.failed}"],
        [
            f"{swapped} swaps in {took:.0f} s",
            *(f"{measured.rate:.0f}", f"{measured.p50_ms:.1f}", f"{measured.p99_ms:.1f}", f"{measured.failed}"),
        ],
    ]


def freshness(target: Target, items: list[str], rounds: int = 150) -> list[list[str]]:
    """Milliseconds from an acknowledged purchase to the answer that thanks for it."""
    took, tries = [], []
    with _load(target, rounds * 0.12 + 5) as _, httpx.Client(base_url=f"http://127.0.0.1:{target.port}") as client:
        time.sleep(3)
        for n in range(rounds):
            who, item = f"fresh-{n}-{uuid4().hex[:6]}", items[n % len(items)]
            _bought(client, who, item)
            acknowledged, asked = time.perf_counter(), 0
            while True:
                asked += 1
                (result,) = client.post(ASKED, json={"requests": [{"client_id": who}]}).json()["results"]
                if result["thanks"] == [item]:
                    break
            took.append((time.perf_counter() - acknowledged) * 1e3)
            tries.append(asked)
            time.sleep(0.05)
    p99 = sorted(took)[int(len(took) * 0.99)]
    return [["event → next answer", f"{statistics.median(took):.1f}", f"{p99:.1f}", f"{max(tries)}"]]


def gone(target: Target, rounds: int = 20) -> list[list[str]]:
    """Milliseconds from PATCH /v1/items to the last answer that shows the item."""
    took = []
    body = {"requests": [{"client_id": "somebody", "placement": "home.trending", "limit": 5}]}
    with _load(target, rounds * 1.6 + 5) as _, httpx.Client(base_url=f"http://127.0.0.1:{target.port}") as client:
        time.sleep(3)
        for _round in range(rounds):
            shown = client.post(ASKED, json=body).json()["results"][0]["items"][0]["item_id"]
            asked = time.perf_counter()
            client.patch("/v1/items", json={"items": [{"item_id": shown, "available": False}]})
            last = asked
            while time.perf_counter() - asked < 1.5:
                # A connection of its own each time, so that every worker is asked.
                answer = httpx.post(f"http://127.0.0.1:{target.port}{ASKED}", json=body).json()
                if shown in [i["item_id"] for i in answer["results"][0]["items"]]:
                    last = time.perf_counter()
            took.append((last - asked) * 1e3)
    return [["item off the shelf → gone", f"{statistics.median(took):.0f}", f"{max(took):.0f} (most)", "2 workers"]]


def soak(target: Target, rate: float, seconds: float) -> list[list[str]]:
    """Memory of the server (unique set size) and p99, minute by minute; `stolen`: how long a processor was ours and
    ran somebody else's machine."""
    rows, memory = [], []
    for minute in range(max(3, round(seconds / 60))):
        stolen = _stolen_s()
        load = arriving(target, rate, 58)
        stolen = _stolen_s() - stolen
        memory.append(_unique_mb())
        told = f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", f"{memory[-1]:.0f} MB", f"{stolen:.1f} s"
        rows.append([f"minute {minute + 1}", *told])
    rows.append(["growth after the first", "", "", f"{100 * (memory[-1] / memory[0] - 1):+.1f} %", ""])
    return rows


def _stolen_s() -> float:
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _unique_mb() -> float:
    return sum(p.memory_full_info().uss for p in psutil.Process().children(recursive=True) if p.is_running()) / 1e6


def _bought(client: httpx.Client, who: str, item: str) -> None:
    event: dict[str, Any] = {
        "event_id": uuid4().hex,
        "name": "purchase",
        "client_id": who,
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
        where = Path(scratch) / "champion"
        publishing.publish(bundle, "1", where)
        with _serving(where, 1) as port:
            target = Target(port, ASKED, customers)
            arriving(target, RATE, 3)
            shop.table(("one worker", "req/s", "p50 ms", "p99 ms", "failed"), swaps(target, bundle, where))
            print()
            shop.table(("", "p50 ms", "p99 ms", "answers asked for, at most"), freshness(target, items))
            if args.soak:
                print()
                shop.table(("", "p50 ms", "p99 ms", "memory", "stolen"), soak(target, args.rate, args.soak))
        with _serving(where, 2) as port:
            print()
            shop.table(("", "median ms", "ms", ""), gone(Target(port, ASKED, customers)))


if __name__ == "__main__":
    main()
