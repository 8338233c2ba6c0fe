"""Nested tables: keys of objects as columns with dotted names, and lists of objects as one row per entry."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from features.sources.parsing.cells.characters import decode_bytes
from features.sources.parsing.files.workbook import TYPED
from features.sources.parsing.text_files import json_lines

LINE_NUMBER = "_line_number"  # in an exploded table: the row that the entry lies in
NO_ENTRIES = "_no_entries"  # in an exploded table: whether the row had no list, or an empty one
_DEPTH = 3


def json_schema(paths: Iterable[str], explode: str | None, plain: Collection[str] = ()) -> json_lines.Schema:
    """The schema that reads `paths`, and the list `explode` as a list of objects, with texts as leaves.

    Those in `plain` are keys of their own although they may have dots.
    """
    tree: dict[str, Any] = {}
    for path in [*paths, *([explode] if explode else [])]:
        node = tree
        for key in [path] if path in plain else path.split("."):
            node = node.setdefault(key, {})
    return {key: _to_dtype(children, key, explode) for key, children in tree.items()}


def _to_dtype(children: dict[str, Any], path: str, explode: str | None) -> pl.DataType:
    if not children:
        return pl.List(pl.String()) if path == explode else pl.String()
    fields = pl.Struct({key: _to_dtype(inner, f"{path}.{key}", explode) for key, inner in children.items()})
    return pl.List(fields) if path == explode else fields


def flatten(rows: pl.DataFrame, explode: str | None = None) -> pl.DataFrame:
    """Turn objects into columns with dotted names and, with `explode`, each entry of that list into a row.

    An exploded table has the columns `LINE_NUMBER` and `NO_ENTRIES`; a row without entries stays one row.
    """
    if explode is None:
        return decode_bytes(_unnest(rows))
    rows = _unnest(rows, keep=explode).with_row_index(LINE_NUMBER)
    entries = pl.col(explode)
    if not isinstance(rows.schema[explode], pl.List):
        return rows.with_columns(pl.lit(True).alias(NO_ENTRIES))
    rows = rows.with_columns((entries.is_null() | (entries.list.len() == 0)).alias(NO_ENTRIES))
    return decode_bytes(_unnest(rows.explode(explode, empty_as_null=True, keep_nulls=True)))


def _unnest(rows: pl.DataFrame, keep: str | None = None) -> pl.DataFrame:
    while structs := [c for c, t in rows.schema.items() if isinstance(t, pl.Struct) and c not in (keep, TYPED)]:
        fields = {c: rows.schema[c].fields for c in structs}  # type: ignore[attr-defined]
        columns: list[pl.Expr] = []
        for column in rows.columns:
            if column in fields:
                columns += [pl.col(column).struct.field(f.name).alias(f"{column}.{f.name}") for f in fields[column]]
            else:
                columns.append(pl.col(column))
        rows = rows.select(columns)
    return rows


def column_names(schema: Iterable[tuple[str, Any]]) -> list[str]:
    """The columns of a Parquet schema with those inside objects and lists of objects, as dotted names."""
    names = list[str]()
    for name, dtype in schema:
        names.append(name)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if isinstance(inner, pl.Struct):
            names += [f"{name}.{field}" for field in column_names((f.name, f.dtype) for f in inner.fields)]
    return names


def find_lists(lines: Iterable[str]) -> dict[str, list[str]]:
    """Lists of objects in `lines` of JSON: dotted name → keys of their entries."""
    lists: dict[str, dict[str, None]] = {}
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        for name, keys in _walk(value, (), _DEPTH):
            lists.setdefault(name, {}).update(dict.fromkeys(keys))
    return {name: list(keys) for name, keys in lists.items()}


def _walk(value: object, path: Sequence[str], depth: int) -> Iterator[tuple[str, list[str]]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield from _walk(inner, (*path, str(key)), depth - 1)
    elif isinstance(value, list) and path:
        keys = [key for entry in value[:5] if isinstance(entry, dict) for key in entry]
        if keys:
            yield ".".join(path), keys
