"""JSON lines as tables whose types are asked for, not guessed from the lines that happen to come first."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.sources.parsing import chunks

LINE = "_line"  # the line as written
UNPARSED = "_unparsed"  # the line where it is no JSON object, else null
HEAD = 1 << 20  # bytes in which the keys of a file are looked for before the rest is
BLOCK = 16 << 20  # bytes read at once; taken apart they are many times as large

Schema = dict[str, pl.DataType]


def blocks(path: Path) -> Iterator[list[str]]:
    """Lines of the file that are not blank, in order, some at a time."""
    first = True
    for block in chunks.blocks(path, quoted=False, size=BLOCK):
        lines = [line for line in block.decode().split("\n") if line and not line.isspace()]
        if first and lines and (lines[0].strip() == "[" or lines[0].lstrip().startswith("[{")):
            raise InputError(f"{path} is one JSON array; write one object per line (`jq -c '.[]'` does it)")
        first = first and not lines
        yield lines


def keys(path: Path, wanted: set[str] | None = None) -> list[str]:
    """The keys of the file's objects, in order of appearance.

    Reading ends once all of `wanted` were seen, but not within the first lines; None reads all.
    """
    found = dict[str, None]()
    for size in (HEAD, BLOCK):
        for block in chunks.blocks(path, quoted=False, size=size):
            for line in filter(str.strip, block.decode().split("\n")):
                found |= dict.fromkeys(_object(line) or ())
            if wanted is not None and wanted <= found.keys():
                return list(found)
            if size == HEAD:
                break
    return list(found)


def parse(lines: list[str], schema: Schema) -> pl.DataFrame:
    """One row per line with the columns of `schema`, `LINE` and `UNPARSED`.

    Leaves are strings, whatever JSON has there; a number is written the same way wherever it stands
    (7.0 is 7). What is no list or object where the schema has one is null.
    """
    written = pl.DataFrame({LINE: lines}, schema={LINE: pl.String()})
    try:
        rows = _read(lines, schema)
        if rows.height == len(lines):
            return rows.with_columns(written[LINE], pl.lit(None, pl.String).alias(UNPARSED))
    except pl.exceptions.PolarsError:
        pass
    objects = [_object(line) for line in lines]
    whole = pl.Struct(schema)
    rows = _read([json.dumps(_shaped(o or {}, whole)) for o in objects], schema)
    unparsed = pl.Series(
        UNPARSED, [line if o is None else None for line, o in zip(lines, objects, strict=True)], pl.String
    )
    return rows.with_columns(written[LINE], unparsed)


def _read(lines: list[str], schema: Schema) -> pl.DataFrame:
    if not lines or not schema:
        return pl.DataFrame({c: pl.Series([None] * len(lines), dtype=t) for c, t in schema.items()})
    return pl.read_ndjson(io.BytesIO("\n".join(lines).encode(errors="replace")), schema=schema)


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(
            line, parse_constant=_refuse, parse_float=_number, parse_int=_whole, object_pairs_hook=_first
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key written twice the first counts, as Polars has it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= dict(reversed(pairs))
    return found


def _number(text: str) -> float:
    value = float(text)
    return value if value - value == 0 else _refuse(text)


def _whole(text: str) -> int | str:
    """As text, as which an id is kept, where it is longer than the numbers that Polars reads, of 128 bits."""
    value = int(text)
    return value if -(2**127) <= value < 2**128 else str(value)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _shaped(value: Any, dtype: pl.DataType | Any) -> Any:
    """`value` with null wherever it is not of the shape of `dtype`."""
    if isinstance(dtype, pl.Struct):
        if not isinstance(value, dict):
            return None
        return {f.name: _shaped(value[f.name], f.dtype) for f in dtype.fields if f.name in value}
    if isinstance(dtype, pl.List):
        return [_shaped(v, dtype.inner) for v in value] if isinstance(value, list) else None
    return value
