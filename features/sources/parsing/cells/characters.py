"""Characters: digits, minus signs and spaces of any script as ASCII has them, and bytes as texts."""

import sys
import unicodedata
from functools import lru_cache

import polars as pl

from features.common.ids import INVISIBLE

_SIGNS = {
    "\u2212": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\ufe63": "-", "\u2010": "-", "\u2011": "-",
    "\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00b4": "'", "\u066c": "'", "\u200e": "", "\u200f": "", "\u061c": "",
    "\ufeff": "", "\u200b": "",
}  # fmt: skip


def to_ascii(texts: pl.Series) -> pl.Series:
    """Write digits, minus signs, spaces and apostrophes of any script in ASCII, and strip spaces at the ends.

    Full-width forms become plain ones (NFKC). A spreadsheet's apostrophe before a digit or sign is dropped.
    """
    plain = texts.str.strip_chars(INVISIBLE)
    if (plain.str.len_bytes() != plain.str.len_chars()).any():
        plain = plain.str.normalize("NFKC").str.replace_many(_table()).str.strip_chars(INVISIBLE)
    return plain.str.replace(r"^'(?P<rest>[0-9.,+(-])", "${rest}")


def decode_bytes(table: pl.DataFrame) -> pl.DataFrame:
    """Write columns of bytes as texts: cells that are no UTF-8, as ids of 16 bytes, in hexadecimal digits."""
    return table.with_columns(_decode(column) for column in table if column.dtype == pl.Binary)


def _decode(cells: pl.Series) -> pl.Series:
    try:
        return cells.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(cells.name, [None if cell is None else decode(cell) for cell in cells], pl.String)


def decode(cell: bytes) -> str:
    """Bytes as text, or in hexadecimal digits where they are no UTF-8."""
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.hex()


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    digits = {c: str(unicodedata.decimal(c)) for c in map(chr, range(0x80, sys.maxunicode)) if c.isdecimal()}
    return digits | _SIGNS
