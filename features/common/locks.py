"""File locks: one process at a time does the work that a lock file stands for.

The system releases a lock when its holder ends, however that ends: a killed process leaves none behind.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from features.common.errors import InputError


@contextlib.contextmanager
def exclusive_lock(path: Path, if_held: Callable[[str], str] | None = None, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which is created where it does not exist; with `remove` it is deleted at the end.

    Waits while another process holds it. With `if_held` it raises `InputError` instead, with the message that
    `if_held` returns for the holder's process id ("unknown" where the file does not say).
    """
    descriptor = _acquire(path, if_held)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, if_held: Callable[[str], str] | None) -> int:
    """An open descriptor of the file at `path`, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if if_held else 0))
            # The previous holder may have removed the file after it was opened here: such a lock keeps nobody out.
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise InputError(if_held(holder) if if_held else f"{path} is locked by process {holder}") from None
        os.close(descriptor)
