"""Relocation of a home: the local store's addresses follow `USUAL_HOME` when that was copied or moved.

MLflow stores absolute addresses of artifacts. A copy of the home would go on reading and writing in the original, so
the home that the addresses were made for is recorded in the store, and all are rewritten when it is another one.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from features.common.errors import InputError
from features.common.paths import home
from training.config import MlflowConfig

_HOME_TAG = "usual.home"  # on every experiment of a store that lies in a home
_ARTIFACTS = "artifacts"
_SQLITE = "sqlite:///"
_TIMEOUT_S = 30
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("datasets", "dataset_source"),
)


def relocate(config: MlflowConfig) -> bool:
    """Rewrite the store's addresses where its home has moved, in one transaction; returns whether it had.

    Only of a SQLite store that lies in the home: one elsewhere may serve several. Raises `InputError` if it cannot be
    written.
    """
    here = home()
    database = Path(config.uri.removeprefix(_SQLITE)).absolute()
    if not config.uri.startswith(_SQLITE) or not database.is_relative_to(here) or not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database, _TIMEOUT_S, isolation_level=None)) as connection:
            if not _is_ready(connection) or not _homes_to_record(connection, here, config):
                return False
            connection.execute("BEGIN IMMEDIATE")
            moved_from = [old for old in _homes_to_record(connection, here, config) if not _is_same(old, here)]
            for old in moved_from:
                _rewrite(connection, old, here)
            connection.execute(
                "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) "
                "SELECT ?, ?, experiment_id FROM experiments",
                (_HOME_TAG, str(here)),
            )
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(
            f"{here} was copied or moved, and the addresses in {database} cannot be changed ({error}); "
            "it must be writable"
        ) from error
    return bool(moved_from)


def _is_ready(connection: sqlite3.Connection) -> bool:
    """Whether MLflow has made its tables: the first process that opens a store is still at it otherwise."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {"experiments", "experiment_tags", *(table for table, _ in _ADDRESSES)} <= tables


def _homes_to_record(connection: sqlite3.Connection, here: Path, config: MlflowConfig) -> list[Path]:
    """Return every home that the store's addresses were made for, unless all of them are recorded as `here`."""
    rows = connection.execute(
        "SELECT e.artifact_location, t.value FROM experiments e LEFT JOIN experiment_tags t "
        "ON t.experiment_id = e.experiment_id AND t.key = ?",
        (_HOME_TAG,),
    ).fetchall()
    if all(recorded == str(here) for _, recorded in rows):
        return []
    homes = {Path(recorded) for _, recorded in rows if recorded}
    for location, recorded in rows:
        # Experiments of before homes were recorded: theirs is the directory around the artifacts.
        path = None if recorded or config.artifact_location else _local_path(location)
        if path is not None and path.name == _ARTIFACTS:
            homes.add(path.parent)
    return sorted({*homes, here})


def _local_path(location: str | None) -> Path | None:
    if not location or not location.startswith("file://"):
        return None
    return Path(unquote(urlsplit(location).path))


def _is_same(old: Path, here: Path) -> bool:
    """Whether both are the same directory, also by a link or another mount."""
    try:
        return old == here or old.samefile(here)
    except OSError:
        return False


def _rewrite(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    for before, after in _spellings(old, new):
        for table, column in _ADDRESSES:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, length(?) + 1) "  # noqa: S608
                f"WHERE {column} = ? OR substr({column}, 1, length(?) + 1) = ? || '/'",
                (after, before, before, before, before),
            )


def _spellings(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """The beginnings of addresses in either home: as a path, as a URI, and in a data set's source."""
    yield str(old), str(new)
    yield old.as_uri(), new.as_uri()
    for before, after in ((str(old), str(new)), (old.as_uri(), new.as_uri())):
        yield f'{{"uri": {json.dumps(before)[:-1]}', f'{{"uri": {json.dumps(after)[:-1]}'
