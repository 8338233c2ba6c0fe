"""Source `events`: files of events of any format, one row per event × item.

Columns are those of the event log; a mapping (YAML) or a preset names the shop's columns for them and says what else
its export needs:

    columns: {timestamp: time, customer_id: user}   # ours: theirs
    constants: {name: purchase, currency: EUR}      # the same in every row
    names: {order: purchase, view: view_item}       # theirs: ours
    timezone: Europe/Berlin                         # of times without an offset; default UTC
    catalog: products.csv                           # beside the mapping
    email: mail                                     # their column; only a salted hash is kept

`parsing/mapping.py` has every key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA
from features.sources.parsing.catalog.catalog_file import ShopCatalog
from features.sources.parsing.events.mapped import NO_ROWS, MappedReader
from features.sources.parsing.events.table_files import (
    FileSet,
    TableFile,
    describe_joins,
    describe_lists,
    read_joined,
    sort_files,
)
from features.sources.parsing.files import readers
from features.sources.parsing.mapping.mapping import MAPPING_HELP, Mapping
from features.sources.parsing.mapping.matching import MatchedTable
from features.sources.parsing.rows.fill_and_join import JoinedTable
from features.sources.parsing.text_files import chunks
from features.sources.source import Source


def read(
    paths: Sequence[Path], mapping: Path | Mapping | None = None, rows: int = readers.BATCH
) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` rows.

    Raises `InputError` for an unreadable file, mapping or catalog, for required columns that are missing, and for
    e-mail addresses or payment tokens without a salt to hash them with.
    """
    whole = Mapping.load(mapping) if isinstance(mapping, Path) else mapping or Mapping()
    required = MappedReader.name_required(whole)
    files = sort_files(paths, whole, required)
    catalog = _read_catalogs(whole, files)
    if not files.events:
        yield _catalog_alone(catalog, files)
        return
    parts: dict[int, _Part] = {}
    for number, (part, file) in enumerate(files.events):
        parts.setdefault(id(part), _Part(part, files, catalog)).add(number, file)
    yield from _read_parts(list(parts.values()), rows)
    if catalog is not None and catalog.rows:  # there was no row of events that it could come with
        yield _catalog_alone(catalog, files)


class _Part:
    """The files that one part of a mapping reads."""

    def __init__(self, mapping: Mapping, files: FileSet, catalog: ShopCatalog | None) -> None:
        self.files: list[tuple[TableFile, MatchedTable]] = []
        self._others = [file for _, file in files.events] + [file for _, file in files.headers]
        self.reader = MappedReader(mapping, self._scan, _read_joins(mapping, files), catalog)
        for join, header in files.headers:
            if join in mapping.join:
                self.reader.notes.texts |= dict.fromkeys(header.notes)
                self._note_guess(header.path)

    def add(self, number: int, file: TableFile) -> None:
        hint = describe_lists(file) + describe_joins(file, self._others)
        table = self.reader.match_columns(
            file.names, str(file.path), number, nested=file.is_nested, rare=file.format == "JSON lines", hint=hint
        )
        self.reader.notes.texts |= dict.fromkeys(file.notes)
        if lists := describe_lists(file):
            self.reader.notes.texts[f"{file.path.name}: not read are its lists{lists}"] = None
        self.files.append((file, table))

    def read(self, rows: int) -> Iterator[ParsedBatch]:
        for file, table in self.files:
            # Joined rows depend on other files too, so none of these can be taken back alone.
            alone = None if self.reader.mapping.join else file.path
            parsed = (
                replace(self.reader.parse(b, offset, table, file.path.name), file=alone)
                for offset, b in file.read(rows, table)
            )
            yield next(parsed, NO_ROWS)
            yield from parsed
            self._note_guess(file.path)

    def _note_guess(self, path: Path) -> None:
        if guess := chunks.describe_guess(path):
            self.reader.notes.texts[guess] = None

    def _scan(self) -> Iterator[dict[str, pl.Series]]:
        for file, table in self.files:
            for _, batch in file.read(readers.BATCH, table):
                yield self.reader.read_formats(batch, table)


def _read_parts(parts: Sequence[_Part], rows: int) -> Iterator[ParsedBatch]:
    for part in parts:
        yield from part.reader.with_notes(part.read(rows))


def _read_joins(mapping: Mapping, files: FileSet) -> list[JoinedTable]:
    joined = []
    for join in mapping.join:
        if join.file is not None:
            tables = [TableFile(join.file, mapping)]
        else:
            tables = [file for header, file in files.headers if header == join]
        if not tables:
            raise InputError(
                f"none of the files has the columns {', '.join(join.has)} of the mapping's join; name that file too"
            )
        joined.append(JoinedTable.concat([read_joined(join, file, join.on) for file in tables]))
    return joined


def _read_catalogs(mapping: Mapping, files: FileSet) -> ShopCatalog | None:
    named = [(part.catalog, part.catalog.file) for part in mapping.parts if part.catalog is not None]
    if not named and not files.catalogs:
        return None
    catalog = ShopCatalog()
    for products, path in [*named, *files.catalogs]:
        catalog.add(products, path)
    return catalog


def _catalog_alone(catalog: ShopCatalog | None, files: FileSet) -> ParsedBatch:
    if catalog is None:
        names = ", ".join(file.path.name for _, file in files.headers)
        raise InputError(f"{names} is only joined to other files; name those with the events too")
    rows, rejected = catalog.take()
    return ParsedBatch(
        rejected.height, pl.DataFrame(schema=EVENT_SCHEMA), rejected, catalog=rows, notes=tuple(catalog.notes)
    )


SOURCE = Source(
    "events",
    "files of events in the log's columns or, with a mapping, in your own",
    lambda paths, options: read(paths, options.mapping),
    {"mapping": MAPPING_HELP},
)
