"""CSV for spreadsheets: texts that a spreadsheet would run as a formula are written with a leading apostrophe.

An id or a category comes from whoever sent the event, and `=HYPERLINK(…)` in a cell runs when somebody opens the file.
Numbers stay as they are. Parquet is never opened by a spreadsheet and keeps every text.
"""

from pathlib import Path

import polars as pl

# What begins a formula, also in full width, behind any apostrophes: so that reading takes away just what was added.
_FORMULA = "^'*[=+\\-@\t\r\n＝＋－＠]"
_ESCAPED = "^'('*[=+\\-@\t\r\n＝＋－＠])"


def write_csv(table: pl.DataFrame, out: Path) -> None:
    """Write `table` as CSV in which no cell and no name of a column is a formula."""
    texts = pl.col(pl.String, pl.Categorical, pl.Enum).cast(pl.String)
    safe = table.with_columns(pl.when(texts.str.contains(_FORMULA)).then("'" + texts).otherwise(texts).name.keep())
    names = pl.Series(safe.columns, dtype=pl.String)
    safe.columns = names.str.replace(f"({_FORMULA})", "'${1}").to_list()
    safe.write_csv(out)


def unescape(texts: pl.Series) -> pl.Series:
    """Return the texts that `write_csv` wrote as `texts`, read from a CSV file."""
    return texts.cast(pl.String).str.replace(_ESCAPED, "${1}")
