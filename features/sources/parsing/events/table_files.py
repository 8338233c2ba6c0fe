"""Table files: the files of a command as tables, sorted into those of events, of catalogs, and joined ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.sources.parsing.cells import text_lists
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import readers
from features.sources.parsing.mapping import conditions
from features.sources.parsing.mapping.column_names import ColumnNames
from features.sources.parsing.mapping.mapping import CatalogMapping, Join, Mapping
from features.sources.parsing.mapping.matching import MatchedTable
from features.sources.parsing.mapping.reading_notes import is_telling
from features.sources.parsing.rows import nested
from features.sources.parsing.rows.fill_and_join import JoinedTable
from features.sources.parsing.text_files import json_lines

_SAMPLE = 200  # lines of JSON that are searched for lists


class TableFile:
    """A file, its format and its columns; `mapping` says how it is written."""

    def __init__(self, path: Path, mapping: Mapping | CatalogMapping, required: set[str] | None = None) -> None:
        self.path, self.mapping = path, mapping
        encoding, delimiter = mapping.encoding, mapping.delimiter
        detected = readers.recognise(path, encoding, delimiter)
        self.format = detected.format
        self.notes = readers.read_notes(path, detected)
        heads = None if required is None else {name.split(".")[0] for name in required}
        self.names = readers.read_column_names(path, heads, encoding, delimiter)
        self.lists: dict[str, list[str]] = {}
        if self.format == "JSON lines":
            lines = (line for block in readers.read_lines(path, encoding) for line in block)
            self.lists = nested.find_lists(islice(lines, _SAMPLE))
            if mapping.explode:
                self._check_explode(mapping.explode)
                self.names += [f"{mapping.explode}.{key}" for key in self.lists.get(mapping.explode, [])]
        elif mapping.explode in self.names and self.format != "Parquet":
            _, head = next(self._read_plain(_SAMPLE), (0, pl.DataFrame({mapping.explode: []})))
            self.lists = {mapping.explode: text_lists.find_keys(head[mapping.explode])}
            self.names += [f"{mapping.explode}.{key}" for key in self.lists[mapping.explode]]
        elif self.format == "Parquet":
            schema = readers.read_parquet_schema(path)
            self.names = nested.column_names(schema.items())
            lists = {c: t.inner for c, t in schema.items() if isinstance(t, pl.List)}
            self.lists = {c: [f.name for f in t.fields] for c, t in lists.items() if isinstance(t, pl.Struct)}
            if mapping.explode:
                self._check_explode(mapping.explode)

    def _check_explode(self, path: str) -> None:
        """Raise `InputError` where the list at `path` lies within another list."""
        keys = path.split(".")
        outer = [".".join(keys[:n]) for n in range(1, len(keys)) if ".".join(keys[:n]) in self.lists]
        if outer:
            inner = path.removeprefix(f"{outer[0]}.")
            raise InputError(
                f"{self.path}: {path} lies within the list {outer[0]}, and one list can be exploded. Write one line "
                f"per entry of {outer[0]} first, as `jq -c '. as $o | .{outer[0]}[] | {{o: ($o | del(.{outer[0]})), "
                f"e: .}}'` does; then `explode: e.{inner}`, and the other columns are o.NAME and e.NAME"
            )

    @property
    def is_nested(self) -> bool:
        return self.format in ("JSON lines", "Parquet")

    @property
    def columns(self) -> ColumnNames:
        return ColumnNames(self.names, self.is_nested)

    def read(self, rows: int, table: MatchedTable) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (number of its first row, batch) with the columns that `table` uses, nested ones by their paths."""
        explode = table.explode
        if self.format == "JSON lines":
            yield from self._read_json(rows, table)
        elif self.format == "Parquet" and (explode or any(c.count(".") for c in table.used)):
            for offset, batch in self._read_plain(rows):
                yield offset, nested.flatten(batch, explode)
        elif explode:
            for offset, batch in self._read_plain(rows):
                lists = text_lists.parse(batch[explode], self.lists[explode])
                yield offset, nested.flatten(batch.with_columns(lists), explode)
        else:
            yield from self._read_plain(rows)

    def _read_plain(self, rows: int, keys: list[str] | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
        mapping = self.mapping
        return readers.read_batches(self.path, rows, keys, mapping.encoding, mapping.delimiter)

    def _read_json(self, rows: int, table: MatchedTable) -> Iterator[tuple[int, pl.DataFrame]]:
        plain = {name for name in self.names if "." not in name or name.split(".")[0] not in self.names}
        telling = [c for c in self.names if c in plain and c not in self.lists and is_telling(c)]
        paths = list(dict.fromkeys([*table.used, *telling]))
        if not table.explode and not any("." in c and c not in plain for c in paths):
            yield from self._read_plain(rows, paths)
            return
        schema = nested.json_schema(paths, table.explode, plain)
        offset = 0
        for block in readers.read_lines(self.path, self.mapping.encoding):
            for start in range(0, len(block), rows):
                lines = block[start : start + rows]
                yield offset, nested.flatten(json_lines.parse(lines, schema), table.explode)
                offset += len(lines)


@dataclass
class FileSet:
    """The files of a command by what they are."""

    events: list[tuple[Mapping, TableFile]] = field(default_factory=list)
    catalogs: list[tuple[CatalogMapping, Path]] = field(default_factory=list)
    headers: list[tuple[Join, TableFile]] = field(default_factory=list)


def sort_files(paths: Sequence[Path], mapping: Mapping, required: set[str] | None) -> FileSet:
    """Sort `paths` by the columns that the mapping's parts, joins and catalogs say they have."""
    file_set = FileSet()
    parts = mapping.files or [mapping]
    joins = [join for part in (mapping, *mapping.files) for join in part.join if join.has]
    items = [part.items for part in (mapping, *mapping.files) if part.items is not None]
    for path in paths:
        file = TableFile(path, mapping, None if mapping.files else required)
        columns = file.columns
        join = next((join for join in joins if columns.has_all(join.has)), None)
        if join is not None:
            file_set.headers.append((join, file))
            continue
        part = next((p for p in mapping.files if columns.has_all(p.has)), None)
        catalog = part.items if part is not None else next((i for i in items if _fits(i, columns)), None)
        if catalog is not None:
            file_set.catalogs.append((_inherit(catalog, part or mapping), path))
        elif part is not None or not mapping.files:
            part = part or mapping
            file_set.events.append((part, file if part is mapping else TableFile(path, part, None)))
        else:
            kinds = " or ".join(f"({', '.join(p.has)})" for p in parts)
            problem = f"{path} is none of the files that the mapping reads, which have the columns {kinds}"
            raise ColumnsError(problem, columns.names)
    return file_set


def _fits(items: CatalogMapping, columns: ColumnNames) -> bool:
    named = [
        *items.has,
        *conditions.name_columns(items.where),
        *(c for e in items.columns.values() for c in e.columns[:1]),
    ]
    return columns.has_all(items.has) if items.has else bool(named) and columns.has_all(named)


def _inherit(catalog: CatalogMapping, mapping: Mapping) -> CatalogMapping:
    """Settings of the mapping around a catalog, where the catalog has none of its own."""
    settings = ("encoding", "delimiter", "decimal", "dates", "timezone", "currency", "rates")
    missing = {s: getattr(mapping, s) for s in settings if s not in catalog.model_fields_set}
    return catalog.model_copy(update=missing)


def read_joined(join: Join, file: TableFile, on: Sequence[str]) -> JoinedTable:
    """Read a table that is joined to others."""
    mapping = file.mapping
    table = readers.read_table(file.path, mapping.encoding, mapping.delimiter)
    table = table.drop(c for c in readers.ADDED if c in table.columns)
    return JoinedTable(nested.flatten(table), on, file.path.name)


def describe_lists(file: TableFile) -> str:
    """Say how lists of objects in a file are read, that it does not as the mapping is; empty if it has none."""
    return "".join(
        f". {name} holds lists of objects with {', '.join(keys)}: `explode: {name}` makes each a row, with columns "
        f"such as {name}.{keys[0]}"
        for name, keys in file.lists.items()
        if file.mapping.explode != name
    )


def describe_joins(file: TableFile, others: Sequence[TableFile]) -> str:
    """Say how other files of the command could be joined; empty if none shares a column."""
    for other in others:
        shared = [c for c in file.names if c in other.names]
        more = [c for c in other.names if c not in file.names]
        if other is not file and shared and more:
            return (
                f". It shares {shared[0]} with {other.path.name}: `join: {{has: [{shared[0]}, {more[0]}], on: "
                f"{shared[0]}}}` in a mapping adds that file's columns ({', '.join(more[:6])}) to each row; what is in "
                "neither has to come from `constants`, or from a file with dates and customers"
            )
    return ""
