"""How a feature group declares what it gives."""

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
    """One column that is no number."""

    name: str
    dtype: str
    meaning: str


def names(columns: Iterable[Column]) -> list[str]:
    return [c.name for c in columns]


def describe_window(days: int) -> str:
    """In words."""
    return "the last day" if days == 1 else f"the last {days} days"


def pick(columns: Iterable[Column], wanted: str) -> tuple[Column, ...]:
    """The columns named in `wanted`, separated by spaces, in that order. Raises `KeyError` for others."""
    known = {c.name: c for c in columns}
    return tuple(known[name] for name in wanted.split())


def select(frame: Lazy, keys: Sequence[str], columns: Sequence[Column]) -> Lazy:
    """The keys and the declared columns as float32, in the declared order."""
    return frame.select(*keys, *(nw.col(c.name).cast(nw.Float32) for c in columns))
