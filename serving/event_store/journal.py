"""The files of an open SQLite store: noticed when they are removed, before anything acknowledged is lost with them.

SQLite goes on writing to a write-ahead log that was removed, where nobody will find it. What is in it can be copied
into the database as long as a connection holds it open; then all connections of it must close before one opens anew,
as old and new ones would not see each other's locks. The order is kept by a lock on the directory, which holds across
processes: shared while a connection is used, exclusive to recover.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serving.event_store.protocol import StoreUnavailable

log = logging.getLogger("usual.events")

_SUFFIXES = ("", "-wal", "-shm")

_open: dict[Path, set["Journal"]] = defaultdict(set)  # of this process, which shares one -shm among its connections
_open_lock = threading.Lock()


class Journal:
    """The files behind `connection` to the database at `path`, as they are now. Raises StoreUnavailable."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
        self._names = [f"{path}{suffix}" for suffix in _SUFFIXES]
        self._directory: int | None = os.open(path.parent, os.O_RDONLY)
        try:
            with self._locked(fcntl.LOCK_SH):
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the write-ahead log
                self._files = self._stat()
        except BaseException:
            os.close(self._directory)
            raise
        with _open_lock:
            _open[path].add(self)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the files while the connection is used. Raises StoreUnavailable where one was removed or replaced."""
        with self._locked(fcntl.LOCK_SH):
            same = self._is_same()
            if same:
                yield
        if not same:
            self._recover()
            raise StoreUnavailable("down")

    def check(self) -> None:
        """Recover what was committed if the journal was removed meanwhile; the next use opens it anew."""
        if not self._is_same():
            self._recover()

    def close(self) -> None:
        """Let go of the directory; for when the connection closes."""
        with _open_lock:
            _open[self._path].discard(self)
            descriptor, self._directory = self._directory, None
        if descriptor is not None:
            os.close(descriptor)

    def _stat(self) -> list[tuple[int, int] | None]:
        return [_identity(name) for name in self._names]

    def _is_same(self) -> bool:
        return self._files[0] is not None and self._stat() == self._files

    def _recover(self) -> None:
        """Copy what the removed journal holds into the database, and close every connection of this process to it."""
        with self._locked(fcntl.LOCK_EX):
            if self._directory is None:
                raise StoreUnavailable("down")  # another thread was first
            is_saved = _identity(self._names[0]) == self._files[0] and self._checkpoint()
            with _open_lock:
                others = [journal for journal in _open[self._path] if journal._files == self._files]
            for journal in others:
                with suppress(sqlite3.Error):
                    journal._connection.close()
        for journal in others:
            journal.close()
        if is_saved:
            log.error("the journal of the event store was removed while it was open; what it held is kept")
        else:
            raise StoreUnavailable("down")

    def _checkpoint(self) -> bool:
        try:
            _, pages, done = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return False
        return bool(pages == done)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        descriptor = self._directory
        if descriptor is None:
            raise StoreUnavailable("down")  # closed by the recovery of another connection
        try:
            fcntl.flock(descriptor, kind)
        except OSError:  # a file system without such locks, or closed meanwhile
            if self._directory is None:
                raise StoreUnavailable("down") from None
            yield
            return
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
