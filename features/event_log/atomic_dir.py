"""Atomic replacement of a directory: a reader sees the old one or the new one, never half of each.

The new directory is filled beside the old one and synced to disk; then the two swap names. A lock file beside the
directory keeps a second writer out, and a writer removes what a killed one left behind.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.common.locks import exclusive_lock
from features.common.paths import make_private

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryChange:
    """A directory in preparation: `path` is the current one, `new` the empty one that will take its place.

    `scratch` is for temporary files. Nothing happens to `path` before `commit`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new = path.with_name(f".{path.name}.{os.getpid()}.new")
        self.scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        for directory in (self.new, self.scratch):
            directory.mkdir(mode=0o700)

    def keep(self, name: str) -> None:
        """Take the file `name` over from the old directory: the same file under a second name, where it can be."""
        source, target = self.path / name, self.new / name
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            shutil.copy2(source, target)

    def commit(self) -> None:
        """Sync `new` to disk, readable by its owner alone, and put it in the place of `path`."""
        make_private(self.new)
        for directory, _, files in os.walk(self.new):
            for file in files:
                sync(Path(directory) / file)
            sync(Path(directory))
        _replace(self.new, self.path)
        sync(self.path.parent)

    def clear(self) -> None:
        """Remove both working directories; after `commit`, `new` is the name of the old directory."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.rmtree(self.new, ignore_errors=True)


@contextlib.contextmanager
def replace_directory(path: Path) -> Iterator[DirectoryChange]:
    """Prepare a new directory at `path`; it replaces the current one when the caller commits.

    Raises `InputError` where another process is at it, the disk is full, or the directory cannot be replaced; then
    the current one stays as it is.
    """
    real = path.resolve()
    if real.is_mount():
        raise InputError(f"{path} is a mount point, which cannot be replaced; name a directory inside it")
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(real.with_name(f".{real.name}.lock"), partial(_refusal, real), remove=True):
            _sweep(real)
            change = DirectoryChange(real)
            try:
                yield change
            finally:
                change.clear()
    except (OSError, pl.exceptions.PolarsError) as error:
        if reason := _explain(error, real):
            raise InputError(f"{reason}; {path} is as it was before") from error
        raise


def sync(path: Path) -> None:
    """Return once `path`, a file or a directory, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(path: Path, holder: str) -> str:
    return f"{path} is being written by process {holder}; try again when that has ended"


def _sweep(path: Path) -> None:
    """Finish or remove what a killed writer left. Only the holder of the lock may call this."""
    leftovers = [
        p for p in path.parent.iterdir() if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+\.(new|old|tmp)", p.name)
    ]
    for old in (p for p in leftovers if p.suffix == ".old"):
        if not path.exists():
            old.rename(path)
    for directory in leftovers:
        shutil.rmtree(directory, ignore_errors=True)


def _replace(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        new.rename(path)
        shutil.rmtree(old)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two directories in one step, where the kernel can (Linux renameat2, macOS renamex_np)."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            return bool(libc.renamex_np(os.fsencode(a), os.fsencode(b), 2) == 0)
        at_fdcwd, rename_exchange = -100, 2
        return bool(libc.renameat2(at_fdcwd, os.fsencode(a), at_fdcwd, os.fsencode(b), rename_exchange) == 0)
    except AttributeError:
        return False


def _explain(error: Exception, path: Path) -> str | None:
    """Explain an error that a person can do something about; None for others, which are bugs."""
    file = getattr(error, "filename", None)
    if isinstance(file, str | bytes | os.PathLike) and path.parent not in Path(os.fsdecode(file)).parents:
        return None  # a file that is read
    number = getattr(error, "errno", None)
    if number is None and (match := re.search(r"os error (\d+)", str(error))):  # in a message of Polars
        number = int(match[1])
    if number in _DISK_FULL:
        free = shutil.disk_usage(path.parent).free
        return f"no space left to write {path} ({free / 1e9:.1f} GB free in {path.parent}); free some"
    if number in (errno.EBUSY, errno.EXDEV):
        return f"{path} cannot be replaced: it is in use or on another disk than {path.parent}; name another directory"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path.parent} cannot be written to; change its permissions or name another directory"
    return None
