"""CSV rows: blocks of a file's lines as tables of text, in which damaged records are marked and nothing is lost.

Blocks whose quotes are in order, which is nearly all, go to Polars as they are; NumPy tells which. Of others the
records with stray quotes are written anew, and damaged ones replaced by a mark.
"""

import io
import re
import secrets
from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.common.errors import InputError
from features.sources.parsing.text_files.csv_grammar import INCOMPLETE, Grammar, Record, read_record

RAGGED = "_ragged"  # cells beyond the header's, null in a row that has none
UNCLOSED = "_unclosed_quote"  # a damaged record's first line as written, else null
REPEATED = "_repeated_header"  # the line where it is the header again, else null
ADDED = (RAGGED, UNCLOSED, REPEATED)
EXTRA = ("_extra_1", "_extra_2")  # excess cells: the first may be empty, as behind a final separator

_PART = 1 << 22  # bytes whose quotes are looked at together
_SLICE = 1 << 17  # bytes that stay in a core's cache
_BLANK = re.compile(rb"^[^\S\n]*\n", re.MULTILINE)
_BLANK_BESIDE_TABS = re.compile(rb"^[ \r]*\n", re.MULTILINE)  # a line of tabs is a row of empty cells there


def read_rows(
    blocks: Iterable[bytes], names: tuple[str, ...], header: tuple[str, ...], grammar: Grammar
) -> Iterator[pl.DataFrame]:
    """Yield the rows of `blocks`, whole lines of UTF-8, as tables with `names` and the columns `ADDED`.

    The blocks begin below the header; `header` has the header's cells. Raises `InputError` where it comes again in
    another order.
    """
    rest = b""
    for block in blocks:
        # Only the file's last line may lack its end.
        whole = block if block.endswith(b"\n") else block + b"\n"
        text, damaged, rest = tidy(rest + whole, grammar, final=False)
        if text:
            yield _parse(text, damaged, names, header, grammar)
    if rest:
        text, damaged, _ = tidy(rest, grammar, final=True)
        if text:
            yield _parse(text, damaged, names, header, grammar)


class Damage:
    """Damaged lines of a block, in order, and the cell that stands for each in the text."""

    def __init__(self) -> None:
        self.mark = ""
        self.lines: list[bytes] = []

    def add(self, line: bytes) -> bytes:
        """Add a line; returns what to write in its place."""
        self.mark = self.mark or f"damaged-{secrets.token_hex(16)}"
        self.lines.append(line)
        return self.mark.encode() + b"\n"


def tidy(text: bytes, grammar: Grammar, final: bool) -> tuple[bytes, Damage, bytes]:
    """Rewrite `text` so that every quote opens or closes a cell or is doubled.

    `text` is whole lines; `final`: the last ones of the file. Returns (the text, what was damaged, the rest of `text`
    that the next block decides on).
    """
    damage = Damage()
    if final and not text.endswith(b"\n"):
        text += b"\n"
    if b'"' not in text or quotes_in_order(text, grammar.separator):
        return text, damage, b""
    pieces: list[bytes] = []
    at, rest = 0, b""
    for start in _find_suspects(text, grammar.separator):
        if start < at:  # within a record of several lines
            continue
        pieces.append(text[at:start])
        record = read_record(text, start, grammar, final)
        if isinstance(record, Record):
            pieces.append(record.written(grammar.separator) if record.stray else text[start : record.end])
            at = record.end
        elif record == INCOMPLETE:
            at, rest = len(text), text[start:]
            break
        else:
            at = (text.find(b"\n", start) + 1) or len(text)
            pieces.append(damage.add(text[start:at]))
    pieces.append(text[at:])
    return b"".join(pieces), damage, rest


def quotes_in_order(text: bytes, separator: bytes) -> bool:
    """Whether each quote in `text`, whole lines, opens or closes a cell of one line, or is one of a pair in it.

    Then the quotes of each line are even in number, every other one opens, and their neighbours are as they must be.
    """
    codes = np.frombuffer(text, np.uint8)
    delimiter, carried = separator[0], 0
    for start in range(0, len(codes), _SLICE):
        part = codes[start : start + _SLICE]
        quotes = np.flatnonzero(part == 0x22)
        if ((np.searchsorted(quotes, np.flatnonzero(part == 0x0A)) + carried) & 1).any():
            return False
        # The text ends with a line's end, which is also what precedes its first byte.
        before = codes[start - 1 : start + _SLICE] if start else np.append(codes[-1:], part)
        preceding = before.take(quotes[carried::2])
        following = codes[start + 1 : start + _SLICE + 1].take(quotes[1 - carried :: 2])
        if not ((preceding == delimiter) | (preceding == 0x0A) | (preceding == 0x22)).all():
            return False
        allowed = (following == delimiter) | (following == 0x0A) | (following == 0x22)
        if not allowed.all():
            rest = quotes[1 - carried :: 2][~allowed] + start
            if (codes[rest + 1] != 0x0D).any() or (codes[np.minimum(rest + 2, len(codes) - 1)] != 0x0A).any():
                return False
        carried = (carried + len(quotes)) & 1
    return carried == 0


