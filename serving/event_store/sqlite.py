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

from features.common import clock
from features.event_log.stated_answers import PREFERENCES
from features.ranking.id_index import signed_hash
from features.sources.event_store import CLAIMS, COLUMNS, EVENTS, LINK_COLUMNS, LINKS
from serving.event_store.claims import CLAIM_COLUMNS, ClaimTable
from serving.event_store.claims import INDEXES as CLAIM_INDEXES
from serving.event_store.item_updates import (
    ANSWERS,
    ITEMS,
    IdempotencyKey,
    IdempotentAnswer,
    ItemChanges,
    ItemPatch,
    SideTables,
)
from serving.event_store.journal import Journal
from serving.event_store.protocol import (
    CLOCK,
    DEDUP_KEYS,
    DEVICE_KINDS,
    ERASED,
    LINKING_KINDS,
    MAX_DEVICES,
    MOST_ANSWERS,
    ORPHANED_LINK,
    ErasureCounts,
    Link,
    StoredEvent,
    StoreUnavailable,
    UnavailableReason,
    UnstorableValue,
    VisitEvent,
    claim_new,
    in_visit,
    later_columns_sql,
    latest_of_visit,
    links_from_rows,
    own_devices_sql,
    read_erased,
    remember_time,
    sql_list,
    sql_types,
    storable_links,
)
from serving.identity.client_ids import UNPROVEN
from serving.schemas.visitor import VisitorIds

_TYPES = sql_types("TEXT", "INTEGER", "REAL", "INTEGER")
# All columns that a visit is read from, so that one range of the index suffices: the rows lie scattered.
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
CREATE INDEX IF NOT EXISTS {EVENTS}_received ON {EVENTS} (received_at);
""",
    CLAIMS: f"""
CREATE TABLE IF NOT EXISTS {CLAIMS} (
    seq INTEGER PRIMARY KEY, {", ".join(f"{c} {t}" for c, t in _TYPES.items())}, order_digest BLOB
) STRICT;
{CLAIM_INDEXES}""",
    ERASED: f"CREATE TABLE IF NOT EXISTS {ERASED} (hash INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;",
    CLOCK: f"CREATE TABLE IF NOT EXISTS {CLOCK} (believed INTEGER, since INTEGER, last INTEGER) STRICT;",
    DEDUP_KEYS: """
