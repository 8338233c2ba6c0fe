"""Formats of columns: the decimal mark of numbers and the order of day and month, decided for a column as a whole.

A cell that says by itself what it is is read as that. Only cells that do not (`1.299`, `05/01/2026`) follow their
column, and only when there are some are the tables of the command read for evidence, all of them: the decision
depends neither on the order of rows nor on how they are cut into batches and files.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import polars as pl

from features.sources.parsing.cells import numbers, timestamps
from features.sources.parsing.cells.numbers import DecimalMark

NUMBERS = ("price", "quantity", "position")
TIMES = ("timestamp", "received_at")

Scan = Callable[[], Iterator[dict[str, pl.Series]]]
"""Reads all tables of the command; yields the cells of our columns `NUMBERS` and `TIMES`, batch by batch."""


class ColumnFormats:
    """How the ambiguous cells of each column are read; without a `scan` they cannot be."""

    def __init__(
        self, decimal: DecimalMark | None = None, dates: str | None = None, zone: str = "UTC", scan: Scan | None = None
    ) -> None:
        self._decimal, self._dates, self._zone, self._scan = decimal, dates, zone, scan
        self._seen: dict[str, Counter[str]] | None = None

    def parse_number(
        self, column: str, values: pl.Series, exact: Callable[[pl.Series], pl.Series] | None = None
    ) -> tuple[pl.Series, pl.Series, pl.Series | None]:
        """Parse cells as (float64, code of the currency beside the number, whether a cell is ambiguous, None if none).

        `exact` says of row numbers whether their cell is a number by its type: it is never ambiguous.
        """
        amounts, currencies = numbers.split_amount(values)
        if amounts.null_count() == values.null_count():
            return amounts, currencies, None
        ambiguous = numbers.is_ambiguous(values)
        if exact is not None and ambiguous.any():
            rows = ambiguous.arg_true()
            plain = ambiguous.scatter(rows, exact(rows))
            amounts, currencies = _parse_again(values, plain, ".", amounts, currencies)
            ambiguous = numbers.is_ambiguous(values) & ~plain
        if not ambiguous.any():
            return amounts, currencies, None
        mark = self._decimal or self._decimal_of(column)
        if mark is None:
            return amounts, currencies, ambiguous
        return *_parse_again(values, ambiguous, mark, amounts, currencies), None

    def parse_time(self, column: str, values: pl.Series) -> tuple[pl.Series, pl.Series | None]:
        """Parse cells as (instants in UTC, whether a cell is ambiguous, None if none is)."""
        if self._dates is not None and "%" in self._dates:
            return timestamps.parse(values, self._zone, pattern=self._dates), None
        stated = None if self._dates is None else self._dates == "day first"
        times = timestamps.parse(values, self._zone, stated)
        if stated is not None or times.null_count() == values.null_count():
            return times, None
        ambiguous = timestamps.is_ambiguous(values)
        if not ambiguous.any():
            return times, None
        day_first = self._day_first(column)
        if day_first is None:
            return times, ambiguous
        rows = ambiguous.arg_true()
        return times.scatter(rows, timestamps.parse(values.gather(rows), self._zone, day_first)), None

    def _decimal_of(self, column: str) -> DecimalMark | None:
        """The decimal mark that the column's other cells show, or else those of the other number columns."""
        seen = self._evidence()
        own = _decide(seen.get(column, Counter()), ".", ",")
        if own is not None or seen.get(column):
            return own  # type: ignore[return-value]
        others = sum((seen.get(c, Counter()) for c in NUMBERS), Counter[str]())
        return _decide(others, ".", ",")  # type: ignore[return-value]

    def _day_first(self, column: str) -> bool | None:
        """Whether the column's other dates have the day first; None where they show neither or both."""
        order = _decide(self._evidence().get(column, Counter()), "day", "month")
        return None if order is None else order == "day"

    def _evidence(self) -> dict[str, Counter[str]]:
        if self._seen is None:
            self._seen = {}
            for cells in self._scan() if self._scan else ():
                for column, values in cells.items():
                    seen = self._seen.setdefault(column, Counter())
                    if column in TIMES:
                        day, month = timestamps.evidence(values)
                        seen.update({"day": day, "month": month})
                    else:
                        point, comma = numbers.evidence(values)
                        seen.update({".": point, ",": comma})
            self._seen = {column: +seen for column, seen in self._seen.items()}
        return self._seen


def _parse_again(
    values: pl.Series, cells: pl.Series, mark: DecimalMark, amounts: pl.Series, currencies: pl.Series
) -> tuple[pl.Series, pl.Series]:
    rows = cells.arg_true()
    if not rows.len():
        return amounts, currencies
    again, codes = numbers.split_amount(values.gather(rows), mark)
    return amounts.scatter(rows, again), currencies.scatter(rows, codes)


def _decide(seen: Counter[str], one: str, other: str) -> str | None:
    if bool(seen[one]) == bool(seen[other]):
        return None
    return one if seen[one] else other