def _neighbours(separator: bytes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """By byte: whether it may stand before a quote that opens, and behind one that closes."""
    may_precede = np.zeros(256, np.bool_)
    may_precede[[separator[0], 0x0A, 0x22]] = True
    may_follow = may_precede.copy()
    may_follow[0x0D] = True
    return may_precede, may_follow


def _find_suspects(text: bytes, separator: bytes) -> Iterator[int]:
    """Yield where lines begin whose quotes are not in order, taken by themselves."""
    codes = np.frombuffer(text, np.uint8)
    start = 0
    while start < len(text):
        end = text.rfind(b"\n", start, start + _PART) + 1
        end = end or (text.find(b"\n", start + _PART) + 1) or len(text)
        yield from (_find_suspects_in(codes[start:end], separator) + start).tolist()
        start = end


def _find_suspects_in(codes: NDArray[np.uint8], separator: bytes) -> NDArray[np.int64]:
    may_precede, may_follow = _neighbours(separator)
    quotes = np.flatnonzero(codes == 0x22)
    starts = np.concatenate([[0], np.flatnonzero(codes == 0x0A) + 1])
    first = np.searchsorted(quotes, starts)
    per_line = np.diff(first, append=len(quotes))
    line = np.repeat(np.arange(len(starts)), per_line)
    opens = ((np.arange(len(quotes)) - first[line]) & 1) == 0
    last = len(codes) - 1
    before = np.where(quotes > 0, codes[quotes - 1], 0x0A)
    after = np.where(quotes < last, codes[np.minimum(quotes + 1, last)], 0x0A)
    beyond = np.where(quotes + 1 < last, codes[np.minimum(quotes + 2, last)], 0x0A)
    wrong = np.where(opens, ~may_precede[before], ~may_follow[after] | ((after == 0x0D) & (beyond != 0x0A)))
    suspect = (per_line & 1).astype(np.bool_)
    suspect[line[wrong]] = True
    return starts[suspect]


def _drop_blank_lines(text: bytes, grammar: Grammar) -> bytes:
    """Drop lines of nothing but spaces that are not within a cell."""
    pattern = _BLANK_BESIDE_TABS if grammar.separator == b"\t" else _BLANK
    if not pattern.search(text):
        return text
    if b'"' not in text or quotes_in_order(text, grammar.separator):
        return pattern.sub(b"", text)
    sound: list[bytes] = []
    at = 0
    for start in _find_suspects(text, grammar.separator):  # records of several lines
        if start < at:
            continue
        record = read_record(text, start, Grammar(grammar.separator, 0), final=True)
        if isinstance(record, Record):
            sound += [pattern.sub(b"", text[at:start]), text[start : record.end]]
            at = record.end
    return b"".join([*sound, pattern.sub(b"", text[at:])])


def _parse(
    text: bytes, damage: Damage, names: tuple[str, ...], header: tuple[str, ...], grammar: Grammar
) -> pl.DataFrame:
    separator = grammar.separator.decode()
    frame = _read_cells(text, names, separator)
    # To Polars a blank line is a row of empty cells, the first of which may be spaces.
    if all(frame[c].null_count() for c in names[1:]):
        tidied = _drop_blank_lines(text, grammar)
        frame = frame if tidied is text else _read_cells(tidied, names, separator)
    frame = frame.select(*names, pl.coalesce(EXTRA).alias(RAGGED))
    frame = _mark_damaged(frame, damage)
    return _mark_headers(frame, names, header, separator)


def _read_cells(text: bytes, names: tuple[str, ...], separator: str) -> pl.DataFrame:
    # Names with quotes in them would not be read back as they are.
    numbers = [f"c{n}" for n in range(len(names) + len(EXTRA))]
    frame = pl.read_csv(
        io.BytesIO(f"{separator.join(numbers)}\n".encode() + text),
        separator=separator, infer_schema=False, truncate_ragged_lines=True,
    )  # fmt: skip
    return frame.rename(dict(zip(numbers, [*names, *EXTRA], strict=True)))


def _mark_damaged(frame: pl.DataFrame, damage: Damage) -> pl.DataFrame:
    if not damage.lines:
        return frame.with_columns(pl.lit(None, pl.String).alias(UNCLOSED))
    first = pl.col(frame.columns[0])
    rows = frame.select((first == damage.mark).fill_null(False)).to_series().arg_true()
    if len(rows) != len(damage.lines):
        raise RuntimeError(f"{len(damage.lines)} damaged lines were marked, {len(rows)} were found")
    texts = [line.decode().removesuffix("\n").removesuffix("\r") for line in damage.lines]
    lost = pl.Series(UNCLOSED, [None], pl.String).new_from_index(0, frame.height).scatter(rows, texts)
    return frame.with_columns(lost, pl.when(first != damage.mark).then(first).alias(frame.columns[0]))


def _mark_headers(frame: pl.DataFrame, names: tuple[str, ...], header: tuple[str, ...], separator: str) -> pl.DataFrame:
    """Mark rows that are the header again, as in exports that were put one behind the other."""
    none = pl.lit(None, pl.String).alias(REPEATED)
    if len(header) < 2:
        return frame.with_columns(none)
    # A cell of the first column that is a column's name is rare enough to look at the others.
    candidates = frame[names[0]].is_in([c for c in header if c]).arg_true()
    rows: list[int] = []
    for row, cells in zip(candidates, frame.select(names)[candidates].rows(), strict=True):
        texts = [(cell or "").strip() for cell in cells]
        if texts == list(header):
            rows.append(row)
        elif sorted(texts) == sorted(header):
            raise InputError(
                f"the header comes again in another order ({separator.join(texts)}): files were put one behind the "
                "other whose columns differ. Read them one by one"
            )
    if not rows:
        return frame.with_columns(none)
    again = pl.Series(REPEATED, [None], pl.String).new_from_index(0, frame.height).scatter(rows, separator.join(header))
    blank = pl.Series(again.is_not_null())
    return frame.with_columns(again, *(pl.when(~blank).then(c).alias(c) for c in names))
