"""Samples: the first rows of a file as a table, objects and one list of objects in it flattened."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.sources.inspection.words import score_name
from features.sources.parsing.cells import text_lists
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import readers
from features.sources.parsing.rows import nested
from features.sources.parsing.text_files.dialect import Dialect
from features.sources.parsing.text_files.json_lines import LINE

ROWS = 20_000
LINES = 3_000  # of JSON, each of which is an object to be walked
_DEPTH = 3


@dataclass(frozen=True)
class FileSample:
    """The first rows of a file.

    `table`: a column per key, that of nested objects with dots. `explode`: the list of which each entry became a row.
    `is_document`: the file is one JSON array or object, which has to be written as lines before it is read as events.
    """

    path: Path
    dialect: Dialect
    table: pl.DataFrame
    complete: bool
    explode: str | None = None
    is_document: bool = False
    lists: dict[str, list[str]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)  # of a document: its rows

    @property
    def columns(self) -> list[str]:
        return self.table.columns


def read_sample(path: Path) -> FileSample:
    """Read the first rows of `path`. Raises `InputError` where it is no table of any format, or has no rows."""
    dialect = readers.recognise(path)
    if dialect.format == "JSON lines":
        return _read_json(path, dialect)
    batches = readers.read_batches(path, ROWS)
    _, table = next(batches, (0, pl.DataFrame()))
    complete = next(batches, None) is None
    table = table.drop(c for c in readers.ADDED if c in table.columns)
    if table.is_empty():
        problem = f"{path} has a header and no rows; export it anew, with rows in it"
        raise ColumnsError(problem, readers.read_column_names(path))
    table, explode, lists = _explode(table)
    return FileSample(path, dialect, table, complete, explode, lists=lists)


def _explode(table: pl.DataFrame) -> tuple[pl.DataFrame, str | None, dict[str, list[str]]]:
    """Flatten objects, and the list that holds the items, where one does."""
    lists = {
        c: [f.name for f in t.inner.fields]
        for c, t in table.schema.items()
        if isinstance(t, pl.List) and isinstance(t.inner, pl.Struct)
    }
    texts = {c: keys for c, t in table.schema.items() if t == pl.String and (keys := _list_keys(table[c]))}
    explode = choose_list(lists | texts, [c for c in table.columns if c not in lists and c not in texts])
    if explode in texts:
        table = table.with_columns(text_lists.parse(table[explode], texts[explode]))
    flat = nested.flatten(table, explode)
    return flat.drop(nested.LINE_NUMBER, nested.NO_ENTRIES, strict=False), explode, lists | texts


def _list_keys(cells: pl.Series) -> list[str]:
    """The keys of lists of objects that are written as texts in `cells`; none where cells do not share two of them."""
    keys = [set(text_lists.find_keys([cell])) for cell in cells.drop_nulls().head(20)]
    shared = set.intersection(*keys) if keys else set()
    return text_lists.find_keys(cells.head(200)) if len(shared) > 1 else []


def choose_list(lists: dict[str, list[str]], columns: Iterable[str]) -> str | None:
    """The list whose entries name an item, unless a column outside does; None if there is none."""
    if any(score_name("item_id", c) >= 50 for c in columns):
        return None
    scores = {name: max((score_name("item_id", k) for k in keys), default=0) for name, keys in lists.items()}
    best = max(scores, key=lambda name: scores[name], default=None)
    return best if best is not None and scores[best] else None


def _read_json(path: Path, dialect: Dialect) -> FileSample:
    document = False
    try:
        lines = [line for block in islice(readers.read_lines(path), 1) for line in block]
        complete = len(lines) <= LINES and sum(1 for _ in islice(readers.read_lines(path), 2)) < 2
    except InputError:
        table = readers.read_catalog_table(path)  # an array of objects, or an object that holds one
        lines, document, complete = table[LINE].to_list(), True, table.height <= LINES
    objects = list(_parse(lines[:LINES]))
    if not document and len(lines) == 1 and objects and (rows := _find_rows(objects[0])):
        lines, objects, document = [json.dumps(row, ensure_ascii=False) for row in rows], rows[:LINES], True
    if not objects:
        raise InputError(f"{path} has no line that is a JSON object")
    lists = nested.find_lists(lines[:LINES])
    flat = [dict(_flatten(o)) for o in objects]
    explode = choose_list(lists, {key for row in flat for key in row if key not in lists})
    rows = [row for o, f in zip(objects, flat, strict=True) for row in _entries(o, f, explode)]
    names = list(dict.fromkeys(key for row in rows for key in row))
    table = pl.DataFrame({n: pl.Series([_text(row.get(n)) for row in rows], dtype=pl.String) for n in names})
    return FileSample(path, dialect, table, complete, explode, document, lists, lines if document else [])


def _find_rows(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a document on one line: the one list of objects in it, where nothing else is a row's."""
    roles = ("timestamp", "order_id", "customer_id", "item_id", "name")
    plain = [key for key, inner in value.items() if not isinstance(inner, list | dict)]
    lists = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]
    if len(lists) != 1 or any(score_name(role, key) >= 50 for role in roles for key in plain):
        return []
    return list(lists[0])


def _parse(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _flatten(value: dict[str, Any], path: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        name = f"{path}{key}"
        if isinstance(inner, dict) and inner and depth:
            yield from _flatten(inner, f"{name}.", depth - 1)
        else:
            yield name, inner


def _entries(value: dict[str, Any], flat: dict[str, Any], explode: str | None) -> Iterator[dict[str, Any]]:
    if explode is None:
        yield flat
        return
    entries: Any = value
    for key in explode.split("."):
        entries = entries.get(key) if isinstance(entries, dict) else None
    rest = {key: cell for key, cell in flat.items() if key != explode}
    objects = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    for entry in objects or [{}]:
        yield rest | {f"{explode}.{key}": cell for key, cell in _flatten(entry)}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value != value:
        return None
    return json.dumps(value, ensure_ascii=False)
