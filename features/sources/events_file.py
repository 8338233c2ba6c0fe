"""Source `events`: files of events as Parquet, CSV, JSON lines or xlsx, one row per event × item.

Columns are those of the event log; a mapping (YAML) names the shop's columns for them:

    columns: {timestamp: time, customer_id: user}   # ours: theirs
    constants: {name: purchase, currency: EUR}      # the same in every row
    names: {order: purchase, view: view_item}       # theirs: ours
    timezone: Europe/Berlin                         # of times without an offset; default UTC
    catalog: products.csv                           # beside the mapping; columns of the catalog
    email: mail                                     # their column; only a salted hash is kept
    payment_token: card_fingerprint                 # likewise
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from features.event_log.ingest import ParsedBatch
from features.sources.parsing import readers
from features.sources.parsing.mapped import NO_ROWS, MappedReader
from features.sources.parsing.mapping import MAPPING_HELP, Mapping
from features.sources.source import Source


def read(paths: Sequence[Path], mapping: Path | None = None, rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` rows.

    Raises `InputError` for an unreadable file, mapping or catalog, for required columns that are missing, and for
    e-mail addresses or payment tokens without a salt to hash them with.
    """
    reader = MappedReader(Mapping.load(mapping) if mapping else Mapping())
    for path in paths:
        theirs = reader.match_columns(readers.read_column_names(path, reader.required_columns), str(path))
        if readers.detect_format(path) == "JSON lines":
            theirs = reader.add_rare_columns(theirs)
        keys = sorted({*theirs.values(), *reader.secrets.values()})
        batches = readers.read_batches(path, rows, keys)
        parsed = (reader.parse(batch, offset, theirs, path.name) for offset, batch in batches)
        yield next(parsed, NO_ROWS)
        yield from parsed


SOURCE = Source(
    "events",
    "files of events in the log's columns or, with a mapping, in your own",
    lambda paths, options: read(paths, options.mapping),
    {"mapping": MAPPING_HELP},
)
