"""CSV header: the delimiter of a file and the line that names its columns, found in the file's head.

Neither is taken from the first line alone: reports have lines above the header, and names of columns may have commas.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from features.common.counts import count
from features.common.errors import InputError
from features.sources.parsing.text_files.csv_grammar import Grammar, Record, find_measures, read_record
from features.sources.parsing.text_files.csv_rows import ADDED, EXTRA

DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 100  # records looked at
_SEP_LINE = re.compile(rb'"?sep=(.)"?\r?\n', re.IGNORECASE)
_NO_NAME = re.compile(r"[\s\d.,:/+\-%€$£]*\Z")  # a number, a date, or nothing
_LONGEST_HEADER = 1 << 14  # bytes; beyond that a quote in it does not close
_SHOWN = 60  # characters of a line in a note


@dataclass(frozen=True)
class Header:
    """What a CSV file's head says."""

    names: tuple[str, ...]
    """Of the columns, each once."""
    cells: tuple[str, ...]
    """As in the file, without spaces and quotes around them."""
    row: int
    """Its line, from 1."""
    end: int
    """Where the rows begin: bytes of the file as UTF-8."""
    grammar: Grammar
    is_table: bool
    """Whether several columns have about as many cells in the lines below."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Line:
    """One record of the head under some delimiter."""

    start: int
    end: int
    cells: tuple[str, ...]

    @property
    def filled(self) -> int:
        return sum(map(bool, self.cells))

    @property
    def trimmed(self) -> "_Line":
        """The line without empty cells at its end."""
        cells = self.cells
        while cells and not cells[-1]:
            cells = cells[:-1]
        return _Line(self.start, self.end, cells)

    @property
    def names_columns(self) -> bool:
        """Whether its cells may be names: at least half are filled, no two the same, none is a number."""
        filled = [c for c in self.cells if c]
        return 2 * len(filled) >= len(self.cells) and not any(map(_NO_NAME.match, filled))


@lru_cache(maxsize=4)  # a file's header is asked for several times, and found by looking at thousands of cells
def find(head: bytes, delimiter: str | None = None) -> Header:
    """Find the header of a file that begins with `head`, whole lines of UTF-8.

    Raises `InputError` for a `delimiter` that cannot be one, `ValueError` where there is no header.
    """
    if delimiter is not None:
        delimiter = _check_delimiter(delimiter)
    start, named = 0, None
    if match := _SEP_LINE.match(head):
        start, named = match.end(), match[1].decode(errors="replace")
    if not head[start:].strip():
        raise ValueError("it has no header line")
    choices = (delimiter,) if delimiter else (named,) if named else DELIMITERS
    best = min((_rate(head, start, d) for d in choices), key=lambda found: found[0])
    rank, separator, lines, at = best
    return _describe(head, separator, lines, at, is_table=rank[0] == 0)


def find_row(rows: list[tuple[str, ...]]) -> int:
    """Find the header among the first `rows` of a sheet: the first one, or one below the lines of a report."""
    lines = [_Line(0, 0, cells) for cells in rows]
    starts = (at for at in range(1, len(lines) - 1) if _stands_below(lines[:at], lines[at].trimmed))
    return next(starts, 0)


def _check_delimiter(delimiter: str) -> str:
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n' or delimiter.isalnum():
        raise InputError(
            f"delimiter {delimiter!r} cannot separate cells; write one character such as ',', ';', '|' or 'tab', or "
            "leave it out to have it recognised"
        )
    return delimiter


Rating = tuple[tuple[float, ...], str, list[_Line], int]


def _rate(head: bytes, start: int, delimiter: str) -> Rating:
    """Rate how well `delimiter` explains the head: (rank, the least is best; delimiter; records; the header's)."""
    lines = list(_read_lines(head, start, delimiter))
    if not lines:
        raise ValueError("it has no header line")
    for at, line in enumerate(lines[:-1] if len(lines) > 1 else lines):
        below = lines[at + 1 :]
        alike = sum(len(b.cells) == len(line.cells) for b in below) / len(below) if below else 1.0
        is_header = _stands_below(lines[:at], line) if at else 2 * line.filled >= len(line.cells)
        if len(line.cells) > 1 and alike >= 0.5 and is_header:
            return (0, at, -round(alike, 1), -len(line.cells)), delimiter, lines, at
    return (1, 0, 0, -len(lines[0].cells)), delimiter, lines, 0


def _stands_below(above: list[_Line], line: _Line) -> bool:
    """Whether `line` may be a header with `above` as the lines of a report before it."""
    most = max(a.filled for a in above)
    return line.names_columns and line.filled > most and (most < 2 or (most == 2 and line.filled >= 4))


def _read_lines(head: bytes, start: int, delimiter: str) -> list[_Line]:
    grammar = Grammar(delimiter.encode(), 0)
    lines: list[_Line] = []
    while start < len(head) and len(lines) < SAMPLE:
        stop = (head.find(b"\n", start) + 1) or len(head)
        record = read_record(head[:stop], start, grammar, final=True)
        if not isinstance(record, Record):  # a cell with a line break in it, or quotes that are not in order
            record = read_record(head, start, grammar, final=True)
        if not isinstance(record, Record) or (not lines and record.end - start > _LONGEST_HEADER):
            record = Record(stop, tuple(head[start:stop].split(grammar.separator)))
        cells = tuple(_unquote(cell.decode(errors="replace")) for cell in record.cells)
        if any(cells) or len(cells) > 1:
            lines.append(_Line(start, record.end, cells))
        start = record.end
    return lines


def _unquote(cell: str) -> str:
    cell = cell.strip("\ufeff \t\r\n")
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        cell = cell[1:-1].replace('""', '"')
    return " ".join(cell.removeprefix("\ufeff").split())


def _describe(head: bytes, separator: str, lines: list[_Line], at: int, is_table: bool) -> Header:
    header = lines[at]
    cells = header.cells
    names, notes = describe(cells, [line.cells for line in lines[:at]])
    below = [line.cells for line in lines[at + 1 :]]
    grammar = Grammar(separator.encode(), len(names), find_measures(below, len(names)))
    row = head.count(b"\n", 0, header.start) + 1
    return Header(tuple(names), cells, row, header.end, grammar, is_table, tuple(notes))


def describe(cells: tuple[str, ...], above: list[tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """A name for each column of a header with these `cells`, and notes on them and on the lines `above` it."""
    names, doubled = _name(cells)
    notes = []
    if texts := [" ".join(filter(None, line)) for line in above]:
        excerpt = "; ".join(text[:_SHOWN] for text in texts[:3])
        notes.append(f"{count(len(texts), 'line')} above the header left out ({excerpt})")
    if doubled:
        notes.append(
            f"more than one column is named {', '.join(doubled)}; the first is read under that name, the others as "
            f"{', '.join(n for n, c in zip(names, cells, strict=True) if c in doubled and n != c)}"
        )
    return names, notes


def _name(cells: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """A name for each column, and the names that several have."""
    taken = {*ADDED, *EXTRA}
    names: list[str] = []
    for n, cell in enumerate(cells):
        name = base = cell or f"column_{n + 1}"
        number = n + 1
        while name in taken or (name != cell and name in cells):
            name, number = f"{base}_{number}", number + 1
        names.append(name)
        taken.add(name)
    return names, [cell for cell, count in Counter(cells).items() if cell and count > 1]
