"""SQL reader: a table or a query of any SQL database as batches of events; see `sql.py` for the source.

The address of the database is an SQLAlchemy URL in the environment variable `USUAL_SOURCE_DSN` and nowhere else: it
appears in no argument, message or log. MySQL and MariaDB, SQLite and PostgreSQL work as they are; others with their
SQLAlchemy dialect installed (SQL Server, Snowflake, BigQuery, …).

Reading is one transaction, read-only where the database knows such a thing, with rows streamed, so a table of any
size is read in bounded memory. With a watermark column only rows at or after the greatest value that the log has
seen are read; rows of that very value come again and count as duplicates.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.log import EventLog
from features.sources.parsing.cells import pii
from features.sources.parsing.cells.characters import decode
from features.sources.parsing.cells.column_lists import ColumnsError, suggest_column
from features.sources.parsing.events.mapped import NO_ROWS, MappedReader
from features.sources.parsing.mapping.mapping import Mapping
from features.sources.postgres import DSN

BATCH = 50_000  # rows; they come as objects, of which a row has one per column

# Drivers that are there without another installation.
_DRIVERS = {
    "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql", "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}  # fmt: skip
_EXAMPLES = "mysql://reader:…@db.shop/magento, sqlite:///shop.db, postgresql://reader:…@db.shop/shop"
_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")  # what SQLAlchemy takes for a parameter
# Where a server, in whatever language, may start to quote a value; an apostrophe inside a word does not.
_QUOTES = re.compile(r"[:：\"`«»‹›„“”‚‘(\[]|(?<!\w)['’]")
_REASONS = ("connection refused", "can't connect", "authentication failed", "access denied", "timeout", "timed out",
            "could not translate host name", "name or service not known", "unknown database", "does not exist",
            "no pg_hba.conf entry", "too many", "starting up", "ssl", "unable to open database file")  # fmt: skip
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.S)

_ON_CONNECT = {
    "mysql": (
        "SET SESSION TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION time_zone = '+00:00'",
        "SET SESSION net_write_timeout = 3600",  # the server waits while we write a batch to the log
    ),
    "sqlite": ("PRAGMA query_only = ON",),
}


def read(
    table: str | None = None,
    query_file: Path | None = None,
    mapping: Mapping | None = None,
    watermark: str | None = None,
    log: Path | None = None,
    rows: int = BATCH,
) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per `rows` rows. `table` may name its schema: shop.events.

    `watermark` names a column that only grows; `log` is the event log that knows its value so far. Raises `InputError`
    where the environment has no address, for a driver that is not installed, and for a database, table, query or column
    that does not exist.
    """
    if (table is None) == (query_file is None):
        raise InputError("the source `sql` reads one table or one query: give either --table or --query-file")
    select = _select_query(query_file) if query_file else _select_table(table or "")
    name = query_file.name if query_file else table or ""
    engine = _engine()
    reader = MappedReader(mapping or Mapping())
    mark = Watermark.of_log(watermark, name, log) if watermark else None
    try:
        with _connect(engine) as connection:
            yield from reader.with_notes(_read_rows(connection, select, name, reader, mark, rows))
    except sa.exc.DBAPIError as error:
        raise InputError(f"{name}: the database says: {_describe_error(error)}") from None
    finally:
        engine.dispose()


class Watermark:
    """The greatest value of a column that grows, as a log keeps it between two ingests."""

    def __init__(self, column: str, key: str, value: object = None) -> None:
        self.column, self.key, self.value = column, key, value

    @classmethod
    def of_log(cls, column: str, source: str, log: Path | None) -> "Watermark":
        """What the log at `log`, if there is one, has seen of `column` of `source`."""
        key = f"{source}/{column}"
        if log is None or not (log / "log.json").is_file():
            return cls(column, key)
        stored = EventLog.open(log).info.get("watermarks", {}).get(key)
        return cls(column, key, _decode(*stored) if stored else None)

    def advance(self, cells: Sequence[object]) -> None:
        """Take the greatest of `cells`. Raises `InputError` where they are of types that have no order."""
        values = [cell for cell in cells if cell is not None]
        try:
            self.value = max(values if self.value is None else [self.value, *values], default=None)  # type: ignore[type-var]
        except TypeError:
            raise InputError(
                f"--watermark {self.column}: its values are of several types and have no order; name a column of "
                "numbers or times"
            ) from None

    def as_json(self) -> dict[str, tuple[str, str]]:
        return {} if self.value is None else {self.key: _encode(self.value)}


def _encode(value: object) -> tuple[str, str]:
    if isinstance(value, datetime):
        return "datetime", value.isoformat()
    if isinstance(value, date):
        return "date", value.isoformat()
    if isinstance(value, int | Decimal | float):
        return ("integer" if isinstance(value, int) else "number"), str(value)
    return "text", str(value)


_DECODERS: dict[str, Callable[[str], object]] = {
    "datetime": datetime.fromisoformat, "date": date.fromisoformat, "integer": int, "number": Decimal, "text": str,
}  # fmt: skip


def _decode(kind: str, text: str) -> object:
    return _DECODERS[kind](text)


