"""Source `store`: events that the server received, from its SQLite or PostgreSQL store, for the next training.

The environment variable `USUAL_EVENT_STORE` names the store, as for the server: the path of a SQLite file or
postgresql://…; it appears in no argument, message or log. Unset, it is the server's default file. Reading is
one read-only transaction in bounded memory, as of one instant, while the server goes on writing.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import psycopg
from psycopg import sql

from features.common.errors import InputError
from features.common.paths import home
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, LATER_COLUMNS, LINK_SCHEMA, ROW, TIMESTAMP, conform, validate
from features.sources.source import Source

VARIABLE = "USUAL_EVENT_STORE"
BATCH = 100_000  # rows; they come as objects, of which a row has one per column

# One row per event × item, columns as the event log's, times as microseconds; and the links of clients to
# customers, as the log's, "" for null.
EVENTS, LINKS = "usual_events", "usual_links"
CLAIMS = "usual_claims"  # purchases and refunds that pages sent without proof, as events
ITEMS = "usual_items"  # one row per item that the shop set something of since a snapshot
COLUMNS, LINK_COLUMNS = tuple(EVENT_SCHEMA), tuple(LINK_SCHEMA)
EVENT_LINK = "event"  # kind of the link of an event with both ids; the log derives it from the event itself
REFUSED_LINK = "refused"  # the same without consent: links nobody, but tells an erasure which devices are a customer's

Select = Callable[[str, Sequence[str]], Iterator[list[tuple[Any, ...]]]]


class Reader(NamedTuple):
    """An open store, as of one instant: columns of a table in parts, and which columns a table has; none without it."""

    select: Select
    columns_of: Callable[[str], set[str]]


def is_postgres(url: str) -> bool:
    """Whether `url` names a PostgreSQL, else a SQLite file."""
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_path(url: str) -> Path:
    """The file that `url` names: a path, or sqlite:///path as others write it. Raises `InputError`."""
    if "://" in url and not url.startswith("sqlite:///"):
        raise InputError(f"{VARIABLE} is neither the path of a SQLite file nor postgresql://USER@HOST:PORT/DATABASE")
    return Path(url.removeprefix("sqlite://")).expanduser().absolute()


def default_url() -> str:
    """The server's default store: a SQLite file in the project's home directory."""
    return str(home() / "events.sqlite")


