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

from features.common.errors import InputError
from features.sources.event_store import COLUMNS, EVENTS, LINK_COLUMNS, LINKS, VARIABLE
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
""",
    SEEN: """
CREATE TABLE IF NOT EXISTS usual_seen (key bytea PRIMARY KEY, at bigint NOT NULL);
CREATE INDEX IF NOT EXISTS usual_seen_at ON usual_seen (at);
""",
    LINKS: f"""
CREATE TABLE IF NOT EXISTS {LINKS} (
    at bigint NOT NULL, kind text NOT NULL, token text NOT NULL, client_id text NOT NULL, customer_id text NOT NULL,
    PRIMARY KEY (client_id, customer_id, kind, token)
);
CREATE INDEX IF NOT EXISTS {LINKS}_of_customers ON {LINKS} (customer_id, client_id);
CREATE INDEX IF NOT EXISTS {LINKS}_latest ON {LINKS} (customer_id, at DESC, client_id) WHERE kind IN {among(TIES)};
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
_BESIDE = Beside("%s")
# Any numbers, as long as every server takes the same.
_SCHEMA_LOCK, _ITEMS_LOCK = 0x75737561, 0x75737562

_ARRAYS = ", ".join(f"%s::{t}[]" for t in [*_PLAIN, "boolean"])
_INSERT = f"INSERT INTO {EVENTS} ({', '.join(COLUMNS)}, visit) SELECT * FROM unnest({_ARRAYS})"  # noqa: S608
_CLAIM = """
INSERT INTO usual_seen (key, at) SELECT unnest(%s::bytea[]), %s ON CONFLICT DO NOTHING RETURNING key
"""
_LINK = f"""
INSERT INTO {LINKS} ({", ".join(LINK_COLUMNS)})
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING
"""  # noqa: S608
_UNTIE = f"""
DELETE FROM {LINKS} USING unnest(%s::text[], %s::text[]) AS gone (client, customer)
WHERE client_id = gone.client AND customer_id = gone.customer AND {UNTIED}
"""  # noqa: S608

_LAST = f"""
SELECT timestamp, event_id, item_id, name, price FROM {EVENTS}
WHERE {{}} AND visit AND timestamp >= %(after)s AND timestamp < %(before)s
ORDER BY timestamp DESC, event_id DESC, item_id DESC NULLS LAST LIMIT %(most)s
"""  # noqa: S608
_VISITS = f"""
WITH asked AS (
    SELECT * FROM unnest(%(customers)s::text[], %(clients)s::text[]) WITH ORDINALITY AS a (customer, client, n)
), devices AS (
    SELECT n, client FROM asked WHERE client IS NOT NULL
    UNION ALL
    SELECT n, own.client_id FROM asked, LATERAL ({own_devices("asked.customer", TIES, MOST_DEVICES)}) AS own
    WHERE client IS NULL
)
SELECT n, touch.* FROM asked, LATERAL ({_LAST.format("customer_id = asked.customer")}) AS touch
UNION ALL
SELECT n, touch.* FROM devices, LATERAL (
    {_LAST.format("client_id = devices.client AND customer_id IS NULL")}) AS touch
"""  # noqa: S608