def _read_rows(
    connection: sa.Connection,
    select: sa.Select[Any],
    name: str,
    reader: MappedReader,
    mark: Watermark | None,
    rows: int,
) -> Iterator[ParsedBatch]:
    # The columns first: MySQL's driver reads a result to its end, however large, before it lets go of it.
    names = list(connection.execute(select.limit(0)).keys())
    if doubled := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"{name} has columns of the same name, {', '.join(doubled)}; give them names with AS")
    if mark and mark.column not in names:
        near = suggest_column(mark.column, names)
        raise ColumnsError(f"--watermark {mark.column}: {name} has no such column{near and f'; {near}'}", names)
    theirs = reader.match_columns(names, name)
    if mark and mark.value is not None:
        select = select.where(_column(mark.column) >= sa.literal(mark.value))
    result = connection.execution_options(yield_per=rows).execute(select)
    offset = 0
    for fetched in result.partitions():
        cells = list(zip(*fetched, strict=True))
        batch = pl.DataFrame([_to_series(n, values) for n, values in zip(names, cells, strict=True)])
        parsed = reader.parse(batch, offset, theirs, name)
        if mark:
            mark.advance(cells[names.index(mark.column)])
            parsed = replace(parsed, watermarks=mark.as_json())
        yield parsed
        offset += batch.height
    if not offset:
        yield NO_ROWS


def _to_series(name: str, values: Sequence[object]) -> pl.Series:
    """Convert a column of a driver's objects: whole numbers, fractions, or else texts."""
    types = {type(value) for value in values} - {type(None)}
    if types == {int}:
        try:
            return pl.Series(name, values, pl.Int64)
        except (OverflowError, pl.exceptions.PolarsError):
            pass  # an id beyond 64 bits: as text
    # SQLite keeps 20.0 as the integer 20: of a column of amounts some are whole.
    if types <= {int, float, Decimal} and types and any(_has_fraction(value) for value in values):
        return pl.Series(name, [None if v is None else float(v) for v in values], pl.Float64)  # type: ignore[arg-type]
    return pl.Series(name, [v if v is None or type(v) is str else _to_text(v) for v in values], pl.String)


def _has_fraction(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, Decimal) and value.as_tuple().exponent != 0)


def _to_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes | bytearray | memoryview):
        return decode(bytes(value))
    return str(value)


def _column(name: str) -> sa.ColumnClause[Any]:
    return sa.column(sa.quoted_name(name, quote=True))


def _select_table(table: str) -> sa.Select[Any]:
    parts = table.split(".")
    if not all(parts) or len(parts) > 2:
        raise InputError(f"--table {table!r} is no name of a table; write TABLE or SCHEMA.TABLE")
    *schema, name = (sa.quoted_name(part, quote=True) for part in parts)
    return sa.select(sa.text("*")).select_from(sa.table(name, schema=schema[0] if schema else None))


def _select_query(file: Path) -> sa.Select[Any]:
    try:
        query = file.read_text().strip().rstrip(";")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the query {file} cannot be read: {error}") from error
    plain = _COMMENTS.sub(" ", query).strip()
    if not re.match(r"(?i)(select|with)\b", plain):
        raise InputError(f"the query {file} is {'empty' if not plain else 'no SELECT'}; write one SELECT")
    # A line of its own for what follows: the query may end in a comment.
    text = _PARAMETER.sub(r"\\:", f"(\n{query}\n) usual_rows")
    return sa.select(sa.text("*")).select_from(sa.text(text))


def _engine() -> sa.Engine:
    dsn = os.environ.get(DSN, "").strip()
    if not dsn:
        raise InputError(f"{DSN} is not set; export the address of the database, as in {_EXAMPLES}")
    try:
        url = sa.make_url(dsn)
    except (sa.exc.ArgumentError, ValueError):
        raise InputError(f"{DSN} is no address of a database; write one like {_EXAMPLES}") from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise InputError(
            f"the SQLite file that {DSN} names does not exist; sqlite:///shop.db is relative, four / absolute"
        )
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError, sa.exc.ArgumentError):
        raise InputError(
            f"no driver is installed for {url.drivername}; install its SQLAlchemy dialect, for instance "
            "`pip install pymssql` for mssql+pymssql://"
        ) from None

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for statement in _ON_CONNECT.get(engine.dialect.name, ()):
            cursor.execute(statement)
        cursor.close()

    return engine


def _connect(engine: sa.Engine) -> sa.Connection:
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    try:
        return engine.connect()
    except sa.exc.DBAPIError as error:
        message = str(error.orig).lower()
        why = next((reason for reason in _REASONS if reason in message), _describe_error(error))
        raise InputError(
            f"the database that {DSN} names does not let us in: {why}. Is it running, and are host, port, user, "
            "password and database right?"
        ) from None


def _describe_error(error: sa.exc.DBAPIError) -> str:
    """Describe an error by its kind, its code and the part of the message that cannot quote a cell or an address."""
    cause = error.orig if error.orig is not None else error
    args = [str(arg) for arg in cause.args]
    code = next((arg for arg in args if arg.isdigit()), "") or str(getattr(cause, "sqlstate", None) or "")
    lines = _QUOTES.split(next((arg for arg in args if not arg.isdigit()), ""))[0].strip().splitlines()
    kind = f"{type(cause).__name__} ({code})" if code else type(cause).__name__
    return f"{kind}: {pii.redact_text(lines[0])}" if lines else kind