def read(url: str | None = None, rows: int = BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per `rows` rows, links with the first. Raises `InputError` for an unreadable store."""
    url = url or os.environ.get(VARIABLE) or default_url()
    with _open_postgres(url) if is_postgres(url) else _open_sqlite(sqlite_path(url)) as store:
        links = _read_links(store.select)
        offset = 0
        present = store.columns_of(EVENTS)  # a store that no server has opened since lacks later ones
        columns = [c for c in COLUMNS if c in present or c not in LATER_COLUMNS]
        for fetched in store.select(EVENTS, columns):
            parsed = _to_parsed(fetched, columns, offset, links)
            yield parsed
            links, offset = links.clear(), offset + len(fetched)
        claims = _read_claims(store)
        if claims.rows_read or not offset:
            yield replace(claims, links=links)


def read_availability(url: str | None = None) -> dict[str, bool]:
    """Read what the shop said of its items' availability: item id → available, of those that it said so of.

    Without `url`, the store of the environment, else the server's default file; empty where there is no such file yet.
    Raises `InputError` for an unreadable store.
    """
    url = url or os.environ.get(VARIABLE) or default_url()
    if not is_postgres(url) and not sqlite_path(url).is_file():
        return {}
    with _open_postgres(url) if is_postgres(url) else _open_sqlite(sqlite_path(url)) as store:
        rows = [row for part in store.select(ITEMS, ("item_id", "available")) for row in part]
    return {item_id: bool(available) for item_id, available in rows if available is not None}


def _to_parsed(fetched: list[tuple[Any, ...]], columns: Sequence[str], offset: int, links: pl.DataFrame) -> ParsedBatch:
    plain = {c: pl.Int64() if t == TIMESTAMP else t for c, t in EVENT_SCHEMA.items() if c in columns}
    events = pl.DataFrame(fetched, schema=plain, orient="row").with_columns(
        pl.from_epoch(c, "us").cast(TIMESTAMP) for c, t in EVENT_SCHEMA.items() if t == TIMESTAMP
    )
    # The server has validated them; rows that others wrote to the store are validated here.
    valid, rejected = validate(events.with_row_index(ROW, offset=offset), "store")
    return ParsedBatch(len(fetched), conform(valid, EVENT_SCHEMA), rejected, links=links)


def _read_claims(store: Reader) -> ParsedBatch:
    """Count what pages claimed without proof: it is left out."""
    rows, ids = 0, set[str]()
    # A store that no server has opened since there are claims has no table for them.
    for part in store.select(CLAIMS, ("event_id",)) if store.columns_of(CLAIMS) else ():
        rows += len(part)
        ids |= {event_id for (event_id,) in part}
    empty = pl.DataFrame(schema=EVENT_SCHEMA)
    if not rows:
        return ParsedBatch(rows_read=0, events=empty)
    what = "1 purchase or refund is" if len(ids) == 1 else f"{len(ids):,} purchases and refunds are"
    note = (
        f"{what} only claimed by pages, and left out: an order counts once the shop's server sends it, or the page "
        "with a visitor token (docs/events.md)"
    )
    return ParsedBatch(rows, empty, left_out={"claims of pages": rows}, notes=(note,))


def _read_links(select: Select) -> pl.DataFrame:
    rows = [row for part in select(LINKS, LINK_COLUMNS) for row in part]
    plain = {c: pl.Int64() if t == TIMESTAMP else pl.String() for c, t in LINK_SCHEMA.items()}
    links = pl.DataFrame(rows, schema=plain, orient="row").filter(~pl.col("kind").is_in([EVENT_LINK, REFUSED_LINK]))
    texts = [c for c in LINK_COLUMNS if LINK_SCHEMA[c] == pl.String()]
    with_nulls = links.with_columns(pl.when(pl.col(c) != "").then(c).alias(c) for c in texts)
    return conform(with_nulls.with_columns(pl.from_epoch("at", "us").cast(TIMESTAMP)), LINK_SCHEMA)


@contextmanager
def _open_sqlite(path: Path) -> Iterator[Reader]:
    if not path.is_file():
        raise InputError(
            f"there is no event store at {path}; set {VARIABLE} to the one the server writes, a file or postgresql://…"
        )
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")

            def select(table: str, columns: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
                # Names are ours, from the schemas above.
                cursor = connection.execute(f'SELECT {", ".join(columns)} FROM "{table}"')  # noqa: S608
                while part := cursor.fetchmany(BATCH):
                    yield part

            def columns_of(table: str) -> set[str]:
                return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}

            yield Reader(select, columns_of)
    except sqlite3.Error as error:
        raise InputError(f"the event store {path} cannot be read: {error}") from None


@contextmanager
def _open_postgres(url: str) -> Iterator[Reader]:
    try:
        with psycopg.connect(url, connect_timeout=10, application_name="usual ingest") as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

            def select(table: str, columns: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
                names = sql.SQL(", ").join(map(sql.Identifier, columns))
                with connection.cursor(name=f"usual_ingest_{table}") as cursor:
                    cursor.execute(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table)))
                    while part := cursor.fetchmany(BATCH):
                        yield part

            def columns_of(table: str) -> set[str]:
                query = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND NOT attisdropped"
                return {name for (name,) in connection.execute(query, (table,))}

            yield Reader(select, columns_of)
    except psycopg.Error as error:
        code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
        raise InputError(
            f"the event store that {VARIABLE} names cannot be read: {type(error).__name__}{code}. Is the database "
            "running, are host, user and password right, and has the server written to it?"
        ) from None


SOURCE = Source("store", f"the server's event store, which ${VARIABLE} names", lambda *_: read(), reads_files=False)
