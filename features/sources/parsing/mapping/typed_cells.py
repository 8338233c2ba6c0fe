"""Typed cells: which cells are numbers by their type, and not texts that look like one.

JSON, workbooks and Parquet tell 1.299 from "1.299", and a number is never ambiguous; as text both look the same.
"""

import json
import re
from collections.abc import Collection

import polars as pl

from features.sources.parsing.cells import coerce
from features.sources.parsing.files.workbook import TYPED
from features.sources.parsing.mapping import evaluate
from features.sources.parsing.mapping.expressions import ColumnPart, Expression
from features.sources.parsing.text_files.json_lines import LINE


def are_numbers(expression: Expression, rows: pl.DataFrame, foreign: Collection[str] = ()) -> pl.Series:
    """Whether each cell that `evaluate.evaluate` gives is a number where it comes from; columns in `foreign` have been
    joined to the rows, and their types are lost."""
    numbers = pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    open_ = pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)  # the cell is none of a part before
    for part in expression.parts:
        here = open_ & coerce.is_filled(evaluate.evaluate(Expression((part,)), rows))
        if isinstance(part, ColumnPart) and part.column not in foreign:
            numbers |= here & _are_numbers(part.column, rows)
        open_ &= ~here
    return numbers


def _are_numbers(column: str, rows: pl.DataFrame) -> pl.Series:
    cells = rows[column]
    if cells.dtype.is_numeric():
        return pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)
    if TYPED in rows.columns:
        typed = rows[TYPED].struct
        if column in typed.fields:
            return typed.field(column).fill_null(False)
    elif LINE in rows.columns:
        return ~_are_json_texts(cells, column, rows[LINE])
    return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)


def _are_json_texts(cells: pl.Series, column: str, lines: pl.Series) -> pl.Series:
    """Whether each cell is written as a text in its line, under the last key of `column`."""
    frame = pl.DataFrame([cells.alias("cell"), lines.alias("line")])
    key = column.rpartition(".")[2]
    texts = _contain(frame, '"')
    # The text may stand under another key. As most programs write keys, it is found without a pattern for each cell.
    sure = _contain(frame, f'{key}": "') | _contain(frame, f'{key}":"')
    open_ = (texts & ~sure).arg_true()
    if not open_.len():
        return texts
    names = "|".join(sorted({re.escape(key), re.escape(json.dumps(key)[1:-1])}))
    cell = pl.concat_str(pl.lit(rf'(?:{names})"\s*:\s*"'), pl.col("cell").str.escape_regex(), pl.lit('"'))
    return texts.scatter(open_, frame[open_].select(pl.col("line").str.contains(cell).fill_null(False)).to_series())


def _contain(frame: pl.DataFrame, before: str) -> pl.Series:
    """Whether each line contains its cell behind the text `before` and in front of a quote."""
    text = pl.concat_str(pl.lit(before), pl.col("cell"), pl.lit('"'))
    return frame.select(pl.col("line").str.contains(text, literal=True).fill_null(False)).to_series()
