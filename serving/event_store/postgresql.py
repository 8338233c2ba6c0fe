"""Events in a PostgreSQL: any number of servers share one store.

An event is acknowledged after the server's commit, with `synchronous_commit` on: its write-ahead log is
then on disk. Waits are bounded on both ends: by statement_timeout on the server, by keep-alives here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from features.common import clock
from features.common.errors import InputError
from features.event_log.stated_answers import PREFERENCES
from features.ranking.id_index import signed_hash
from features.sources.event_store import CLAIMS, COLUMNS, EVENTS, LINK_COLUMNS, LINKS, VARIABLE
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

_TYPES = sql_types('text COLLATE "C"', "bigint", "double precision", "boolean")
_PLAIN = [t.split(" COLLATE")[0] for t in _TYPES.values()]
_TABLES = {
    EVENTS: f"""
CREATE TABLE IF NOT EXISTS {EVENTS} (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {", ".join(f"{c} {t}" for c, t in _TYPES.items())},
    visit boolean NOT NULL
);
CREATE INDEX IF NOT EXISTS {EVENTS}_of_customers ON {EVENTS} (customer_id, visit, timestamp)
    WHERE customer_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS {EVENTS}_of_clients ON {EVENTS} (client_id, visit, timestamp)
    WHERE client_id IS NOT NULL AND customer_id IS NULL;
CREATE INDEX IF NOT EXISTS {EVENTS}_received ON {EVENTS} (received_at);
""",
    CLAIMS: f"""
CREATE TABLE IF NOT EXISTS {CLAIMS} (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {", ".join(f"{c} {t}" for c, t in _TYPES.items())},
    order_digest bytea
);
{CLAIM_INDEXES}""",
    ERASED: f"CREATE TABLE IF NOT EXISTS {ERASED} (hash bigint PRIMARY KEY, at bigint NOT NULL);",
    CLOCK: f"CREATE TABLE IF NOT EXISTS {CLOCK} (believed bigint, since bigint, last bigint);",
    DEDUP_KEYS: """
CREATE TABLE IF NOT EXISTS usual_seen (key bytea PRIMARY KEY, at bigint NOT NULL);
CREATE INDEX IF NOT EXISTS usual_seen_at ON usual_seen (at);
""",
    LINKS: f"""
CREATE TABLE IF NOT EXISTS {LINKS} (
    at bigint NOT NULL, kind text NOT NULL, token text NOT NULL, client_id text NOT NULL, customer_id text NOT NULL,
    PRIMARY KEY (client_id, customer_id, kind, token)
);
CREATE INDEX IF NOT EXISTS {LINKS}_of_customers ON {LINKS} (customer_id, client_id);
CREATE INDEX IF NOT EXISTS {LINKS}_latest ON {LINKS} (customer_id, at DESC, client_id)
    WHERE kind IN {sql_list(LINKING_KINDS)};
""",
    ITEMS: f"""