# Classes and codes of SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
_REASONS: dict[str, Reason] = {
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
def _told() -> Iterator[None]:
    """PostgreSQL's faults as StoreUnavailable or Unstorable, without the driver's message, which may name the server
    or hold ids."""
    try:
        yield
    except psycopg.Error as error:
        code = error.sqlstate or ""
        if isinstance(error, psycopg.DataError) or code.startswith("54"):  # too large for an index
            raise Unstorable from None
        reason = _REASONS.get(code) or _REASONS.get(code[:2])
        if reason is None and not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            reason = "down"  # the connection is gone, or never was
        if reason is None:
            raise
        raise StoreUnavailable(reason) from None


def check_url(url: str) -> None:
    """Raises InputError, without repeating `url`, where it cannot be read."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InputError(f"{VARIABLE} cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from None


class PostgresConnection:
    """A connection to the database at `url`, in which missing tables are made. Raises StoreUnavailable."""

    def __init__(self, url: str, timeout_s: float) -> None:
        milliseconds = max(1, round(timeout_s * 1000))
        with _told():
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
        if not self._missing():
            return
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            # Those that are there are in use: to ask for them again could deadlock with inserts.
            for table in self._missing():
                self._connection.execute(sql.SQL(_TABLES[table]))

    def _missing(self) -> list[str]:
        # A query of the catalog: to_regclass would remember, within a transaction, that they were not there.
        seen = "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_table_is_visible(oid)"
        there = {name for (name,) in self._connection.execute(seen, (list(_TABLES),))}
        return [table for table in _TABLES if table not in there]

    def insert(self, events: Sequence[Event], now: int) -> list[bool]:
        with _told(), self._connection.transaction():
            execute = self._connection.execute

            def claim(keys: Iterable[bytes]) -> list[bytes]:
                # Sorted, so that two servers with the same keys wait for each other and do not block each other.
                return [bytes(key) for (key,) in execute(_CLAIM, (sorted(keys), now))]

            new = fresh(events, claim)
            rows = [row for event, is_new in zip(events, new, strict=True) if is_new for row in event.rows]
            if rows:
                execute(_INSERT, [*map(list, zip(*rows, strict=True)), list(map(in_visit, rows))])
                if links := ties(rows, now):
                    execute(_LINK, _columns(links))
        return new

    def visits(self, visitors: Sequence[Visitor], after: int, before: int, most: int) -> list[list[Touch]]:
        values = {
            "customers": [v.customer_id for v in visitors],
            "clients": [v.client_id for v in visitors],
            "after": after,
            "before": before,
            "most": most,
        }
        found: list[list[Any]] = [[] for _ in visitors]
        with _told():
            for n, *touch in self._connection.execute(_VISITS, values):
                found[n - 1].append(Touch._make(touch))
        return [sorted(touches, key=order_by_time)[-most:] for touches in found]

    def link(self, links: Sequence[Link]) -> int:
        with _told():
            return self._connection.execute(_LINK, _columns(sorted(links))).rowcount if links else 0

    def erase(self, customer_id: str) -> Erased:
        with _told(), self._connection.transaction():
            me = (customer_id,)
            execute: Any = self._connection.execute
            mine = f"SELECT DISTINCT client_id FROM {LINKS} WHERE customer_id = %s AND client_id <> ''"  # noqa: S608
            every = {c for (c,) in execute(mine, me)}
            own = {c for (c,) in execute(own_devices("%s", KNOWN), me)}
            events = execute(f"DELETE FROM {EVENTS} WHERE customer_id = %s", me).rowcount  # noqa: S608
            # On a device of several, what nobody was named in may be theirs.
            anonymous = f"DELETE FROM {EVENTS} WHERE client_id = ANY(%s) AND customer_id IS NULL"  # noqa: S608
            events += execute(anonymous, (list(every),)).rowcount
            theirs = f"DELETE FROM {LINKS} WHERE customer_id = %s OR client_id = ANY(%s)"  # noqa: S608
            links = execute(theirs, (customer_id, list(own))).rowcount
        return Erased(events, links, len(own), len(every - own))

    def purge(self, received_before: int, seen_before: int, now: int, most: int) -> int:
        with _told(), self._connection.transaction():
            execute: Any = self._connection.execute
            # Rows lie in the order in which they came: only the oldest need be looked at.
            oldest = f"SELECT seq, received_at FROM {EVENTS} ORDER BY seq LIMIT %s"  # noqa: S608
            old = f"seq IN (SELECT seq FROM ({oldest}) AS o WHERE received_at < %s)"  # noqa: S608
            rows = execute(
                f"DELETE FROM {EVENTS} WHERE {old} RETURNING client_id, customer_id",  # noqa: S608
                (most, received_before),
            ).fetchall()
            if pairs := sorted({pair for pair in rows if None not in pair}):
                execute(_UNTIE, list(map(list, zip(*pairs, strict=True))))
            gone = execute(
                "DELETE FROM usual_seen WHERE key IN (SELECT key FROM usual_seen WHERE at < %s LIMIT %s)",
                (seen_before, most),
            ).rowcount
            answers = _BESIDE.purge(execute, now, most)
        return len(rows) + int(gone) + answers

    def patch_items(self, patches: Sequence[ItemPatch], since: int, now: int) -> ItemChanges:
        with _told(), self._connection.transaction(), self._connection.cursor() as cursor:
            # One after another: else a version could be seen before a lower one, which would then be missed.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_ITEMS_LOCK,))
            _BESIDE.patch(cursor, patches, now)
            return _BESIDE.changes(self._connection.execute, since)

    def item_changes(self, since: int) -> ItemChanges:
        with _told():
            return _BESIDE.changes(self._connection.execute, since)

    def once(self, once: Once, now: int, run: Callable[[], bytes]) -> Outcome:
        with _told(), self._connection.transaction():
            return _BESIDE.once(self._connection.execute, once, now, run)

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._connection.close()


def _columns(links: Sequence[Link]) -> list[list[int | str]]:
    return [list(column) for column in zip(*links, strict=True)]
