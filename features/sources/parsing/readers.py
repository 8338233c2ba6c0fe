"""Table readers: Parquet, CSV, JSON lines and Excel files in batches of rows, with errors that name the fault."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import fastexcel
import polars as pl

from features.common.errors import InputError
from features.sources.parsing import chunks, json_lines
from features.sources.parsing.json_lines import LINE, UNPARSED
from features.sources.parsing.pii import redact_text

SHEET = "Sheet"  # the column added to a workbook of several sheets
RAGGED = "_ragged"  # added to CSV: cells beyond the header's, null in a row that has none
BATCH = 500_000  # rows

ADDED = (LINE, UNPARSED, RAGGED)

FORMATS = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".csv.gz": "CSV",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON lines",
    ".jsonl.gz": "JSON lines",
    ".ndjson.gz": "JSON lines",
    ".json.gz": "JSON lines",
    ".xlsx": "Excel",
}
_ERRORS = (pl.exceptions.PolarsError, fastexcel.FastExcelError, OSError, EOFError, ValueError, csv.Error)


def read_table(path: Path) -> pl.DataFrame:
    """Read all rows of `path` in file order.

    Parquet keeps its types; cells of CSV, JSON lines and Excel are strings, so that one bad cell cannot
    stop the file. Sheets of a workbook follow one another. Raises `InputError` where the file is
    missing, unreadable, or of a format not in `FORMATS`.
    """
    parts = [frame for _, frame in read_batches(path)]
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(read_column_names(path), pl.String()))


def read_batches(path: Path, rows: int = BATCH, keys: list[str] | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (number of its first row, batch) for batches of at most `rows` rows of `path`; errors as `read_table`.

    Every batch has the same columns and types. CSV has the column `RAGGED` beside its own; JSON lines have
    `LINE` and `UNPARSED` and, where given, only the `keys`.
    """
    kind = detect_format(path)
    readers: dict[str, Callable[[], Iterable[pl.DataFrame]]] = {
        "Parquet": lambda: pl.scan_parquet(path, glob=False).collect_batches(chunk_size=rows, maintain_order=True),
        "CSV": lambda: _read_csv(path),
        "JSON lines": lambda: _read_json_lines(path, json_lines.read_keys(path) if keys is None else keys),
        "Excel": lambda: [_read_excel(path)],
    }
    offset = 0
    try:
        for block in readers[kind]():
            for frame in block.iter_slices(rows):
                yield offset, frame
                offset += frame.height
    except _ERRORS as error:
        raise _read_error(path, kind, error) from error


def read_column_names(path: Path, required: set[str] | None = None) -> list[str]:
    """Read the names of the columns of `path`; of JSON lines, keys up to where all of `required` have appeared."""
    kind = detect_format(path)
    try:
        if kind == "Parquet":
            return pl.scan_parquet(path, glob=False).collect_schema().names()
        if kind == "CSV":
            return _parse_header(next(chunks.read_blocks(path, quoted=True, size=1 << 20), b""))[0]
        return json_lines.read_keys(path, required) if kind == "JSON lines" else _read_excel(path).columns
    except _ERRORS as error:
        raise _read_error(path, kind, error) from error


def read_lines(path: Path) -> Iterator[list[str]]:
    """Yield the lines of a JSON lines file that are not blank, in lists; errors as for `read_table`."""
    if (kind := detect_format(path)) != "JSON lines":
        raise InputError(f"{path} is {kind}; this source reads JSON lines (.jsonl, .ndjson, .json, also with .gz)")
    try:
        yield from json_lines.read_blocks(path)
    except _ERRORS as error:
        raise _read_error(path, kind, error) from error


def detect_format(path: Path) -> str:
    """The file format by the name's ending, one of `FORMATS`. Raises `InputError` where it is none of them."""
    formats = ", ".join(FORMATS)
    if path.is_dir():
        raise InputError(f"{path} is a directory; name the files in it ({formats})")
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    ends = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if ends not in FORMATS:
        raise InputError(f"{path}: cannot tell the format from {ends!r}; expected one of {formats}")
    return FORMATS[ends]


def _read_error(path: Path, kind: str, error: BaseException) -> InputError:
    why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(
        f"{path} cannot be read as {kind}: {redact_text(why)}. Is it complete, and is {path.suffix} what it is?"
    )


def _parse_header(block: bytes) -> tuple[list[str], str, int]:
    """Column names, separator and length of the header line that `block` starts with."""
    end = block.find(b"\n") + 1 or len(block)
    line = block[:end].decode()
    if not line.strip():
        raise ValueError("it has no header line")
    separator = max(",;\t|", key=line.count)
    names, distinct = [], set[str]()
    for n, cell in enumerate(next(csv.reader([line], delimiter=separator))):
        name = cell.strip() or f"column_{n + 1}"
        names.append(name if name not in distinct else f"{name}_{n + 1}")
        distinct.add(name)
    return names, separator, end


def _read_csv(path: Path) -> Iterator[pl.DataFrame]:
    names: list[str] = []
    for block in chunks.read_blocks(path, quoted=True):
        if not names:
            names, separator, end = _parse_header(block)
            block = block[end:]
        yield _parse_cells(block, names, separator)
    if not names:
        raise ValueError("it is empty")


def _parse_cells(block: bytes, names: list[str], separator: str) -> pl.DataFrame:
    # Excess cells go to two columns of their own: the first may be empty, as behind a final separator.
    extra = ["_extra_1", "_extra_2"]
    header = io.StringIO()
    csv.writer(header, delimiter=separator, lineterminator="\n").writerow([*names, *extra])
    try:
        frame = pl.read_csv(
            io.BytesIO(header.getvalue().encode() + block),
            separator=separator, infer_schema=False, truncate_ragged_lines=True,
        )  # fmt: skip
    except pl.exceptions.ComputeError:
        frame = _parse_stray_quotes(block, [*names, *extra], separator)
    return frame.select(*names, pl.coalesce(extra).alias(RAGGED))


def _parse_stray_quotes(block: bytes, names: list[str], separator: str) -> pl.DataFrame:
    """Parse `block` with the standard library, where a quote inside a cell is a character like others."""
    width = len(names)
    reader = csv.reader(io.StringIO(block.decode(), newline=""), delimiter=separator)
    rows = [[cell or None for cell in row[:width]] + [None] * (width - len(row)) for row in reader]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")


def _read_json_lines(path: Path, keys: list[str]) -> Iterator[pl.DataFrame]:
    schema: json_lines.Schema = dict.fromkeys(keys, pl.String())
    for block in json_lines.read_blocks(path):
        yield json_lines.parse(block, schema)


def _read_excel(path: Path) -> pl.DataFrame:
    book = fastexcel.read_excel(path)
    sheets = {name: book.load_sheet(name, dtypes="string").to_polars() for name in book.sheet_names}
    filled = {name: sheet for name, sheet in sheets.items() if sheet.width}
    if not filled:
        raise ValueError("every sheet is empty")
    if len(filled) == 1:
        return next(iter(filled.values()))
    return pl.concat([s.with_columns(pl.lit(n).alias(SHEET)) for n, s in filled.items()], how="diagonal")