CREATE TABLE IF NOT EXISTS {ITEMS} (
    item_id text COLLATE "C" PRIMARY KEY, available boolean, price double precision, version bigint NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS {ITEMS}_latest ON {ITEMS} (version);
""",
    ANSWERS: f"""
CREATE TABLE IF NOT EXISTS {ANSWERS} (key bytea PRIMARY KEY, asked bytea NOT NULL, at bigint NOT NULL, answer bytea);
CREATE INDEX IF NOT EXISTS {ANSWERS}_at ON {ANSWERS} (at);
""",
}
_SIDE_TABLES, _CLAIM_TABLE = SideTables("%s"), ClaimTable("%s")
# Any numbers, as long as every server takes the same.
_SCHEMA_LOCK, _ITEMS_LOCK, _CLOCK_LOCK = 0x75737561, 0x75737562, 0x75737563

_ARRAYS = ", ".join(f"%s::{t}[]" for t in [*_PLAIN, "boolean"])
_INSERT = f"INSERT INTO {EVENTS} ({', '.join(COLUMNS)}, visit) SELECT * FROM unnest({_ARRAYS})"  # noqa: S608
_CLAIM_ARRAYS = ", ".join(f"%s::{t}[]" for t in [*_PLAIN, "bytea"])
_INSERT_CLAIM = f"INSERT INTO {CLAIMS} ({', '.join(CLAIM_COLUMNS)}) SELECT * FROM unnest({_CLAIM_ARRAYS})"  # noqa: S608
_CLAIM = """
INSERT INTO usual_seen (key, at) SELECT unnest(%s::bytea[]), %s ON CONFLICT DO NOTHING RETURNING key
"""
_LINK = f"""
INSERT INTO {LINKS} ({", ".join(LINK_COLUMNS)})
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING
"""  # noqa: S608
_DELETE_ORPHANED_LINKS = f"""
DELETE FROM {LINKS} USING unnest(%s::text[], %s::text[]) AS gone (client, customer)
WHERE client_id = gone.client AND customer_id = gone.customer AND {ORPHANED_LINK}
"""  # noqa: S608

_REMEMBER_ERASED = f"INSERT INTO {ERASED} (hash, at) VALUES (%s, %s) ON CONFLICT DO NOTHING"  # noqa: S608
_LAST = f"""
SELECT timestamp, event_id, item_id, name, price, NULL::text, NULL::text FROM {EVENTS}
WHERE {{}} AND visit AND timestamp >= %(after)s AND timestamp < %(before)s
ORDER BY timestamp DESC, event_id DESC, item_id DESC NULLS LAST LIMIT %(most)s
"""  # noqa: S608
_LAST_ANSWERS = f"""
SELECT timestamp, event_id, item_id, name, price, question, answer FROM {EVENTS}
WHERE {{}} AND NOT visit AND name = '{PREFERENCES}' AND timestamp >= %(after)s AND timestamp < %(before)s
ORDER BY timestamp DESC, event_id DESC LIMIT {MOST_ANSWERS}
"""  # noqa: S608
_OF_CUSTOMER, _OF_CLIENT = "customer_id = visitors.customer", "client_id = devices.client AND customer_id IS NULL"
_VISITS = f"""
WITH visitors AS (
    SELECT * FROM unnest(%(customers)s::text[], %(clients)s::text[]) WITH ORDINALITY AS a (customer, client, n)
), devices AS (
    SELECT n, client FROM visitors WHERE client IS NOT NULL
    UNION ALL
    SELECT n, own.client_id
    FROM visitors, LATERAL ({own_devices_sql("visitors.customer", LINKING_KINDS, MAX_DEVICES)}) AS own
    WHERE client IS NULL
)
SELECT n, event.* FROM visitors, LATERAL ({_LAST.format(_OF_CUSTOMER)}) AS event
UNION ALL
SELECT n, event.* FROM devices, LATERAL ({_LAST.format(_OF_CLIENT)}) AS event
UNION ALL
SELECT n, event.* FROM visitors, LATERAL ({_LAST_ANSWERS.format(_OF_CUSTOMER)}) AS event
UNION ALL
SELECT n, event.* FROM devices, LATERAL ({_LAST_ANSWERS.format(_OF_CLIENT)}) AS event
"""  # noqa: S608

# Classes and codes of SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
_REASONS: dict[str, UnavailableReason] = {
    "53100": "full",
    "25006": "read_only",
    "42501": "read_only",  # no right to
    "57014": "slow",  # statement_timeout
    "55P03": "slow",  # lock_timeout
    "40": "slow",  # deadlock, serialization
    "42P01": "down",  # someone dropped the tables
    "42703": "down",  # or a column of theirs
    "53": "down",
    "57": "down",
    "58": "down",
    "08": "down",
    "28": "down",
    "3D": "down",
    "XX": "down",
}


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise PostgreSQL's errors as StoreUnavailable or UnstorableValue.

    The driver's message is left out: it may name the server or hold ids.
    """
    try:
        yield
    except psycopg.Error as error:
        code = error.sqlstate or ""
        if isinstance(error, psycopg.DataError) or code.startswith("54"):  # too large for an index
            raise UnstorableValue from None
        reason = _REASONS.get(code) or _REASONS.get(code[:2])
        if reason is None and not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            reason = "down"  # the connection is gone, or never was
        if reason is None:
            raise
        raise StoreUnavailable(reason) from None


def check_url(url: str) -> None:
    """Raise InputError, without repeating `url`, where it cannot be parsed."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InputError(f"{VARIABLE} cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from None


class PostgresConnection:
    """A connection to the database at `url`; creates tables that are missing. Raises StoreUnavailable."""

    def __init__(self, url: str, timeout_s: float) -> None:
        milliseconds = max(1, round(timeout_s * 1000))
        with _translate_errors():
            self._connection = psycopg.connect(
                url,
                connect_timeout=2,  # the shortest there is
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=2,
                tcp_user_timeout=max(1000, milliseconds),
                application_name="usual serve",
                autocommit=True,
            )
            try:
                for name, value in (("statement_timeout", str(milliseconds)), ("synchronous_commit", "on")):
                    self._connection.execute("SELECT set_config(%s, %s, false)", (name, value))
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        if not self._missing() and not self._later_columns():
            return
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            # Tables that exist are in use: to create them again could deadlock with inserts.
            for table in self._missing():
                self._connection.execute(sql.SQL(_TABLES[table]))
            for statement in self._later_columns():
                self._connection.execute(sql.SQL(statement))

    def _later_columns(self) -> list[str]:
        """The statements that add to a store of before the columns that events have now."""
        query = (
            "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            "WHERE relname = ANY(%s) AND pg_table_is_visible(attrelid) AND attnum > 0 AND NOT attisdropped"
        )
        columns: dict[str, list[str]] = {}
        for table, column in self._connection.execute(query, ([EVENTS, CLAIMS],)):
            columns.setdefault(table, []).append(column)
        return [statement for table in columns for statement in later_columns_sql(table, columns[table], _TYPES)]

    def _missing(self) -> list[str]:
        # A query of the catalog: to_regclass would cache, within a transaction, that a table was missing.
        query = "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_table_is_visible(oid)"
        existing = {name for (name,) in self._connection.execute(query, (list(_TABLES),))}
        return [table for table in _TABLES if table not in existing]

    def insert(self, events: Sequence[StoredEvent], now: int) -> list[bool]:
        with _translate_errors(), self._connection.transaction():
            execute = self._connection.execute

            def claim(keys: Iterable[bytes]) -> list[bytes]:
                # Sorted, so that two servers with the same keys wait for each other and do not block each other.
                return [bytes(key) for (key,) in execute(_CLAIM, (sorted(keys), now))]

            new = claim_new(events, claim)
            new_events = [event for event, is_new in zip(events, new, strict=True) if is_new]
            if claims := _CLAIM_TABLE.write(execute, new_events):
                execute(_INSERT_CLAIM, list(map(list, zip(*claims, strict=True))))
            rows = [row for event in new_events if not event.claim for row in event.rows]
            if rows:
                execute(_INSERT, [*map(list, zip(*rows, strict=True)), list(map(in_visit, rows))])
                if links := links_from_rows(rows, now):
                    execute(_LINK, _columns(links))
        return new

    def visits(self, visitors: Sequence[VisitorIds], after: int, before: int, most: int) -> list[list[VisitEvent]]:
        values = {
            "customers": [v.customer_id for v in visitors],
            "clients": [None if v.client_id and v.client_id.startswith(UNPROVEN) else v.client_id for v in visitors],
            "after": after,
            "before": before,
            "most": most,
        }
        visits: list[list[Any]] = [[] for _ in visitors]
        with _translate_errors():
            for n, *event in self._connection.execute(_VISITS, values):
                visits[n - 1].append(VisitEvent._make(event))
        return [latest_of_visit(events, most) for events in visits]

    def link(self, links: Sequence[Link]) -> int:
        with _translate_errors():
            storable = storable_links(links)
            return self._connection.execute(_LINK, _columns(storable)).rowcount if storable else 0

    def erase(self, customer_id: str) -> ErasureCounts:
        with _translate_errors(), self._connection.transaction():
            customer = (customer_id,)
            execute: Any = self._connection.execute
            clients = f"SELECT DISTINCT client_id FROM {LINKS} WHERE customer_id = %s AND client_id <> ''"  # noqa: S608
            every = {c for (c,) in execute(clients, customer)}
            own = {c for (c,) in execute(own_devices_sql("%s", DEVICE_KINDS), customer)}
            events = execute(f"DELETE FROM {EVENTS} WHERE customer_id = %s", customer).rowcount  # noqa: S608
            # On a device of several customers, events that name nobody may be theirs.
            anonymous = f"DELETE FROM {EVENTS} WHERE client_id = ANY(%s) AND customer_id IS NULL"  # noqa: S608
            events += execute(anonymous, ([*every, *(UNPROVEN + client for client in every)],)).rowcount
            claims = _CLAIM_TABLE.erase(execute, every)
            execute(_REMEMBER_ERASED, (signed_hash(customer_id), clock.now()))
            delete_links = f"DELETE FROM {LINKS} WHERE customer_id = %s OR client_id = ANY(%s)"  # noqa: S608
            links = execute(delete_links, (customer_id, list(own))).rowcount
        return ErasureCounts(events, links, len(own), len(every - own), claims)

    def erased(self, known: int) -> list[int] | None:
        with _translate_errors():
            return read_erased(self._connection.execute, known)

    def erase_client(self, client_id: str) -> ErasureCounts:
        with _translate_errors(), self._connection.transaction():
            execute: Any = self._connection.execute
            both = (client_id, UNPROVEN + client_id)
            events = execute(f"DELETE FROM {EVENTS} WHERE client_id = %s OR client_id = %s", both).rowcount  # noqa: S608
            links = execute(f"DELETE FROM {LINKS} WHERE client_id = %s", both[:1]).rowcount  # noqa: S608
            claims = _CLAIM_TABLE.erase(execute, [client_id])
        return ErasureCounts(events, links, 1, 0, claims)

    def compact(self) -> bool:
        # A plain one leaves what it frees on the pages. Statistics hold frequent ids; a role that may not rewrite their
        # table gets a warning.
        with _translate_errors():
            self._connection.execute(f"VACUUM (FULL, ANALYZE) {EVENTS}, {CLAIMS}, {LINKS}")
            self._connection.execute("VACUUM FULL pg_statistic")
        return True

    def believe(self, now: int) -> int:
        with _translate_errors(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CLOCK_LOCK,))
            return remember_time(self._connection.execute, now, "%s")

    def purge(self, received_before: int, seen_before: int, now: int, most: int) -> int:
        with _translate_errors(), self._connection.transaction():
            execute: Any = self._connection.execute
            # By the index: rows of a time when the clock was ahead must not hide the older ones behind them.
            old = f"seq IN (SELECT seq FROM {EVENTS} WHERE received_at < %s ORDER BY received_at LIMIT %s)"  # noqa: S608
            rows = execute(
                f"DELETE FROM {EVENTS} WHERE {old} RETURNING client_id, customer_id",  # noqa: S608
                (received_before, most),
            ).fetchall()
            if pairs := sorted({pair for pair in rows if None not in pair}):
                execute(_DELETE_ORPHANED_LINKS, list(map(list, zip(*pairs, strict=True))))
            keys = execute(
                "DELETE FROM usual_seen WHERE key IN (SELECT key FROM usual_seen WHERE at < %s LIMIT %s)",
                (seen_before, most),
            ).rowcount
            claims = _CLAIM_TABLE.purge(execute, received_before, most)
            answers = _SIDE_TABLES.purge(execute, now, most)
        return len(rows) + claims + int(keys) + answers

    def patch_items(self, patches: Sequence[ItemPatch], since: int, now: int) -> ItemChanges:
        with _translate_errors(), self._connection.transaction(), self._connection.cursor() as cursor:
            # One after another: else a version could be read before a lower one, which would then be missed.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_ITEMS_LOCK,))
            _SIDE_TABLES.patch(cursor, patches, now)
            return _SIDE_TABLES.changes(self._connection.execute, since)

    def item_changes(self, since: int) -> ItemChanges:
        with _translate_errors():
            return _SIDE_TABLES.changes(self._connection.execute, since)

    def write_once(self, key: IdempotencyKey, now: int, run: Callable[[], bytes]) -> IdempotentAnswer:
        with _translate_errors(), self._connection.transaction():
            return _SIDE_TABLES.write_once(self._connection.execute, key, now, run)

    def check(self) -> None:
        return  # its files are the server's

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._connection.close()


def _columns(links: Sequence[Link]) -> list[list[int | str]]:
    return [list(column) for column in zip(*links, strict=True)]
