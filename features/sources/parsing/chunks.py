"""Blocks of a text file that end where a row ends, so that a file of any size is read in bounded memory."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

BLOCK = 48 << 20  # bytes read at once
_LONGEST = 4 * BLOCK  # a quoted cell that seems longer than this has a quote too many


def open_bytes(path: Path) -> BinaryIO:
    """Open `path` for reading; a gzip file is unpacked on the way, whatever its name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def read_blocks(path: Path, quoted: bool, size: int = BLOCK) -> Iterator[bytes]:
    """Yield the file as UTF-8 in blocks of about `size` bytes that end with a line break, without a byte order mark.

    With `quoted` (CSV) a line break inside quotes ends no row. Raises `OSError` (also for a damaged
    gzip file) and `EOFError` for one that is cut short.
    """
    with open_bytes(path) as file:
        rest, first = b"", True
        while piece := file.read(size):
            rest += piece
            if first:
                rest, first = rest.removeprefix(b"\xef\xbb\xbf"), False
            if end := _end_of_last_row(rest, quoted):
                yield to_utf8(rest[:end])
                rest = rest[end:]
        if rest:
            yield to_utf8(rest)


def to_utf8(block: bytes) -> bytes:
    """Recode every line of `block` that is not UTF-8 from latin-1, in which every byte is a character."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return b"\n".join(map(_line_to_utf8, block.split(b"\n")))
    return block


def _line_to_utf8(line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()
    return line


def _end_of_last_row(text: bytes, quoted: bool) -> int:
    """The offset at which the last complete row of `text` ends; 0 if none does."""
    end = text.rfind(b"\n") + 1
    if not quoted or len(text) > _LONGEST:
        return end
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end
