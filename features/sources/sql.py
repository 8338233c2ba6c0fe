"""Source `sql`: a table or a query of any SQL database, in the columns of the source `events`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from features.event_log.ingestion.ingest import ParsedBatch
from features.sources.parsing.mapping.mapping import MAPPING_HELP, Mapping
from features.sources.postgres import DSN
from features.sources.source import Source, SourceOptions


def read(_: Sequence[Path], options: SourceOptions) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of rows; see `sql_reader.read`."""
    # SQLAlchemy is loaded by those who read with it: a server has no use for it.
    from features.sources import sql_reader

    mapping = Mapping.load(options.mapping) if options.mapping else None
    return sql_reader.read(options.table, options.query_file, mapping, options.watermark, options.log)


SOURCE = Source(
    "sql",
    f"a table or query of the SQL database that ${DSN} names: MySQL, MariaDB, SQLite, SQL Server, …",
    read,
    {
        "mapping": MAPPING_HELP,
        "table": f"TABLE or SCHEMA.TABLE; the connection is ${DSN}.",
        "query_file": "file with one SELECT.",
        "watermark": "column that only grows; rows below its last value in the log are not read again.",
    },
    reads_files=False,
)
