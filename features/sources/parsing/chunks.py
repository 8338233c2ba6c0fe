"""Pieces of a text file that end where a row ends, so that a file of any size is read in bounded memory."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

BLOCK = 48 << 20  # bytes read at once
_LONGEST = 4 * BLOCK  # a quoted cell that seems longer than this has a quote too many


def open_bytes(path: Path) -> BinaryIO:
    """`path` for reading; a gzip file is unpacked on the way, whatever it is called."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def blocks(path: Path, quoted: bool, size: int = BLOCK) -> Iterator[bytes]:
    """The file as UTF-8 in pieces of about `size` bytes that end with a line break, without a byte order mark.

    With `quoted` (CSV) a line break inside quotes ends no row. Raises `OSError` (also for a damaged
    gzip file) and `EOFError` for one that is cut short.
    """
    with open_bytes(path) as file:
        rest, first = b"", True
        while piece := file.read(size):
            rest += piece
            if first:
                rest, first = rest.removeprefix(b"\xef\xbb\xbf"), False
            if end := _last_row(rest, quoted):
                yield utf8(rest[:end])
                rest = rest[end:]
        if rest:
            yield utf8(rest)


def utf8(block: bytes) -> bytes:
    """`block` with every line that is not UTF-8 read as latin-1, in which every byte is a letter."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return b"\n".join(map(_line, block.split(b"\n")))
    return block


def _line(line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()
    return line


def _last_row(text: bytes, quoted: bool) -> int:
    """Where the last complete row of `text` ends; 0 if none does."""
    end = text.rfind(b"\n") + 1
    if not quoted or len(text) > _LONGEST:
        return end
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end
