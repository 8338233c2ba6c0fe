"""Column declarations: name, unit and meaning of every column that a feature group computes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import narwhals as nw

from features.tables.engine import Lazy


class Column(NamedTuple):
    """One float32 feature: its name, its unit, what it means, and how far back it looks. Null where not defined."""

    name: str
    unit: str
    meaning: str
    window: str = "all time"


class Field(NamedTuple):
    """One column that is not a number."""

    name: str
    dtype: str
    meaning: str


def names(columns: Iterable[Column]) -> list[str]:
    """List the columns' names."""
    return [c.name for c in columns]


def describe_window(days: int) -> str:
    """Describe a window of days, for the meaning of a column."""
    return "the last day" if days == 1 else f"the last {days} days"


def pick(columns: Iterable[Column], column_names: str) -> tuple[Column, ...]:
    """Pick columns by their names, separated by spaces, in that order. Raises `KeyError` for unknown names."""
    by_name = {c.name: c for c in columns}
    return tuple(by_name[name] for name in column_names.split())


def select(frame: Lazy, keys: Sequence[str], columns: Sequence[Column]) -> Lazy:
    """Select the keys, and the declared columns as float32 in the declared order."""
    return frame.select(*keys, *(nw.col(c.name).cast(nw.Float32) for c in columns))
