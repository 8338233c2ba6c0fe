"""Events in a SQLite file: one machine, any number of worker processes.

Write-ahead log, so that readers and the writer do not wait for each other, and `synchronous = FULL`, so
that a commit returns after its fsync: with NORMAL, acknowledged events would be lost with the power.
"""

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from features.sources.event_store import COLUMNS, EVENTS, LINK_COLUMNS, LINKS
from serving.event_store.item_updates import ANSWERS, ITEMS, Beside, ItemChanges, ItemPatch, Once, Outcome
from serving.event_store.protocol import (
    KNOWN,
    MOST_DEVICES,
    SEEN,
    TIES,
    UNTIED,
    Erased,
    Event,
    Link,
    Reason,
    StoreUnavailable,
    Touch,
    Unstorable,
    Visitor,
    among,
    fresh,
    in_visit,
    order_by_time,
    own_devices,
    sql_types,
    ties,
)

_TYPES = sql_types("TEXT", "INTEGER", "REAL", "INTEGER")
# All that is read of a visit, so that one range of the index is read and no row, each of which lies elsewhere.
_VISIT = "visit, timestamp, event_id, item_id, name, price"
_TABLES = {
    EVENTS: f"""
CREATE TABLE IF NOT EXISTS {EVENTS} (
    seq INTEGER PRIMARY KEY, {", ".join(f"{c} {t}" for c, t in _TYPES.items())}, visit INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS {EVENTS}_of_customers ON {EVENTS} (customer_id, {_VISIT})
    WHERE customer_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS {EVENTS}_of_clients ON {EVENTS} (client_id, {_VISIT}, customer_id)
    WHERE client_id IS NOT NULL AND customer_id IS NULL;
""",
    SEEN: """
CREATE TABLE IF NOT EXISTS usual_seen (key BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usual_seen_at ON usual_seen (at);
""",
    LINKS: f"""
CREATE TABLE IF NOT EXISTS {LINKS} (
    at INTEGER NOT NULL, kind TEXT NOT NULL, token TEXT NOT NULL, client_id TEXT NOT NULL, customer_id TEXT NOT NULL,
    PRIMARY KEY (client_id, customer_id, kind, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {LINKS}_of_customers ON {LINKS} (customer_id, client_id);
CREATE INDEX IF NOT EXISTS {LINKS}_latest ON {LINKS} (customer_id, at DESC, client_id) WHERE kind IN {among(TIES)};
""",
    ITEMS: f"""
CREATE TABLE IF NOT EXISTS {ITEMS} (
    item_id TEXT PRIMARY KEY, available INTEGER, price REAL, version INTEGER NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS {ITEMS}_latest ON {ITEMS} (version);
""",
    ANSWERS: f"""
CREATE TABLE IF NOT EXISTS {ANSWERS} (
    key BLOB PRIMARY KEY, asked BLOB NOT NULL, at INTEGER NOT NULL, answer BLOB
) STRICT;
CREATE INDEX IF NOT EXISTS {ANSWERS}_at ON {ANSWERS} (at);
""",
}
_BESIDE = Beside("?")

_INSERT = f"INSERT INTO {EVENTS} ({', '.join(COLUMNS)}, visit) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"  # noqa: S608
_LINK = f"INSERT OR IGNORE INTO {LINKS} ({', '.join(LINK_COLUMNS)}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608
_UNTIE = f"DELETE FROM {LINKS} WHERE client_id = ? AND customer_id = ? AND {UNTIED}"  # noqa: S608
_OWN = own_devices("?", TIES, MOST_DEVICES)
_OWN_KNOWN = own_devices("?", KNOWN)
_LAST = f"""
SELECT timestamp, event_id, item_id, name, price FROM {EVENTS}
WHERE {{}} AND visit = 1 AND timestamp >= ? AND timestamp < ?
ORDER BY timestamp DESC, event_id DESC, item_id DESC LIMIT ?
"""  # noqa: S608
_OF_CUSTOMER = _LAST.format("customer_id = ?")
_OF_CLIENT = _LAST.format("client_id = ? AND customer_id IS NULL")

_REASONS: dict[int, Reason] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_PERM: "read_only",
    sqlite3.SQLITE_BUSY: "slow",
    sqlite3.SQLITE_LOCKED: "slow",
    sqlite3.SQLITE_INTERRUPT: "slow",
    sqlite3.SQLITE_NOMEM: "down",
    sqlite3.SQLITE_IOERR: "down",
    sqlite3.SQLITE_CORRUPT: "down",
    sqlite3.SQLITE_CANTOPEN: "down",
    sqlite3.SQLITE_NOTADB: "down",
    sqlite3.SQLITE_PROTOCOL: "down",
}
_GONE = re.compile("no such (table|column)|has no column")  # someone dropped it
_UNSTORABLE = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)

_creating = threading.Lock()


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's faults as StoreUnavailable or Unstorable; a fault of ours stays what it is."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the kind of error, the rest its detail. Without a code it is misuse of the module.
        kind = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if kind in _UNSTORABLE:
            raise Unstorable from None  # the message may hold what was sent
        reason = _REASONS.get(kind)
        if kind == sqlite3.SQLITE_ERROR and _GONE.search(str(error)):
            reason = "down"
        if reason is None:
            raise
        raise StoreUnavailable(reason) from error


