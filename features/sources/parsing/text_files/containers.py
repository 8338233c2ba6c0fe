"""Containers: gzip, zip, bzip2 and xz around a file, recognised by its first bytes whatever its name."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal, cast

from features.common.errors import InputError

Compression = Literal["gzip", "zip", "bzip2", "xz"]

DAMAGE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
ERRORS = (*DAMAGE, OSError, EOFError, NotImplementedError)
DEEPEST = 3  # containers in each other
ZIP = b"PK\x03\x04"
SIGNATURES: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gzip"), (ZIP, "zip"), (b"PK\x05\x06", "zip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"),
)  # fmt: skip
# What is a zip file to its first bytes and a workbook to everybody else.
WORKBOOKS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")
_UNPACK: dict[Compression, Callable[[IO[bytes]], IO[bytes]]] = {
    "gzip": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    "bzip2": lambda file: cast(IO[bytes], bz2.BZ2File(file)),
    "xz": lambda file: cast(IO[bytes], lzma.LZMAFile(file)),  # noqa: SIM115  (`open_bytes` closes it)
}
_LISTED = 8  # names in a message


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[BinaryIO, tuple[Compression, ...]]]:
    """Open `path` for reading, unpacked as it is read, with the names of the containers around it.

    A workbook is not unpacked. Raises `InputError` for a zip file that holds no file or several tables, and what is in
    `ERRORS` for a damaged container or one that is cut short.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        layers: list[Compression] = []
        while kind := _detect(file):
            if len(layers) == DEEPEST:
                raise InputError(f"{path}: {', '.join(layers)} in each other; unpack it first")
            if kind == "zip":
                if layers:  # a zip file is read from its end
                    file = io.BufferedReader(cast(io.RawIOBase, io.BytesIO(file.read())))
                archive = stack.enter_context(zipfile.ZipFile(file))
                if any(name in WORKBOOKS for name in archive.namelist()):
                    file.seek(0)
                    break
                unpacked = _open_member(path, archive)
            else:
                unpacked = _UNPACK[kind](file)
            layers.append(kind)
            file = io.BufferedReader(stack.enter_context(cast(io.RawIOBase, unpacked)), 1 << 16)
        yield file, tuple(layers)


def _detect(file: io.BufferedReader) -> Compression | None:
    start = file.peek(8)[:8]
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("it is packed with zstd; unpack it first (`zstd -d` does it)")
    return next((kind for magic, kind in SIGNATURES if start.startswith(magic)), None)


def _open_member(path: Path, archive: zipfile.ZipFile) -> IO[bytes]:
    member = _choose_member(path, archive)
    if member.flag_bits & 1:
        raise InputError(f"{path}: {member.filename} in it is protected by a password; unpack it first")
    return archive.open(member)


def _choose_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one table in the archive; what systems and senders add to it does not count."""
    files = [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and "__MACOSX" not in info.filename
        and not PurePosixPath(info.filename).name.startswith(".")
    ]
    tables = [f for f in files if not PurePosixPath(f.filename).stem.lower().startswith(("readme", "license"))]
    if len(found := tables or files) == 1:
        return found[0]
    if not found:
        raise InputError(f"{path} is a zip file with no file in it")
    names = ", ".join(f.filename for f in found[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise InputError(
        f"{path} is a zip file with {len(found)} files in it: {names}{more}. Unpack it and name those to be read"
    )
