"""Read a table a shop hands over, whatever its file format, or say what is wrong with it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import fastexcel
import polars as pl

from features.errors import InputError

SHEET = "Sheet"  # the column `read` adds to a workbook of several sheets
UNPARSED = "_unparsed"  # the column `read` adds where a JSON line is not a JSON object

FORMATS = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".xlsx": "Excel",
}


def read(path: Path) -> pl.DataFrame:
    """The rows of `path` in file order.

    Parquet and JSON lines keep their types; CSV and Excel cells are strings, so that one bad cell
    cannot stop the file. Sheets of a workbook follow one another. Raises `InputError` where the file
    is missing, unreadable, or of a format not in `FORMATS`.
    """
    known = ", ".join(FORMATS)
    if path.is_dir():
        raise InputError(f"{path} is a directory; name the files in it ({known})")
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    kind = FORMATS.get(path.suffix.lower())
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        "Parquet": pl.read_parquet, "CSV": _csv, "JSON lines": _json_lines, "Excel": _excel,
    }  # fmt: skip
    if kind is None:
        raise InputError(f"{path}: cannot tell the format from {path.suffix!r}; expected one of {known}")
    try:
        return readers[kind](path)
    except (pl.exceptions.PolarsError, fastexcel.FastExcelError, OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path} cannot be read as {kind}: {why}. Is it complete, and is {path.suffix} what it is?"
        ) from error


def _csv(path: Path) -> pl.DataFrame:
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()  # every byte is a letter in latin-1
    header = data.split(b"\n", 1)[0].decode()
    separator = max(",;\t|", key=header.count)
    return pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False, truncate_ragged_lines=True)


def _json_lines(path: Path) -> pl.DataFrame:
    try:
        return pl.read_ndjson(path, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return _mixed_json_lines(path.read_text(errors="replace"))


def _mixed_json_lines(text: str) -> pl.DataFrame:
    """Every value as a string; a line that is no JSON object becomes one with `UNPARSED` alone."""
    lines, columns = [], dict[str, None]()
    for line in filter(str.strip, text.split("\n")):
        try:
            record = json.loads(line, parse_constant=_refuse)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError):
            record = {UNPARSED: line}
        columns |= dict.fromkeys(record)
        lines.append(json.dumps(record))
    return pl.read_ndjson(io.BytesIO("\n".join(lines).encode()), schema=dict.fromkeys(columns, pl.String()))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _excel(path: Path) -> pl.DataFrame:
    book = fastexcel.read_excel(path)
    sheets = {name: book.load_sheet(name, dtypes="string").to_polars() for name in book.sheet_names}
    filled = {name: sheet for name, sheet in sheets.items() if sheet.width}
    if not filled:
        raise ValueError("every sheet is empty")
    if len(filled) == 1:
        return next(iter(filled.values()))
    return pl.concat([s.with_columns(pl.lit(n).alias(SHEET)) for n, s in filled.items()], how="diagonal")


def text(column: str) -> pl.Expr:
    """`column` as strings without surrounding spaces; empty ones are null."""
    return pl.col(column).cast(pl.String, strict=False).str.strip_chars().replace("", None)


def identifiers(values: pl.Series) -> pl.Series:
    """`values` as `text`; an id that a table stored as a float (13085.0) is the whole number again."""
    frame = values.alias("id").to_frame()
    if values.dtype.is_float():
        whole = pl.col("id").cast(pl.Int64, strict=False)
        frame = frame.with_columns(
            pl.when(whole == pl.col("id")).then(whole.cast(pl.String)).otherwise(pl.col("id").cast(pl.String))
        )
    return frame.select(text("id")).to_series().alias(values.name)


def with_raw(rejected: pl.DataFrame, source: pl.DataFrame) -> pl.DataFrame:
    """`rejected` with `raw` filled in: row `row` of `source` as a JSON object."""
    plain = [
        pl.col(c) if t.is_nested() or t.is_integer() or t.is_float() or t == pl.Boolean
        # Binary, decimal and time values have no JSON of their own.
        else pl.col(c).cast(pl.String, strict=False)
        for c, t in source.schema.items()
    ]  # fmt: skip
    rows = source[rejected["row"]].select(raw=pl.struct(plain).struct.json_encode())
    return rejected.with_columns(rows["raw"])
