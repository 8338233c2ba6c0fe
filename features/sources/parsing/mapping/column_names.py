"""Column names: which of a table's columns a name means, exactly or without regard to case, spaces and underscores."""

import re
from collections.abc import Collection, Iterable

from features.sources.parsing.cells.column_lists import suggest_column

_IGNORED = re.compile(r"[\s_\u00a0\ufeff]+")


def fold(name: str) -> str:
    """`name` as names are compared: lower case, without spaces and underscores, without the prefix of Google's feed."""
    return _IGNORED.sub("", name).casefold().removeprefix("g:")


class ColumnNames:
    """The columns of a table, found by name; a dotted name is a key of a nested object."""

    def __init__(self, names: Iterable[str], nested: bool = False) -> None:
        self.names = list(dict.fromkeys(names))
        self.nested = nested  # whether a name may be a path into a column
        self._folded: dict[str, str] = {}
        for name in self.names:
            self._folded.setdefault(fold(name), name)
        self._exact = set(self.names)

    def find(self, name: str, excluded: Collection[str] = ()) -> str | None:
        """The column that `name` means; None if there is none. One in `excluded` is only found by its exact name."""
        if name in self._exact:
            return name
        loose = self._folded.get(fold(name))
        if loose is not None and loose not in excluded:
            return loose
        if self.nested and "." in name:
            head, rest = name.split(".", 1)
            column = self.find(head)
            return None if column is None else f"{column}.{rest}"
        return None

    def has_all(self, names: Iterable[str]) -> bool:
        return all(self.find(name) is not None for name in names)

    def describe_missing(self, names: Collection[str], reason: str) -> str:
        """Name columns that are missing, what they are needed for, and of each the one that was probably meant."""
        suggestions = filter(None, (suggest_column(name, self.names) for name in names))
        return f"{' or '.join(names)} ({'; '.join([reason, *suggestions])})"
