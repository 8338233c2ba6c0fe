"""Source `postgres`: a table or a query of a PostgreSQL database, in the columns of the source `events`.

The connection string is in the environment variable `USUAL_SOURCE_DSN` and nowhere else: it appears in
no argument, message or log. Reading is one read-only transaction with a cursor on the server, so a table
of any size is read in bounded memory and as of one instant.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.sources.parsing.cells import pii
from features.sources.parsing.events.mapped import NO_ROWS, MappedReader
from features.sources.parsing.mapping.mapping import MAPPING_HELP, Mapping
from features.sources.source import Source

DSN = "USUAL_SOURCE_DSN"
BATCH = 100_000  # rows; they come as objects, of which a row has one per column

Connection = psycopg.Connection[tuple[str | None, ...]]

# What of a driver's message may be shown: it never names host, user or database.
_REASONS = ("connection refused", "password authentication failed", "timeout", "could not translate host name",
            "does not exist", "no pg_hba.conf entry", "too many", "starting up", "ssl")  # fmt: skip

# Types whose values come as texts with a decimal point.
_NUMBERS = {psycopg.postgres.types[name].oid for name in ("int2", "int4", "int8", "numeric", "float4", "float8")}

_QUOTES = re.compile(r"[:：\"'`«»‹›„“”‚‘’]")  # where a server, in whatever language, may start to quote a value


def read(
    table: str | None = None, query_file: Path | None = None, mapping: Path | None = None, rows: int = BATCH
) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per `rows` rows. `table` may name its schema: shop.events.

    Raises `InputError` where the environment has no connection string, for a connection, table, query or
    column that does not exist, and whatever source `events` raises for a mapping.
    """
    if (table is None) == (query_file is None):
        raise InputError("the source `postgres` reads one table or one query: give either --table or --query-file")
    query: sql.SQL | sql.Composed
    if query_file:
        query, source = _read_query(query_file), query_file.name
    else:
        query, source = _select_table(table or ""), table or ""
    reader = MappedReader(Mapping.load(mapping) if mapping else Mapping())
    dsn = os.environ.get(DSN, "")
    if not dsn.strip():
        raise InputError(f"{DSN} is not set; export the connection string, as in postgresql://reader@db.shop/events")
    with _connect(dsn) as connection:
        try:
            yield from reader.with_notes(_read_rows(connection, query, source, reader, rows))
        except psycopg.Error as error:
            raise InputError(f"{source}: the database says: {_describe_error(error)}") from None


def _describe_error(error: psycopg.Error) -> str:
    """Describe an error by its kind, its SQLSTATE and the part of the message that cannot quote a cell."""
    code = error.sqlstate or ""
    kind = f"{type(error).__name__} (SQLSTATE {code})" if code else type(error).__name__
    # Errors raised by the shop's own functions, class P0, may hold values without quotes.
    text = "" if code.startswith("P0") else _QUOTES.split(error.diag.message_primary or "")[0].strip()
    return f"{kind}: {pii.redact_text(text)}" if text else kind


def _select_table(table: str) -> sql.Composed:
    parts = table.split(".")
    if not all(parts) or len(parts) > 2:
        raise InputError(f"--table {table!r} is no name of a table; write TABLE or SCHEMA.TABLE")
    return sql.SQL("SELECT * FROM {}").format(sql.Identifier(*parts))


def _read_query(file: Path) -> sql.SQL:
    try:
        text = file.read_text().strip().rstrip(";")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the query {file} cannot be read: {error}") from error
    if not text:
        raise InputError(f"the query {file} is empty; write one SELECT")
    return sql.SQL(text)


def _read_rows(
    connection: Connection, query: sql.SQL | sql.Composed, source: str, reader: MappedReader, rows: int
) -> Iterator[ParsedBatch]:
    connection.execute("SET LOCAL datestyle TO ISO")
    connection.execute("SET LOCAL timezone TO UTC")
    with connection.cursor(name="usual_ingest") as cursor:
        cursor.execute(query)
        names = [column.name for column in cursor.description or ()]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"{source} has columns of the same name, {', '.join(doubled)}; give them names with AS")
        numbers = [column.name for column in cursor.description or () if column.type_code in _NUMBERS]
        theirs = reader.match_columns(names, source, exact_numbers=numbers)
        schema = dict.fromkeys(names, pl.String())
        offset = 0
        while fetched := cursor.fetchmany(rows):
            yield reader.parse(pl.DataFrame(fetched, schema=schema, orient="row"), offset, theirs, source)
            offset += len(fetched)
    if not offset:
        yield NO_ROWS


def _connect(dsn: str) -> Connection:
    try:
        connection: Connection = psycopg.connect(dsn, connect_timeout=10, application_name="usual ingest")
    except psycopg.ProgrammingError:
        raise InputError(
            f"{DSN} is no connection string; write postgresql://USER@HOST:PORT/DATABASE or host=… dbname=…"
        ) from None
    except psycopg.Error as error:
        message = str(error).lower()
        why = next((reason for reason in _REASONS if reason in message), type(error).__name__)
        raise InputError(
            f"the database that {DSN} names does not let us in: {why}. Is it running, and are host, port, user, "
            "password and database right?"
        ) from None
    connection.read_only = True
    # Values come as the text PostgreSQL writes, so that a batch of nulls has the same type as the next.
    for kind in psycopg.postgres.types:
        for oid in filter(None, (kind.oid, kind.array_oid)):
            connection.adapters.register_loader(oid, TextLoader)
    return connection


SOURCE = Source(
    "postgres",
    f"a table or query of the PostgreSQL database that ${DSN} names",
    lambda _, options: read(options.table, options.query_file, options.mapping),
    {
        "mapping": MAPPING_HELP,
        "table": f"TABLE or SCHEMA.TABLE; the connection is ${DSN}.",
        "query_file": "file with one SELECT.",
    },
    reads_files=False,
)
