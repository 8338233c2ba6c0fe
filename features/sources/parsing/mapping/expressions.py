"""Expressions of a mapping: where the value of one of our columns comes from in a shop's columns.

`SKU` is a column, `[SKU, Name]` the first of several that is not empty, `"{store}-{Name}"` a template of columns,
`{hash: Email}` the salted hash of a column that holds e-mail addresses or other personal data.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Find = Callable[[str], str | None]  # the name of a column in a mapping → the table's own, None if there is none

_FIELD = re.compile(r"\{([^{}]+)\}")
WHAT_TO_WRITE = 'write a column, a list of columns, a template such as "{store}-{Name}", or {hash: COLUMN}'


@dataclass(frozen=True)
class ColumnPart:
    """The values of one column."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def resolve(self, find: Find) -> "ColumnPart | None":
        column = find(self.column)
        return None if column is None else ColumnPart(column)


@dataclass(frozen=True)
class TemplatePart:
    """A text with the values of columns in it; nothing where one of them is empty."""

    text: str

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_FIELD.findall(self.text)))

    @property
    def pieces(self) -> list[str]:
        """Literal texts and columns in turns, beginning with a text."""
        return _FIELD.split(self.text)

    def resolve(self, find: Find) -> "TemplatePart | None":
        columns = {column: find(column) for column in self.columns}
        if None in columns.values():
            return None
        return TemplatePart(_FIELD.sub(lambda field: f"{{{columns[field[1]]}}}", self.text))


@dataclass(frozen=True)
class HashedPart:
    """The salted hash of the values of one column."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def resolve(self, find: Find) -> "HashedPart | None":
        column = find(self.column)
        return None if column is None else HashedPart(column)


Part = ColumnPart | TemplatePart | HashedPart


@dataclass(frozen=True)
class Expression:
    """Parts of which, row by row, the first that is not empty counts."""

    parts: tuple[Part, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The shop's columns that the expression reads, in order."""
        return tuple(dict.fromkeys(column for part in self.parts for column in part.columns))

    @property
    def hashed(self) -> tuple[str, ...]:
        """Those of which only a hash is kept."""
        return tuple(dict.fromkeys(part.column for part in self.parts if isinstance(part, HashedPart)))

    def resolve(self, find: Find) -> "Expression | None":
        """The same in the table's own column names, without parts that it has no column for; None if it has none."""
        parts = tuple(part for part in (part.resolve(find) for part in self.parts) if part is not None)
        return Expression(parts) if parts else None

    def __str__(self) -> str:
        return " or ".join(part.text if isinstance(part, TemplatePart) else part.column for part in self.parts)


def parse_expression(value: Any) -> Expression:
    """Parse what a mapping says behind one of our columns. Raises `ValueError` that says what to write."""
    if isinstance(value, Expression):
        return value
    parts = [part for entry in (value if isinstance(value, list) else [value]) for part in _parse_part(entry)]
    if not parts:
        raise ValueError(f"names no column; {WHAT_TO_WRITE}")
    return Expression(tuple(parts))


def parse_columns(value: Any) -> Expression:
    """Parse a column or a list of columns: no template, no hash."""
    expression = parse_expression(value)
    if not all(isinstance(part, ColumnPart) for part in expression.parts):
        raise ValueError("takes a column or a list of columns")
    return expression


def _parse_part(value: Any) -> list[Part]:
    if isinstance(value, dict):
        if set(value) != {"hash"}:
            raise ValueError(f"{value} is no expression; {WHAT_TO_WRITE}")
        columns = value["hash"] if isinstance(value["hash"], list) else [value["hash"]]
        return [HashedPart(_as_name(column)) for column in columns]
    name = _as_name(value)
    return [TemplatePart(name) if _FIELD.search(name) else ColumnPart(name)]


def _as_name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise ValueError(f"{value!r} is no column; {WHAT_TO_WRITE}")
    return str(value)
