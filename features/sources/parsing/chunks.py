"""Blocks of a text file that end where a line ends, so that a file of any size is read in bounded memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from features.sources.parsing import containers, encodings

BLOCK = 48 << 20  # bytes read at once
HEAD = 1 << 16  # bytes at the start of a file by which it is recognised


def read_blocks(path: Path, size: int | None = None, encoding: str | None = None) -> Iterator[bytes]:
    """Yield the file as UTF-8 in blocks of whole lines, about `size` bytes each, without a byte order mark.

    Lines end with a line feed; carriage returns are left before it, and become one in a file that has nothing else.
    `encoding` is a codec's name; None recognises it. Raises `InputError` for a codec that is unknown or does not fit,
    and what is in `containers.ERRORS` for a damaged container or one that is cut short.
    """
    size = BLOCK if size is None else size
    with containers.open_bytes(path) as (file, _):
        head = file.read(HEAD)
        found = encodings.recognise(head, encoding)
        returns_only = _ends_lines_with_returns(next(encodings.recode([head], found, path)))
        rest: list[bytes] = []
        for recoded in encodings.recode(_read_pieces(head, file, size), found, path):
            piece = recoded.replace(b"\r", b"\n") if returns_only else recoded
            if end := piece.rfind(b"\n") + 1:
                block = b"".join([*rest, piece[:end]])
                yield encodings.to_utf8(block) if found.by_line else block
                rest = []
            if end < len(piece):
                rest.append(piece[end:])
        if rest:
            block = b"".join(rest)
            yield encodings.to_utf8(block) if found.by_line else block


def _read_pieces(head: bytes, file: BinaryIO, size: int) -> Iterator[bytes]:
    start = head + file.read(max(0, size - len(head)))
    for at in range(0, len(start), size):
        yield start[at : at + size]
    while piece := file.read(size):
        yield piece


def _ends_lines_with_returns(head: bytes) -> bool:
    """Whether lines end with a carriage return alone, as old Macs and Excel's "CSV (Macintosh)" write them."""
    alone = head.count(b"\r") - head.count(b"\r\n")
    feed = head.find(b"\n")
    # A few line feeds may stand within quoted cells.
    return alone > head.count(b"\n") and (feed < 0 or head.find(b"\r") < feed)
