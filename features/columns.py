"""How a feature group declares what it gives."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import narwhals as nw

from features.engine import Lazy


class Column(NamedTuple):
    """One float32 feature: its name, its unit and what it means. Null where it is not defined."""

    name: str
    unit: str
    meaning: str


def names(columns: Iterable[Column]) -> list[str]:
    return [c.name for c in columns]


def select(frame: Lazy, keys: Sequence[str], columns: Sequence[Column]) -> Lazy:
    """The keys and the declared columns as float32, in the declared order."""
    return frame.select(*keys, *(nw.col(c.name).cast(nw.Float32) for c in columns))
