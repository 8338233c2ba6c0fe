"""Conditions of a mapping's `where`: which rows of a shop's table are read, by the cells of single columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from features.common import ids
from features.sources.parsing.cells import coerce

WHAT_TO_WRITE = "write a list of values, {not: [values]}, empty or filled"


@dataclass(frozen=True)
class RowCondition:
    """A condition on a cell; values are compared without regard to case and surrounding spaces."""

    kind: Literal["one of", "not", "empty", "filled"]
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind in ("empty", "filled"):
            return self.kind
        values = f"[{', '.join(self.values)}]"
        return values if self.kind == "one of" else f"{{not: {values}}}"

    def matches(self, cells: pl.Series) -> pl.Series:
        """Whether each cell fits, never null."""
        filled = coerce.is_filled(cells)
        if cells.dtype == pl.String:  # a database's export writes NULL for nothing
            filled &= ~cells.str.strip_chars().str.to_lowercase().is_in(sorted(ids.NULL_WORDS)).fill_null(False)
        if self.kind == "empty":
            return ~filled
        if self.kind == "filled":
            return filled
        listed = to_plain_text(cells).is_in([value.casefold() for value in self.values]).fill_null(False)
        if "" in self.values:
            listed |= ~filled
        return listed if self.kind == "one of" else ~listed


def parse_condition(value: Any) -> RowCondition:
    """Parse what a mapping says behind a column in `where`. Raises `ValueError` that says what to write."""
    if isinstance(value, RowCondition):
        return value
    if value in ("empty", "filled"):
        return RowCondition(value)
    if isinstance(value, dict):
        if set(value) != {"not"}:
            raise ValueError(f"{value} is no condition; {WHAT_TO_WRITE}")
        inner = parse_condition(value["not"])
        opposite: dict[str, Literal["one of", "not", "empty", "filled"]] = {
            "one of": "not", "not": "one of", "empty": "filled", "filled": "empty"
        }  # fmt: skip
        return RowCondition(opposite[inner.kind], inner.values)
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(v, dict | list) or v is None for v in values):
        raise ValueError(f"{value!r} is no condition; {WHAT_TO_WRITE}")
    return RowCondition("one of", tuple(_as_text(v) for v in values))


def match_all(rows: pl.DataFrame, conditions: Mapping[str, RowCondition]) -> dict[str, pl.Series]:
    """For each condition's column, the rows that fit the conditions before and not this one."""
    left = pl.repeat(True, rows.height, eager=True)
    unfit = dict[str, pl.Series]()
    for column, condition in conditions.items():
        fits = condition.matches(rows[column])
        unfit[column] = left & ~fits
        left &= fits
    return unfit


def to_plain_text(cells: pl.Series) -> pl.Series:
    """Cells as lower-case texts without surrounding spaces; whole floats as integers."""
    if cells.dtype == pl.Boolean:
        return cells.cast(pl.String)
    return coerce.to_ids(cells).cast(pl.String).str.to_lowercase()


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