class SqliteConnection:
    """A connection to the file at `path`, which is made where it is missing. Raises StoreUnavailable."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise StoreUnavailable("down") from None
        _create(path)
        if not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists():
            raise StoreUnavailable("read_only")  # SQLite would have to write there to read, and would not say so
        with _told():
            self._connection = sqlite3.connect(path, timeout_s, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA cache_size = -32000")  # KB
        there = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if missing := [table for table in _TABLES if table not in there]:
            execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for table in missing:
                    for statement in _TABLES[table].split(";")[:-1]:
                        execute(statement)
        self._inode = os.stat(self._path).st_ino

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begin at once with the write lock, commit at the end, or leave nothing behind; within one, be part of it."""
        if self._connection.in_transaction:
            with _told():
                yield
            return
        with _told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _check_file(self) -> None:
        # A file that was moved or deleted can still be written to, where nobody will find it.
        try:
            there = os.stat(self._path).st_ino == self._inode
        except OSError:
            there = False
        if not there:
            raise StoreUnavailable("down")

    def insert(self, events: Sequence[Event], now: int) -> list[bool]:
        self._check_file()
        with self._transaction():
            execute = self._connection.execute

            def claim(keys: Iterable[bytes]) -> list[bytes]:
                statement = "INSERT OR IGNORE INTO usual_seen (key, at) VALUES (?, ?)"
                return [key for key in keys if execute(statement, (key, now)).rowcount]

            new = fresh(events, claim)
            rows = [row for event, is_new in zip(events, new, strict=True) if is_new for row in event.rows]
            self._connection.executemany(_INSERT, ((*row, in_visit(row)) for row in rows))
            self._connection.executemany(_LINK, ties(rows, now))
        return new

    def visits(self, visitors: Sequence[Visitor], after: int, before: int, most: int) -> list[list[Touch]]:
        self._check_file()
        with _told():
            self._connection.execute("BEGIN")  # all visitors as of one instant
            try:
                return [self._visit(visitor, after, before, most) for visitor in visitors]
            finally:
                with suppress(sqlite3.Error):  # after some errors SQLite has done so itself
                    self._connection.execute("ROLLBACK")

    def _visit(self, visitor: Visitor, after: int, before: int, most: int) -> list[Touch]:
        execute = self._connection.execute
        customer, client = visitor
        found: list[Any] = []
        clients = [client] if client is not None else []
        if customer is not None:
            found += execute(_OF_CUSTOMER, (customer, after, before, most))
            clients = clients or [c for (c,) in execute(_OWN, (customer,))]
        for each in clients:
            found += execute(_OF_CLIENT, (each, after, before, most))
        return sorted(map(Touch._make, found), key=order_by_time)[-most:]

    def link(self, links: Sequence[Link]) -> int:
        self._check_file()
        with self._transaction():
            return sum(self._connection.execute(_LINK, link).rowcount for link in links)

    def erase(self, customer_id: str) -> Erased:
        self._check_file()
        with self._transaction():

            def delete(table: str, where: str, *values: str) -> int:
                done = self._connection.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount  # noqa: S608
                return int(done)

            ids = self._connection.execute
            mine = f"SELECT DISTINCT client_id FROM {LINKS} WHERE customer_id = ? AND client_id <> ''"  # noqa: S608
            every = {c for (c,) in ids(mine, (customer_id,))}
            own = {c for (c,) in ids(_OWN_KNOWN, (customer_id,))}
            events = delete(EVENTS, "customer_id = ?", customer_id)
            # On a device of several, what nobody was named in may be theirs.
            events += sum(delete(EVENTS, "client_id = ? AND customer_id IS NULL", c) for c in every)
            links = delete(LINKS, "customer_id = ?", customer_id) + sum(delete(LINKS, "client_id = ?", c) for c in own)
        return Erased(events, links, len(own), len(every - own))

    def purge(self, received_before: int, seen_before: int, now: int, most: int) -> int:
        self._check_file()
        with self._transaction():
            # Rows lie in the order in which they came: only the oldest need be looked at.
            oldest = f"SELECT seq, received_at FROM {EVENTS} ORDER BY seq LIMIT ?"  # noqa: S608
            old = f"seq IN (SELECT seq FROM ({oldest}) WHERE received_at < ?)"  # noqa: S608
            rows = self._connection.execute(
                f"DELETE FROM {EVENTS} WHERE {old} RETURNING client_id, customer_id",  # noqa: S608
                (most, received_before),
            ).fetchall()
            self._connection.executemany(_UNTIE, {pair for pair in rows if None not in pair})
            gone = self._connection.execute(
                "DELETE FROM usual_seen WHERE key IN (SELECT key FROM usual_seen WHERE at < ? LIMIT ?)",
                (seen_before, most),
            ).rowcount
            answers = _BESIDE.purge(self._connection.execute, now, most)
        return len(rows) + int(gone) + answers

    def patch_items(self, patches: Sequence[ItemPatch], since: int, now: int) -> ItemChanges:
        self._check_file()
        with self._transaction():
            _BESIDE.patch(self._connection.cursor(), patches, now)
            return _BESIDE.changes(self._connection.execute, since)

    def item_changes(self, since: int) -> ItemChanges:
        self._check_file()
        with _told():
            return _BESIDE.changes(self._connection.execute, since)

    def once(self, once: Once, now: int, run: Callable[[], bytes]) -> Outcome:
        self._check_file()
        with self._transaction():
            return _BESIDE.once(self._connection.execute, once, now, run)

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()


def _create(path: Path) -> None:
    """An empty file that nobody but its owner may read, where there is none: its log gets the same rights."""
    try:
        # One at a time: closing a file lets go of every lock that this process has on it, SQLite's too.
        with _creating, suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        raise StoreUnavailable("down") from None
