"""Published files of a data set: found in a directory, or among the files named, by what their names begin with."""

from collections.abc import Sequence
from pathlib import Path

from features.common.errors import InputError


def find(paths: Sequence[Path], start: str, what: str) -> Path:
    """Find the one file whose name begins with `start`, in upper or lower case. Raises `InputError` otherwise."""
    matches = find_all(paths, start)
    if len(matches) != 1:
        names = ", ".join(sorted(path.name for path in _files(paths))) or "nothing"
        count = "none" if not matches else f"{len(matches)} ({', '.join(path.name for path in matches)})"
        raise InputError(f"{what} is one file whose name begins with {start!r}; there is {count} among {names}")
    return matches[0]


def find_all(paths: Sequence[Path], start: str) -> list[Path]:
    """Find the files whose names begin with `start`, in upper or lower case, sorted."""
    return sorted(path for path in _files(paths) if path.name.lower().startswith(start.lower()))


def _files(paths: Sequence[Path]) -> list[Path]:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; name the published files, or the directory that holds them")
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
