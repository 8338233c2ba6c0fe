"""Files that hold events already: Parquet, CSV, JSON lines or xlsx, one row per event × item.

Columns are those of the event log; a mapping (YAML) says which of the shop's columns they are:

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

from features.event_log.ingest import Parsed
from features.sources.parsing import readers
from features.sources.parsing.mapped import NOTHING, Reader
from features.sources.parsing.mapping import Mapping


def read(paths: Sequence[Path], mapping: Path | None = None, rows: int = readers.BATCH) -> Iterator[Parsed]:
    """One `Parsed` per batch of at most `rows` rows. Raises `InputError` for an unreadable file, mapping or
    catalog, for required columns that are missing, and for addresses or tokens without a salt.
    """
    reader = Reader(Mapping.load(mapping) if mapping else Mapping())
    for path in paths:
        theirs = reader.columns(readers.columns(path, reader.needed), str(path))
        if readers.kind_of(path) == "JSON lines":
            theirs = reader.with_rare(theirs)
        keys = sorted({*theirs.values(), *reader.secrets.values()})
        parsed = (reader.parse(batch, offset, theirs, path.name) for offset, batch in readers.batches(path, rows, keys))
        yield next(parsed, NOTHING)
        yield from parsed