CREATE TABLE IF NOT EXISTS usual_seen (key BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usual_seen_at ON usual_seen (at);
""",
    LINKS: f"""
CREATE TABLE IF NOT EXISTS {LINKS} (
    at INTEGER NOT NULL, kind TEXT NOT NULL, token TEXT NOT NULL, client_id TEXT NOT NULL, customer_id TEXT NOT NULL,
    PRIMARY KEY (client_id, customer_id, kind, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {LINKS}_of_customers ON {LINKS} (customer_id, client_id);
CREATE INDEX IF NOT EXISTS {LINKS}_latest ON {LINKS} (customer_id, at DESC, client_id)
    WHERE kind IN {sql_list(LINKING_KINDS)};
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
_SIDE_TABLES, _CLAIM_TABLE = SideTables("?"), ClaimTable("?")

_INSERT = f"INSERT INTO {EVENTS} ({', '.join(COLUMNS)}, visit) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"  # noqa: S608
_INSERT_CLAIM = f"INSERT INTO {CLAIMS} ({', '.join(CLAIM_COLUMNS)}) VALUES ({', '.join('?' * len(CLAIM_COLUMNS))})"  # noqa: S608
_LINK = f"INSERT OR IGNORE INTO {LINKS} ({', '.join(LINK_COLUMNS)}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608
_DELETE_ORPHANED_LINK = f"DELETE FROM {LINKS} WHERE client_id = ? AND customer_id = ? AND {ORPHANED_LINK}"  # noqa: S608
_LINKED_DEVICES = own_devices_sql("?", LINKING_KINDS, MAX_DEVICES)
_OWN_DEVICES = own_devices_sql("?", DEVICE_KINDS)
_REMEMBER_ERASED = f"INSERT INTO {ERASED} (hash, at) VALUES (?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
_LAST = f"""
SELECT timestamp, event_id, item_id, name, price, {{stated}} FROM {EVENTS}
WHERE {{whose}} AND {{which}} AND timestamp >= ? AND timestamp < ?
ORDER BY timestamp DESC, event_id DESC, item_id DESC LIMIT ?
"""  # noqa: S608
_OWN = ("customer_id = ?", "client_id = ? AND customer_id IS NULL")
_OF_CUSTOMER, _OF_CLIENT = (_LAST.format(whose=w, which="visit = 1", stated="NULL, NULL") for w in _OWN)
# Found by the same indexes: the name is in them.
_ANSWERS_OF_CUSTOMER, _ANSWERS_OF_CLIENT = (
    _LAST.format(whose=w, which=f"visit = 0 AND name = '{PREFERENCES}'", stated="question, answer") for w in _OWN
)

_REASONS: dict[int, UnavailableReason] = {
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
_DROPPED = re.compile("no such (table|column)|has no column")  # someone dropped it
_UNSTORABLE = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG)

_create_lock = threading.Lock()


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise SQLite's errors as StoreUnavailable or UnstorableValue; a fault of ours stays what it is."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed database" in str(error):  # by the recovery of a removed journal
            raise StoreUnavailable("down") from error
        raise
    except sqlite3.Error as error:
        # The low byte is the kind of error, the rest its detail. Without a code it is misuse of the module.
        kind = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if kind in _UNSTORABLE:
            raise UnstorableValue from None  # the message may hold the value
        reason = _REASONS.get(kind)
        if kind == sqlite3.SQLITE_ERROR and _DROPPED.search(str(error)):
            reason = "down"
        if reason is None:
            raise
        raise StoreUnavailable(reason) from error


class SqliteConnection:
    """A connection to the file at `path`; creates it where it is missing. Raises StoreUnavailable."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._journal: Journal | None = None
        self._in_use = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            raise StoreUnavailable("down") from None
        _create(path)
        if not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists():
            raise StoreUnavailable("read_only")  # SQLite would have to write there to read, and would not report it
        with _translate_errors():
            self._connection = sqlite3.connect(path, timeout_s, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self._journal = Journal(path, self._connection)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA cache_size = -32000")  # KB
        execute("PRAGMA secure_delete = ON")  # what was erased is overwritten, not only unlinked
        existing = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if missing := [table for table in _TABLES if table not in existing]:
            execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for table in missing:
                    for statement in _TABLES[table].split(";")[:-1]:
                        execute(statement)
        self._add_later_columns()
        with suppress(sqlite3.OperationalError):  # of a store of before; one that cannot be written has no need of it
            execute(f"CREATE INDEX IF NOT EXISTS {EVENTS}_received ON {EVENTS} (received_at)")

    def _add_later_columns(self) -> None:
        """Add to a store of before the columns that events have now."""

        def missing() -> list[str]:
            rows = {table: execute(f"PRAGMA table_info({table})").fetchall() for table in (EVENTS, CLAIMS)}
            return [
                s for table, columns in rows.items() for s in later_columns_sql(table, [c[1] for c in columns], _TYPES)
            ]

        execute = self._connection.execute
        if missing():
            with self._transaction():
                for statement in missing():  # another process may just have done so
                    execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begin at once with the write lock, commit at the end, or leave nothing behind; within one, be part of it."""
        if self._connection.in_transaction:
            with _translate_errors():
                yield
            return
        with _translate_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _guarded(self, reads: bool = False) -> Iterator[None]:
        """Use the files, which must be those that the path names: before, and after what was committed."""
        if self._journal is None or self._in_use:  # part of a use that has begun
            yield
            return
        with self._journal.in_use():
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False
        if not reads:
            self._journal.check()

    def insert(self, events: Sequence[StoredEvent], now: int) -> list[bool]:
        with self._guarded(), self._transaction():
            execute = self._connection.execute

            def claim(keys: Iterable[bytes]) -> list[bytes]:
                statement = "INSERT OR IGNORE INTO usual_seen (key, at) VALUES (?, ?)"
                return [key for key in keys if execute(statement, (key, now)).rowcount]

            new = claim_new(events, claim)
            new_events = [event for event, is_new in zip(events, new, strict=True) if is_new]
            self._connection.executemany(_INSERT_CLAIM, _CLAIM_TABLE.write(execute, new_events))
            rows = [row for event in new_events if not event.claim for row in event.rows]
            self._connection.executemany(_INSERT, ((*row, in_visit(row)) for row in rows))
            self._connection.executemany(_LINK, links_from_rows(rows, now))
        return new

    def visits(self, visitors: Sequence[VisitorIds], after: int, before: int, most: int) -> list[list[VisitEvent]]:
        with self._guarded(reads=True), _translate_errors():
            self._connection.execute("BEGIN")  # all visitors as of one instant
            try:
                return [self._visit(visitor, after, before, most) for visitor in visitors]
            finally:
                with suppress(sqlite3.Error):  # after some errors SQLite has done so itself
                    self._connection.execute("ROLLBACK")

    def _visit(self, visitor: VisitorIds, after: int, before: int, most: int) -> list[VisitEvent]:
        execute = self._connection.execute
        customer, client = visitor
        events: list[Any] = []
        clients = [client] if client is not None and not client.startswith(UNPROVEN) else []
        if customer is not None:
            events += execute(_OF_CUSTOMER, (customer, after, before, most))
            events += execute(_ANSWERS_OF_CUSTOMER, (customer, after, before, MOST_ANSWERS))
            clients = clients or [c for (c,) in execute(_LINKED_DEVICES, (customer,))]
        for each in clients:
            events += execute(_OF_CLIENT, (each, after, before, most))
            events += execute(_ANSWERS_OF_CLIENT, (each, after, before, MOST_ANSWERS))
        return latest_of_visit(map(VisitEvent._make, events), most)

    def link(self, links: Sequence[Link]) -> int:
        with self._guarded(), self._transaction():
            return sum(self._connection.execute(_LINK, link).rowcount for link in storable_links(links))

    def erase(self, customer_id: str) -> ErasureCounts:
        with self._guarded(), self._transaction():

            def delete(table: str, where: str, *values: str) -> int:
                rows = self._connection.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount  # noqa: S608
                return int(rows)

            execute = self._connection.execute
            clients = f"SELECT DISTINCT client_id FROM {LINKS} WHERE customer_id = ? AND client_id <> ''"  # noqa: S608
            every = {c for (c,) in execute(clients, (customer_id,))}
            own = {c for (c,) in execute(_OWN_DEVICES, (customer_id,))}
            events = delete(EVENTS, "customer_id = ?", customer_id)
            # On a device of several customers, events that name nobody may be theirs.
            anonymous = [*every, *(UNPROVEN + client for client in every)]
            events += sum(delete(EVENTS, "client_id = ? AND customer_id IS NULL", c) for c in anonymous)
            claims = _CLAIM_TABLE.erase(execute, every)
            execute(_REMEMBER_ERASED, (signed_hash(customer_id), clock.now()))
            links = delete(LINKS, "customer_id = ?", customer_id) + sum(delete(LINKS, "client_id = ?", c) for c in own)
        return ErasureCounts(events, links, len(own), len(every - own), claims)

    def erased(self, known: int) -> list[int] | None:
        with self._guarded(reads=True), _translate_errors():
            return read_erased(self._connection.execute, known)

    def erase_client(self, client_id: str) -> ErasureCounts:
        with self._guarded(), self._transaction():
            execute = self._connection.execute
            both = (client_id, UNPROVEN + client_id)
            events = execute(f"DELETE FROM {EVENTS} WHERE client_id = ? OR client_id = ?", both).rowcount  # noqa: S608
            links = execute(f"DELETE FROM {LINKS} WHERE client_id = ?", both[:1]).rowcount  # noqa: S608
            claims = _CLAIM_TABLE.erase(execute, [client_id])
        return ErasureCounts(events, links, 1, 0, claims)

    def compact(self) -> bool:
        with self._guarded(), _translate_errors():
            self._connection.execute("VACUUM")  # pages of before content was overwritten when it was deleted
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def believe(self, now: int) -> int:
        with self._guarded(), self._transaction():
            return remember_time(self._connection.execute, now)

    def purge(self, received_before: int, seen_before: int, now: int, most: int) -> int:
        with self._guarded(), self._transaction():
            # By the index: rows of a time when the clock was ahead must not hide the older ones behind them.
            old = f"seq IN (SELECT seq FROM {EVENTS} WHERE received_at < ? ORDER BY received_at LIMIT ?)"  # noqa: S608
            rows = self._connection.execute(
                f"DELETE FROM {EVENTS} WHERE {old} RETURNING client_id, customer_id",  # noqa: S608
                (received_before, most),
            ).fetchall()
            self._connection.executemany(_DELETE_ORPHANED_LINK, {pair for pair in rows if None not in pair})
            keys = self._connection.execute(
                "DELETE FROM usual_seen WHERE key IN (SELECT key FROM usual_seen WHERE at < ? LIMIT ?)",
                (seen_before, most),
            ).rowcount
            claims = _CLAIM_TABLE.purge(self._connection.execute, received_before, most)
            answers = _SIDE_TABLES.purge(self._connection.execute, now, most)
        return len(rows) + claims + int(keys) + answers

    def patch_items(self, patches: Sequence[ItemPatch], since: int, now: int) -> ItemChanges:
        with self._guarded(), self._transaction():
            _SIDE_TABLES.patch(self._connection.cursor(), patches, now)
            return _SIDE_TABLES.changes(self._connection.execute, since)

    def item_changes(self, since: int) -> ItemChanges:
        with self._guarded(reads=True), _translate_errors():
            return _SIDE_TABLES.changes(self._connection.execute, since)

    def write_once(self, key: IdempotencyKey, now: int, run: Callable[[], bytes]) -> IdempotentAnswer:
        with self._guarded(), self._transaction():
            return _SIDE_TABLES.write_once(self._connection.execute, key, now, run)

    def check(self) -> None:
        with self._guarded():
            return

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        with suppress(sqlite3.Error):
            self._connection.close()


def _create(path: Path) -> None:
    """Create an empty file that only its owner may read, where there is none: its log gets the same rights."""
    try:
        # One at a time: closing a file lets go of every lock that this process has on it, SQLite's too.
        with _create_lock, suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        raise StoreUnavailable("down") from None
