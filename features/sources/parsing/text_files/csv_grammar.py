"""CSV grammar: where a record ends, and which ones are damaged, decided by the text alone.

A quote opens a cell only at its start, and the quote that closes it is followed by a delimiter or the line's end;
quotes anywhere else in a cell are characters. A record is damaged

- whose quotes break that, or are open at the end of the file or after `LONGEST` bytes;
- which has several lines and not as many cells as the header;
- which has several lines of which one is a full record by itself: somebody forgot to close a quote.

Of a damaged record only the first line is given up; what follows is read on from the next one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LONGEST = 1 << 20  # bytes of a record with line breaks in it
QUOTE = 0x22
# A number, a date or a time: cells of the kind that an address or a description has not.
_MEASURE = re.compile(rb'"?[\s\d.,:/+\-TZ%]*\d[\s\d.,:/+\-TZ%]*"?\Z')


@dataclass(frozen=True)
class Grammar:
    """The shape of one file's records."""

    separator: bytes
    width: int
    """Cells of the header; 0 where they are not known yet."""
    measures: frozenset[int] = field(default_factory=frozenset)
    """Columns, from 0, whose cells in the file's head are numbers, dates or times."""


@dataclass(frozen=True)
class Record:
    """One record of a text: as it stands there, or as it has to be written to be read."""

    end: int
    """Where the next one begins."""
    cells: tuple[bytes, ...]
    """As written, with their quotes."""
    stray: bool = False
    """Whether a cell without quotes around it has some in it."""
    broken_cell: int | None = None
    """The last cell, from 0, with a line break in it."""

    def written(self, separator: bytes) -> bytes:
        """The record as a line in which every quote opens, closes or is doubled."""
        return separator.join(map(_requote, self.cells)) + b"\n"


DAMAGED, INCOMPLETE = "damaged", "incomplete"


def _requote(cell: bytes) -> bytes:
    if QUOTE not in cell or cell[0] == QUOTE:
        return cell
    return b'"' + cell.removesuffix(b"\r").replace(b'"', b'""') + b'"'


def read_record(text: bytes, start: int, grammar: Grammar, final: bool) -> Record | str:
    """Read the record of `text` at `start`: a `Record`, `DAMAGED`, or `INCOMPLETE` where the text ends before it does.

    `final`: nothing follows `text` in the file. What is returned depends on the file alone, not on where `text` ends.
    """
    separator, size = grammar.separator, len(text)
    cells: list[bytes] = []
    at, stray, broken_cell = start, False, None
    line_end = _line_end(text, start)
    while True:
        if at < size and text[at] == QUOTE:
            close = _closing_quote(text, at + 1, start + LONGEST)
            if close < 0 or (close + 1 == size and not final):
                if final or size - start > LONGEST or _has_full_line(text, at, size, grammar):
                    return DAMAGED
                return INCOMPLETE
            after = close + 1
            if after > line_end:
                if after - start > LONGEST or _has_full_line(text, at, after, grammar):
                    return DAMAGED
                broken_cell, line_end = len(cells), _line_end(text, after)
            cells.append(text[at:after])
            if text[after : after + 2] in (b"\r\n", b"\r"):
                after += 1
        else:
            position = text.find(separator, at, line_end)
            after = position if position >= 0 else line_end
            cell = text[at:after]
            stray = stray or QUOTE in cell
            cells.append(cell)
        if after >= line_end:
            record = Record(min(line_end + 1, size), tuple(cells), stray, broken_cell)
            return record if broken_cell is None or _fits(text, record, grammar) else DAMAGED
        if text[after : after + 1] != separator:
            return DAMAGED
        at = after + 1


def _line_end(text: bytes, start: int) -> int:
    end = text.find(b"\n", start)
    return len(text) if end < 0 else end


def _closing_quote(text: bytes, at: int, limit: int) -> int:
    """The quote that is not one of a pair; -1 if there is none before `limit`."""
    while (at := text.find(b'"', at, limit)) >= 0:
        if text[at + 1 : at + 2] != b'"':
            return at
        at += 2
    return -1


def count_cells(record: Record, width: int) -> int:
    """Cells without empty ones beyond the header's, as behind a final separator."""
    n = len(record.cells)
    while n > width and not record.cells[n - 1].strip():
        n -= 1
    return n


def _fits(text: bytes, record: Record, grammar: Grammar) -> bool:
    """Whether a record of several lines is one: it has the header's cells, and its last line is not a record too."""
    if grammar.width == 0:
        return True
    if count_cells(record, grammar.width) != grammar.width:
        return False
    end = record.end - 1 if text[record.end - 1 : record.end] == b"\n" else record.end
    last = _read_line(text[text.rfind(b"\n", 0, end) + 1 : end], grammar)
    if last is None or not last.stray:
        return last is None or not _is_full(last, grammar)
    # Its last line holds the closing quote, which by itself is a stray one. Cells before it would have to look like
    # those of their columns.
    before = [n for n in grammar.measures if n < (record.broken_cell or 0) and last.cells[n : n + 1] != (b"",)]
    whole = len(last.cells) >= grammar.width
    return not (whole and before and all(_MEASURE.match(last.cells[n]) for n in before))


def _has_full_line(text: bytes, start: int, end: int, grammar: Grammar) -> bool:
    """Whether a whole line within the cell from `start` to `end` is a record by itself."""
    if grammar.width < 2:
        return False
    at = text.find(b"\n", start, end) + 1
    while at and (stop := text.find(b"\n", at, end)) >= 0:
        if text.count(grammar.separator, at, stop) >= grammar.width - 1:
            line = _read_line(text[at:stop], grammar)
            if line is not None and _is_full(line, grammar):
                return True
        at = stop + 1
    return False


def _read_line(line: bytes, grammar: Grammar) -> Record | None:
    """The line as a record by itself; None if its quotes are not in order."""
    line = line.removesuffix(b"\r")
    record = read_record(line, 0, Grammar(grammar.separator, grammar.width), final=True)
    return record if isinstance(record, Record) else None


def _is_full(line: Record, grammar: Grammar) -> bool:
    """Whether `line` has the header's cells, and most of its measures where the file has some.

    Of two columns a comma in a sentence makes a full line: there all measures must be some.
    """
    if count_cells(line, grammar.width) != grammar.width or not any(cell.strip() for cell in line.cells):
        return False
    filled = [line.cells[n] for n in grammar.measures if line.cells[n].strip(b' \r"')]
    fitting = sum(_MEASURE.match(cell) is not None for cell in filled)
    if grammar.width == 2:
        return bool(filled) and fitting == len(filled)
    return 2 * fitting >= len(filled)


def find_measures(rows: Iterable[Sequence[str]], width: int) -> frozenset[int]:
    """The columns whose cells in `rows`, the first ones of a file, are numbers, dates or times almost throughout."""
    filled, fitting = [0] * width, [0] * width
    for cells in rows:
        for n, cell in enumerate(cells if len(cells) == width else ()):
            if cell:
                filled[n] += 1
                fitting[n] += _MEASURE.match(cell.encode()) is not None
    return frozenset(n for n in range(width) if filled[n] and fitting[n] >= 0.8 * filled[n])
