"""Encodings: which one a text file is in, and its bytes as UTF-8.

A file that names none is UTF-16 or UTF-32 by its byte order mark or the zeros in its head; else it is UTF-8, of which
each line that is not is Windows-1252. That is decided line by line, so that where a block ends makes no difference, and
exports that were put one behind the other are read.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.common.errors import InputError

BOM = "\ufeff"
_WESTERN = b"\xc2\xc3\xe2"  # what accented letters, quotation marks and the euro sign begin with in UTF-8
_CHANCE = 2  # characters in a line that UTF-8 may have by chance
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Encoding:
    """A text file's encoding."""

    name: str
    """A codec of Python's. `utf-8` and not `explicit`: lines that are not UTF-8 are Windows-1252."""
    explicit: bool
    """Named by the user: a byte that does not fit is an error."""

    @property
    def by_line(self) -> bool:
        return self.name == "utf-8" and not self.explicit


def recognise(head: bytes, encoding: str | None = None) -> Encoding:
    """Recognise the encoding of a file that begins with `head`. Raises `InputError` for an unknown `encoding`."""
    if encoding is not None:
        return Encoding(_look_up(encoding), explicit=True)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name, explicit=False)
    pairs = len(head) // 2
    low, high = head[1::2].count(0), head[::2].count(0)  # in ASCII, which separators and digits are
    if low > pairs / 20 and low > 10 * high:
        return Encoding("utf-16-le", explicit=False)
    if high > pairs / 20 and high > 10 * low:
        return Encoding("utf-16-be", explicit=False)
    return Encoding("utf-8", explicit=False)


def _look_up(encoding: str) -> str:
    try:
        "a".encode(encoding)  # refuses codecs that are no text encodings, such as base64
        codecs.getincrementaldecoder(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError, ValueError) as error:
        raise InputError(
            f"encoding {encoding!r} is unknown; write it as utf-8, cp1252, iso8859-15, cp1250, utf-16 or shift_jis, or "
            "leave it out to have it recognised"
        ) from error


def recode(pieces: Iterable[bytes], encoding: Encoding, path: Path) -> Iterator[bytes]:
    """Yield `pieces` of a file as UTF-8, without a byte order mark.

    Of one that is read line by line only the mark is taken away: see `to_utf8`. Raises `InputError` that names the
    line with a byte that does not fit an explicit encoding.
    """
    first = True
    if encoding.by_line:
        for piece in pieces:
            yield piece.removeprefix(codecs.BOM_UTF8) if first else piece
            first = False
        return
    decoder = codecs.getincrementaldecoder(encoding.name)()
    lines = 0
    for piece, final in _mark_last(pieces):
        try:
            text = decoder.decode(piece, final)
        except UnicodeError as error:
            raise _undecodable(error, encoding, path, lines) from error
        if first and text:
            text, first = text.removeprefix(BOM), False
        lines += text.count("\n")
        yield text.encode("utf-8", "replace")


def _mark_last(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for piece in pieces:
        yield piece, False
    yield b"", True


def _undecodable(error: UnicodeError, encoding: Encoding, path: Path, lines: int) -> Exception:
    if isinstance(error, UnicodeDecodeError):
        before = error.object[: error.start].decode(encoding.name, "replace")
        line = lines + before.count("\n") + 1
        byte = error.object[error.start : error.start + 1].hex()
        where = f"line {line:,} has the byte 0x{byte}, which is no {encoding.name}"
    else:
        where = f"it is no {encoding.name}: {error}"
    if not encoding.explicit:
        return ValueError(where)
    return InputError(f"{path}: {where}; name the encoding it was saved in, or leave it out to have it recognised")


def to_utf8(block: bytes, has_foreign_lines: Callable[[], bool]) -> bytes:
    """Recode every line of `block` that is not UTF-8 from Windows-1252, in which almost every byte is a character.

    A few lines of Windows-1252 are UTF-8 by chance, such as `CAFÉ–`. They are told by their letters, and only in files
    with lines that are not: `has_foreign_lines` says so, and is called where it makes a difference.
    """
    if block.isascii():
        return block
    if is_utf8(block) and not (_may_be_chance(block) and has_foreign_lines()):
        return block
    return b"\n".join(map(_line_to_utf8, block.split(b"\n")))


def _may_be_chance(block: bytes) -> bool:
    """Whether UTF-8 has characters that are not those of western languages."""
    codes = np.frombuffer(block, np.uint8)
    leads = codes[codes >= 0xC0]
    return bool(((leads != 0xC3) & (leads != 0xC2) & (leads != 0xE2)).any())


def is_utf8(block: bytes) -> bool:
    """Whether all of `block` is UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_to_utf8(line: bytes) -> bytes:
    if line.isascii() or (is_utf8(line) and not _is_chance(line)):
        return line
    try:
        return line.decode("cp1252").encode()
    except UnicodeDecodeError:  # five bytes have no character there; browsers read them as in latin-1
        return b"".join(_byte_to_utf8(line[n : n + 1]) for n in range(len(line)))


def _is_chance(line: bytes) -> bool:
    leads = [byte for byte in line if byte >= 0xC0]
    return len(leads) <= _CHANCE and not any(byte in _WESTERN for byte in leads)


def _byte_to_utf8(byte: bytes) -> bytes:
    try:
        return byte.decode("cp1252").encode()
    except UnicodeDecodeError:
        return byte.decode("latin-1").encode()
