"""Column lists in messages: the first of a file's columns, the one that was probably meant, and errors that end so."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from features.common.errors import InputError
from features.event_log.ingestion.report import list_names
from features.sources.parsing.cells.pii import redact_text

_MOST, _LONGEST = 12, 40  # columns that a message lists, and characters of each


class ColumnsError(InputError):
    """A file without the columns that are needed; the message says what to do, and last the columns that there are.

    `problem` has what is wrong, where, and what to write instead; `path` is the file, where it is not among those
    that the command names.
    """

    def __init__(self, problem: str, columns: Iterable[str], path: Path | None = None) -> None:
        self.problem, self.columns, self.path = problem.rstrip("."), list(columns), path
        super().__init__(f"{self.problem}. Its columns: {list_columns(self.columns)}")

    def with_advice(self, *advice: str) -> "ColumnsError":
        """Return the error with more sentences before the list of columns."""
        return ColumnsError(". ".join([self.problem, *advice]), self.columns, self.path)


def list_columns(columns: Iterable[str]) -> str:
    """List the first columns and how many more there are; `none` without any."""
    # Where a file has no header, its first row is taken for one.
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in columns]
    return redact_text(list_names(short, _MOST)) or "none"


def suggest_column(name: str, columns: Iterable[str]) -> str:
    """Ask for the column that `name` is probably a misspelling of; empty where none is near."""
    folded = {column.casefold(): column for column in columns}
    near = get_close_matches(name.casefold().strip("{} "), folded, n=1, cutoff=0.7)
    return f"did you mean {redact_text(folded[near[0]])}?" if near else ""
