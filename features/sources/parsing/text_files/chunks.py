"""Blocks of a text file that end where a line ends, so that a file of any size is read in bounded memory."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

from features.sources.parsing.text_files import containers, encodings

BLOCK = 48 << 20  # bytes read at once
HEAD = 1 << 16  # bytes at the start of a file by which it is recognised

_guessed: set[tuple[Path, int, int]] = set()  # files, as they were, with lines in an encoding that nobody named


def read_blocks(path: Path, size: int | None = None, encoding: str | None = None) -> Iterator[bytes]:
    """Yield the file as UTF-8 in blocks of whole lines, about `size` bytes each, without a byte order mark.

    Lines end with a line feed; carriage returns are left before it, and become one in a file that has nothing else.
    `encoding` is a codec's name; None recognises it. Raises `InputError` for a codec that is unknown or does not fit,
    and what is in `containers.ERRORS` for a damaged container or one that is cut short.
    """
    size = BLOCK if size is None else size
    head = read_head(path)
    encoded = encodings.recognise(head, encoding)
    mixed = partial(_has_foreign_lines, *_state(path))
    returns_only = _ends_lines_with_returns(next(encodings.recode([head], encoded, path)))
    with containers.open_bytes(path) as (file, _):
        if encoded.by_line and not returns_only:
            for block in encodings.recode(_read_lines(file, size), encoded, path):
                yield _to_utf8(block, mixed, path)
            return
        rest: list[bytes] = []
        for recoded in encodings.recode(iter(lambda: file.read(size), b""), encoded, path):
            piece = recoded.replace(b"\r", b"\n") if returns_only else recoded
            if end := piece.rfind(b"\n") + 1:
                block = b"".join([*rest, piece[:end]])
                yield _to_utf8(block, mixed, path) if encoded.by_line else block
                rest = []
            if end < len(piece):
                rest.append(piece[end:])
        if rest:
            block = b"".join(rest)
            yield _to_utf8(block, mixed, path) if encoded.by_line else block


def describe_guess(path: Path) -> str | None:
    """Say in which encoding lines of `path` were read that are not UTF-8, as far as it has been read; None: none."""
    if _state(path) not in _guessed:
        return None
    return f"{path.name}: not UTF-8; read as Windows-1252 (cp1252). If letters look wrong, name its encoding"


def _to_utf8(block: bytes, mixed: Callable[[], bool], path: Path) -> bytes:
    recoded = encodings.to_utf8(block, mixed)
    if recoded is not block and recoded != block:
        _guessed.add(_state(path))
    return recoded


def _state(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def read_head(path: Path) -> bytes:
    """Read the unpacked file's first `HEAD` bytes."""
    with containers.open_bytes(path) as (file, _):
        return file.read(HEAD)


@lru_cache(maxsize=256)
def _has_foreign_lines(path: Path, changed: int, size: int) -> bool:
    """Whether some line of the file, as it is since `changed`, is not UTF-8."""
    with containers.open_bytes(path) as (file, _):
        return not all(map(encodings.is_utf8, _read_lines(file, BLOCK)))


def _read_lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece if piece.endswith(b"\n") else piece + file.readline()


def _ends_lines_with_returns(head: bytes) -> bool:
    """Whether lines end with a carriage return alone, as old Macs and Excel's "CSV (Macintosh)" write them."""
    alone = head.count(b"\r") - head.count(b"\r\n")
    feed = head.find(b"\n")
    # A few line feeds may stand within quoted cells.
    return alone > head.count(b"\n") and (feed < 0 or head.find(b"\r") < feed)
