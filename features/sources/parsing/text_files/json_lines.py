"""JSON lines as tables of a stated schema, so that types do not depend on the lines that happen to come first."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from features.sources.parsing.text_files import chunks

LINE = "_line"  # the line as written
UNPARSED = "_unparsed"  # the line where it is no JSON object, else null
HEAD = 1 << 20  # bytes at the start of a file that are searched for keys before the rest is
BLOCK = 16 << 20  # bytes read at once; parsed they are many times as large

Schema = dict[str, pl.DataType]


def read_blocks(path: Path, encoding: str | None = None) -> Iterator[list[str]]:
    """Yield the lines of the file that are not blank, in order, in lists of a block each."""
    for block in chunks.read_blocks(path, BLOCK, encoding):
        yield [line for line in block.decode().split("\n") if line and not line.isspace()]


def read_keys(path: Path, required: set[str] | None = None, encoding: str | None = None) -> list[str]:
    """Read the keys of the file's objects, in order of appearance.

    Reading ends once all of `required` have appeared, but not within the first `HEAD` bytes; None reads all.
    """
    keys = dict[str, None]()
    for size in (HEAD, BLOCK):
        for block in chunks.read_blocks(path, size, encoding):
            for line in filter(str.strip, block.decode().split("\n")):
                keys |= dict.fromkeys(_parse_object(line) or ())
            if required is not None and required <= keys.keys():
                return list(keys)
            if size == HEAD:
                break
    return list(keys)


def parse(lines: list[str], schema: Schema) -> pl.DataFrame:
    """Parse each line into a row with the columns of `schema`, `LINE` and `UNPARSED`.

    Leaves are strings, whatever type JSON has there; a number is written the same way in every line
    (7.0 is 7). A value that is no list or object where the schema has one is null, and so are NaN and Infinity, which
    some programs write though JSON has no such numbers.
    """
    originals = pl.DataFrame({LINE: lines}, schema={LINE: pl.String()})
    for attempt in (lambda: lines, lambda: [_without_constants(line) for line in lines]):
        try:
            rows = _parse_block(attempt(), schema)
            if rows.height == len(lines):
                return rows.with_columns(originals[LINE], pl.lit(None, pl.String).alias(UNPARSED))
        except pl.exceptions.PolarsError:
            pass
    objects = [_parse_object(line) for line in lines]
    whole = pl.Struct(schema)
    rows = _parse_block([json.dumps(_fit_to_dtype(o or {}, whole)) for o in objects], schema)
    unparsed = pl.Series(
        UNPARSED, [line if o is None else None for line, o in zip(lines, objects, strict=True)], pl.String
    )
    return rows.with_columns(originals[LINE], unparsed)


def _parse_block(lines: list[str], schema: Schema) -> pl.DataFrame:
    if not lines or not schema:
        return pl.DataFrame({c: pl.Series([None] * len(lines), dtype=t) for c, t in schema.items()})
    return pl.read_ndjson(io.BytesIO("\n".join(lines).encode(errors="replace")), schema=schema)


def _parse_object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(
            line, parse_constant=_nothing, parse_float=_parse_float, parse_int=_parse_int, object_pairs_hook=_keep_first
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key originals twice the first counts, as in Polars."""
    items = dict(pairs)
    if len(items) < len(pairs):
        items |= dict(reversed(pairs))
    return items


def _without_constants(line: str) -> str:
    """The line with null for NaN and Infinity."""
    if "NaN" not in line and "Infinity" not in line:
        return line
    value = _parse_object(line)
    return line if value is None else json.dumps(value)


def _parse_float(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"{text} is beyond all numbers")
    return value


def _parse_int(text: str) -> int | str:
    """Keep a number beyond Polars' 128 bits as text: it is an id."""
    value = int(text)
    return value if -(2**127) <= value < 2**128 else str(value)


def _nothing(constant: str) -> None:
    """What NaN, Infinity and -Infinity say: nothing."""


def _fit_to_dtype(value: Any, dtype: pl.DataType | Any) -> Any:
    """`value` with null wherever it is not of the shape of `dtype`."""
    if isinstance(dtype, pl.Struct):
        if not isinstance(value, dict):
            return None
        return {f.name: _fit_to_dtype(value[f.name], f.dtype) for f in dtype.fields if f.name in value}
    if isinstance(dtype, pl.List):
        return [_fit_to_dtype(v, dtype.inner) for v in value] if isinstance(value, list) else None
    return value
