"""Table readers: files of any format in batches of rows, with errors that name the fault.

Which format, container, encoding and delimiter a file has is recognised by its content (`dialect.recognise`); all
functions here take `encoding` and `delimiter` to say otherwise.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import fastexcel
import polars as pl

from features.common.errors import InputError
from features.sources.parsing.cells.characters import decode_bytes
from features.sources.parsing.cells.pii import redact_text
from features.sources.parsing.files import product_feed, workbook
from features.sources.parsing.files.workbook import SHEET as SHEET
from features.sources.parsing.files.workbook import TYPED as TYPED
from features.sources.parsing.text_files import chunks, containers, csv_rows, dialect, json_lines
from features.sources.parsing.text_files.csv_header import Header
from features.sources.parsing.text_files.csv_rows import RAGGED as RAGGED
from features.sources.parsing.text_files.csv_rows import REPEATED as REPEATED
from features.sources.parsing.text_files.csv_rows import UNCLOSED as UNCLOSED
from features.sources.parsing.text_files.dialect import FORMATS as FORMATS
from features.sources.parsing.text_files.dialect import Dialect
from features.sources.parsing.text_files.dialect import recognise as recognise
from features.sources.parsing.text_files.json_lines import LINE, UNPARSED

BATCH = 500_000  # rows

ADDED = (LINE, UNPARSED, TYPED, *csv_rows.ADDED)

_ITEM_KEYS = ("id", "itemid", "productid", "sku", "handle")  # of a product, and not of a document around products
_ERRORS = (*dialect.ERRORS, pl.exceptions.PolarsError, fastexcel.FastExcelError)


def read_table(path: Path, encoding: str | None = None, delimiter: str | None = None) -> pl.DataFrame:
    """Read all rows of `path` in file order.

    Parquet keeps its types; cells of CSV, JSON lines, XML and Excel are strings, so that one bad cell cannot
    stop the file. Sheets of a workbook follow one another. Raises `InputError` where the file is
    missing, unreadable, or of a format not in `FORMATS`.
    """
    parts = [frame for _, frame in read_batches(path, encoding=encoding, delimiter=delimiter)]
    if parts:
        return pl.concat(parts)
    return pl.DataFrame(
        schema=dict.fromkeys(read_column_names(path, encoding=encoding, delimiter=delimiter), pl.String())
    )


def read_batches(
    path: Path, rows: int = BATCH, keys: list[str] | None = None, encoding: str | None = None,
    delimiter: str | None = None,
) -> Iterator[tuple[int, pl.DataFrame]]:  # fmt: skip
    """Yield (number of its first row, batch) for batches of at most `rows` rows of `path`; errors as `read_table`.

    Every batch has the same columns and types. CSV has the columns `RAGGED`, `UNCLOSED` and `REPEATED` beside its own;
    JSON lines have `LINE` and `UNPARSED` and, where given, only the `keys`.
    """
    detected = recognise(path, encoding, delimiter)
    readers: dict[dialect.Format, Callable[[], Iterable[pl.DataFrame]]] = {
        "Parquet": lambda: _read_parquet(path, detected, rows),
        "CSV": lambda: _read_csv(path, detected, encoding),
        "JSON lines": lambda: _read_json_lines(path, keys, encoding),
        "Excel": lambda: [workbook.read(path).rows],
        "XML": lambda: product_feed.read_batches(path, encoding),
    }
    offset = 0
    try:
        for block in readers[detected.format]():
            for frame in block.iter_slices(rows):
                yield offset, frame
                offset += frame.height
    except _ERRORS as error:
        raise dialect.read_error(path, detected.format, error) from error


def read_column_names(
    path: Path, required: set[str] | None = None, encoding: str | None = None, delimiter: str | None = None
) -> list[str]:
    """Read the names of the columns of `path`; of JSON lines, keys up to where all of `required` have appeared."""
    detected = recognise(path, encoding, delimiter)
    try:
        if detected.format == "Parquet":
            return pl.scan_parquet(_parquet_source(path, detected), glob=False).collect_schema().names()
        if detected.format == "JSON lines":
            dialect.check_rows(path, encoding)
            return json_lines.read_keys(path, required, encoding)
        if detected.format == "XML":
            return product_feed.read_columns(path, encoding)
        if detected.format == "Excel":
            return [c for c in workbook.read(path).rows.columns if c != TYPED]
        return list(detected.columns)
    except _ERRORS as error:
        raise dialect.read_error(path, detected.format, error) from error


def read_notes(path: Path, detected: Dialect) -> tuple[str, ...]:
    """Say what was assumed in recognising `path` and its header; `found` is what `recognise` says."""
    if detected.format != "Excel":
        return detected.notes
    try:
        return tuple(f"{path.name}: {redact_text(note)}" for note in workbook.read(path).notes)
    except _ERRORS as error:
        raise dialect.read_error(path, detected.format, error) from error


def read_parquet_schema(path: Path) -> pl.Schema:
    """Read the names and types of a Parquet file's columns."""
    return pl.scan_parquet(_parquet_source(path, recognise(path)), glob=False).collect_schema()


