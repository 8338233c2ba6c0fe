"""Workbooks: the sheets of an Excel file as one table of texts.

A spreadsheet keeps numbers apart from texts, which a table of texts does not: where a cell could be read in two ways as
a text (1.299), the column `TYPED` says which cells are numbers. Of whole numbers a spreadsheet keeps 15 digits; longer
ones are written in scientific notation, so that nobody takes what is left of an id for the id.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import fastexcel
import polars as pl

from features.sources.parsing.text_files import containers, csv_header

SHEET = "Sheet"  # the column added to a workbook of several sheets
TYPED = "_typed"  # by column whether a cell is a number; only where that makes a difference

_OPEN = r"^-?(?:[1-9][0-9]{0,2}\.[0-9]{3}|[0-9]{16,})$"  # a text that says something else than the same number
_EXACT = 2.0**53
_TOP = 30  # rows among which the header is


class Workbook(NamedTuple):
    """The rows of all sheets, and what was assumed in reading them."""

    rows: pl.DataFrame
    notes: tuple[str, ...]


def read(path: Path) -> Workbook:
    """Read all sheets of the workbook at `path`, which may be packed; they follow one another.

    Rows without any cell are none. Raises `ValueError` where every sheet is empty, and what is in `containers.ERRORS`
    and `fastexcel.FastExcelError` for a file that cannot be read.
    """
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)  # columns, notes and rows are asked for one after the other
def _read(path: Path, changed: int, size: int) -> Workbook:
    with containers.open_bytes(path) as (file, compression):
        book = fastexcel.read_excel(file.read() if compression else path)
    sheets = {name: found for name in book.sheet_names if (found := _read_sheet(book, name)) is not None}
    if not sheets:
        raise ValueError("every sheet is empty")
    several = len(sheets) > 1
    notes = [f"{name}: {note}" if several else note for name, (_, _, told) in sheets.items() for note in told]
    tables = [table.with_columns(pl.lit(name).alias(SHEET)) if several else table
              for name, (table, _, _) in sheets.items()]  # fmt: skip
    rows = pl.concat(tables, how="diagonal")
    if any(typed.width for _, typed, _ in sheets.values()):
        parts = [typed.with_columns(pl.repeat(None, table.height, dtype=pl.Boolean).alias("_"))
                 for table, typed, _ in sheets.values()]  # fmt: skip
        typed = pl.concat(parts, how="diagonal").drop("_")
        rows = rows.with_columns(pl.struct(typed.select(pl.all().fill_null(False))).alias(TYPED))
    return Workbook(rows, tuple(notes))


def _read_sheet(book: fastexcel.ExcelReader, name: str) -> tuple[pl.DataFrame, pl.DataFrame, list[str]] | None:
    """The rows of a sheet, by column whether a cell is a number, and notes; None for a sheet without any cell."""
    cells = book.load_sheet(name, dtypes="string", header_row=None).to_polars()
    filled = cells.select(pl.any_horizontal(pl.all().str.strip_chars() != "").fill_null(False)).to_series()
    if not filled.any():
        return None
    rows = filled.arg_true()
    top = [tuple(" ".join((cell or "").split()) for cell in row) for row in cells[rows.head(_TOP)].rows()]
    at = csv_header.find_row(top)
    used = [
        n
        for n, column in enumerate(cells)
        if top[at][n] or column.gather(rows[at + 1 :]).null_count() < len(rows) - at - 1
    ]
    names, notes = csv_header.describe(tuple(top[at][n] for n in used), top[:at])
    below = rows[at + 1 :]
    table = cells[below][:, used].rename(dict(zip([cells.columns[n] for n in used], names, strict=True)))
    if not any(column.str.contains(_OPEN).any() for column in table):
        return table, pl.DataFrame(), notes
    # Cells of text are no truth values; numbers are.
    truth = book.load_sheet(name, dtypes="boolean", header_row=None).to_polars()
    typed = truth[below][:, used].select(pl.all().is_not_null())
    typed.columns = list(names)
    return table.with_columns(_write_lost(table[c], typed[c]) for c in names), typed, notes


def _write_lost(texts: pl.Series, typed: pl.Series) -> pl.Series:
    """Write whole numbers of more digits than a spreadsheet keeps in scientific notation."""
    long = (texts.str.contains(r"^-?[0-9]{16,}$") & typed).fill_null(False)
    if not long.any():
        return texts
    rows = long.arg_true()
    numbers = texts.gather(rows).cast(pl.Float64)
    written: Sequence[str | None] = [f"{n:.17e}" if abs(n) >= _EXACT else None for n in numbers]
    return texts.scatter(rows, pl.Series(written, dtype=pl.String).fill_null(texts.gather(rows)))
