"""Conditions of a mapping's `where`: which rows of a shop's table are read, by the cells of its columns.

All conditions have to hold; under the key `any` stand several sets of them, of which one is enough.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from features.common import ids
from features.sources.parsing.cells import coerce

WHAT_TO_WRITE = "write a list of values, {not: [values]}, empty or filled"
GROUPS = ("any", "all")


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


@dataclass(frozen=True)
class ConditionGroup:
    """Sets of conditions, of which one is enough (`any`) or none may fail (`all`); in a set all have to hold."""

    kind: Literal["any", "all"]
    sets: tuple["dict[str, Condition]", ...]

    def __str__(self) -> str:
        sets = ("{" + ", ".join(f"{key}: {condition}" for key, condition in each.items()) + "}" for each in self.sets)
        return (" or " if self.kind == "any" else " and ").join(sets)


Condition = RowCondition | ConditionGroup


def parse_entry(value: Any) -> Condition:
    """Parse what stands behind a key of `where`; a group is `any` until `name_groups` reads its key."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return ConditionGroup("any", tuple(map(_parse_set, value)))
    return value if isinstance(value, ConditionGroup) else parse_condition(value)


def name_groups(conditions: Mapping[str, Condition]) -> dict[str, Condition]:
    """Give groups the kind that their key says. Raises `ValueError` for a group under another key."""
    named = dict[str, Condition]()
    for key, condition in conditions.items():
        if not isinstance(condition, ConditionGroup):
            named[key] = condition
        elif key in GROUPS:
            named[key] = ConditionGroup("all" if key == "all" else "any", condition.sets)
        else:
            raise ValueError(f"{key} has several sets of conditions; {WHAT_TO_WRITE}, and sets under any or all")
    return named


def _parse_set(entries: dict[Any, Any]) -> dict[str, Condition]:
    parsed = dict[str, Condition]()
    for key, value in entries.items():
        try:
            parsed[str(key)] = parse_entry(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return name_groups(parsed)


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


def name_columns(conditions: Mapping[str, Condition]) -> Iterator[str]:
    """Name the columns that `conditions` are about."""
    for key, condition in conditions.items():
        if isinstance(condition, RowCondition):
            yield key
        else:
            for each in condition.sets:
                yield from name_columns(each)


def resolve(conditions: Mapping[str, Condition], find: Callable[[str], str | None]) -> dict[str, Condition]:
    """Rename the columns of `conditions` by `find`; conditions whose column it does not know are left out."""
    resolved = dict[str, Condition]()
    for key, condition in conditions.items():
        if isinstance(condition, ConditionGroup):
            sets = tuple(resolve(each, find) for each in condition.sets)
            resolved[key] = ConditionGroup(condition.kind, sets)
        elif (column := find(key)) is not None:
            resolved[column] = condition
    return resolved


def match_all(rows: pl.DataFrame, conditions: Mapping[str, Condition]) -> dict[str, pl.Series]:
    """For each key of `conditions`, the rows that fit those before and not this one."""
    left = pl.repeat(True, rows.height, eager=True)
    unfit = dict[str, pl.Series]()
    for key, condition in conditions.items():
        matching = _match(rows, key, condition)
        unfit[key] = left & ~matching
        left &= matching
    return unfit


def match(rows: pl.DataFrame, conditions: Mapping[str, Condition]) -> pl.Series:
    """Whether each row fits all `conditions`."""
    fits = pl.repeat(True, rows.height, eager=True)
    for key, condition in conditions.items():
        fits &= _match(rows, key, condition)
    return fits


def _match(rows: pl.DataFrame, key: str, condition: Condition) -> pl.Series:
    if isinstance(condition, RowCondition):
        return condition.matches(rows[key])
    fits = pl.repeat(condition.kind == "all", rows.height, eager=True)
    for each in condition.sets:
        fits = fits & match(rows, each) if condition.kind == "all" else fits | match(rows, each)
    return fits


def to_plain_text(cells: pl.Series) -> pl.Series:
    """Cells as lower-case texts without surrounding spaces; whole floats as integers."""
    if cells.dtype == pl.Boolean:
        return cells.cast(pl.String)
    return coerce.to_ids(cells).cast(pl.String).str.to_lowercase()


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