def read_lines(path: Path, encoding: str | None = None) -> Iterator[list[str]]:
    """Yield the lines of a JSON lines file that are not blank, in lists; errors as for `read_table`."""
    if (kind := detect_format(path, encoding)) != "JSON lines":
        raise InputError(f"{path} is {kind}; this source reads JSON lines (.jsonl, .ndjson, .json, also with .gz)")
    dialect.check_rows(path, encoding)
    try:
        yield from json_lines.read_blocks(path, encoding)
    except _ERRORS as error:
        raise dialect.read_error(path, kind, error) from error


def read_catalog_table(path: Path, encoding: str | None = None, delimiter: str | None = None) -> pl.DataFrame:
    """As `read_table`, and JSON that is one array of objects, or one object that holds one (`{"products": […]}`)."""
    detected = recognise(path, encoding, delimiter)
    if detected.format != "JSON lines":
        return read_table(path, encoding, delimiter)
    try:
        dialect.check_rows(path, encoding)
        table = read_table(path, encoding)
        is_row = any(re.sub(r"[\s_]", "", c).lower() in _ITEM_KEYS for c in table.columns)
        if table.height != 1 or is_row or table[UNPARSED][0] is not None:
            return table
    except InputError:
        pass
    try:
        text = b"".join(chunks.read_blocks(path, encoding=encoding)).decode(errors="replace")
        return _parse_json_document(path, json.loads(text))
    except RecursionError as error:
        raise dialect.read_error(path, "JSON", ValueError("it is nested too deep")) from error
    except _ERRORS as error:
        raise dialect.read_error(path, "JSON", error) from error


def _parse_json_document(path: Path, document: object) -> pl.DataFrame:
    arrays: dict[str, object] = {"": document}
    if isinstance(document, dict):
        arrays = {key: v for key, v in document.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
        arrays = arrays or {"": [document]}
    if len(arrays) > 1:
        raise InputError(
            f"{path} has several arrays of objects: {', '.join(arrays)}; write the one with the products to a file of "
            f"its own (`jq -c '.{next(iter(arrays))}[]'` does it)"
        )
    (rows,) = arrays.values()
    if not isinstance(rows, list):
        raise InputError(f"{path} is JSON, but no array of objects and no object that holds one")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    keys = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    return json_lines.parse(lines, dict.fromkeys(keys, pl.String()))


def detect_format(path: Path, encoding: str | None = None, delimiter: str | None = None) -> dialect.Format:
    """The file's format, one of `FORMATS`; errors as `recognise`."""
    return recognise(path, encoding, delimiter).format


def _read_csv(path: Path, detected: Dialect, encoding: str | None) -> Iterator[pl.DataFrame]:
    header = cast(Header, detected.header)
    blocks = dialect.skip(chunks.read_blocks(path, encoding=encoding), header.end)
    yield from csv_rows.read_rows(blocks, header.names, header.cells, header.grammar)


def _read_json_lines(path: Path, keys: list[str] | None, encoding: str | None) -> Iterator[pl.DataFrame]:
    dialect.check_rows(path, encoding)
    keys = json_lines.read_keys(path, encoding=encoding) if keys is None else keys
    schema: json_lines.Schema = dict.fromkeys(keys, pl.String())
    for block in json_lines.read_blocks(path, encoding):
        yield json_lines.parse(block, schema)


def _parquet_source(path: Path, detected: Dialect) -> Path | io.BytesIO:
    return io.BytesIO(_unpack(path)) if detected.compression else path


def _unpack(path: Path) -> bytes:
    with containers.open_bytes(path) as (file, _):
        return file.read()


def _read_parquet(path: Path, detected: Dialect, rows: int) -> Iterator[pl.DataFrame]:
    scan = pl.scan_parquet(_parquet_source(path, detected), glob=False)
    yield from map(decode_bytes, scan.collect_batches(chunk_size=rows, maintain_order=True))
