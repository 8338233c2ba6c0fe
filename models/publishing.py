"""Publishing: the directory in which running servers watch for the current champion.

    current.json        what to serve: the name of the directory beside it, and the version in the registry
    VERSION-DIGEST/     a bundle; beside the current one the last undamaged one before it stays

The file is replaced as a whole, after the bundle is complete: a reader sees the old champion or the new one.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.common.errors import InputError
from features.common.locks import exclusive_lock
from features.common.paths import home, make_private
from features.common.yaml_config import describe_errors
from models.bundle import check_files, read_manifest

POINTER = "current.json"
CHAMPION_VARIABLE = "USUAL_CHAMPION"


class _Pointer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")  # a name in the directory, never a path
    version: str | None


@dataclass(frozen=True)
class PublishedBundle:
    """A published bundle and the version it is registered as."""

    path: Path
    version: str | None
    inode: int = 0
    """Of the directory: another one where its files were replaced, as by a repair or an erasure."""

    @classmethod
    def at(cls, path: Path, version: str | None) -> "PublishedBundle":
        """Build it with the inode of what lies at `path`; 0 where nothing does."""
        try:
            return cls(path, version, path.stat().st_ino)
        except OSError:
            return cls(path, version)


def publishing_dir() -> Path:
    """Return the directory: `USUAL_CHAMPION`, or `champion` in `USUAL_HOME`."""
    return Path(os.environ.get(CHAMPION_VARIABLE) or home() / "champion").expanduser().absolute()


def publish(
    bundle: Path, version: str | None, where: Path, instead_of: PublishedBundle | None = None
) -> PublishedBundle:
    """Make the bundle in directory `bundle` the one that servers watching `where` serve.

    Raises `InputError`, also if another bundle than `instead_of`, where given, is published by now.
    """
    read_manifest(bundle)
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    with exclusive_lock(where / ".publishing"):
        if instead_of is not None and read_current(where) != instead_of:
            raise InputError(f"another champion was published in {where} meanwhile; refresh that one")
        return _publish(bundle, version, where)


def _publish(bundle: Path, version: str | None, where: Path) -> PublishedBundle:
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()[:12]
    name = f"{version or 'local'}-{digest}"
    if not _is_whole(where / name):
        arriving, damaged = (where / f".{kind}-{uuid4().hex}" for kind in ("arriving", "damaged"))
        try:
            shutil.copytree(bundle, arriving)
            check_files(arriving)
            make_private(arriving)
            _sync(arriving)
            if (where / name).exists():  # servers that map its files keep them; nothing is written into them
                (where / name).rename(damaged)
            arriving.rename(where / name)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
            shutil.rmtree(damaged, ignore_errors=True)
    pointer = where / f".{POINTER}-{uuid4().hex}"
    with pointer.open("w") as file:
        file.write(_Pointer(bundle=name, version=version).model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    pointer.replace(where / POINTER)
    _sync(where, deep=False)
    (where / name).touch()
    _delete_old(where, name)
    return PublishedBundle.at(where / name, version)


def read_current(where: Path) -> PublishedBundle | None:
    """Read what is published in `where`; None if nothing is. Raises `InputError` where it cannot be read."""
    try:
        pointer = _Pointer.model_validate(json.loads((where / POINTER).read_bytes()))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        wrong = describe_errors(error)
        raise InputError(f"{where / POINTER} does not fit: {wrong}; `usual promote` writes it") from error
    except ValueError as error:
        raise InputError(f"{where / POINTER} is not JSON; `usual promote` writes it") from error
    return PublishedBundle.at(where / pointer.bundle, pointer.version)


def find_whole(where: Path, instead_of: PublishedBundle) -> PublishedBundle | None:
    """Find the newest undamaged bundle in `where` other than `instead_of`: for when that cannot be loaded."""
    others = [p for p in _bundles(where) if p != instead_of.path and _is_whole(p)]
    return PublishedBundle.at(others[0], others[0].name.rpartition("-")[0]) if others else None


def _is_whole(bundle: Path) -> bool:
    try:
        check_files(bundle)
    except (InputError, OSError):
        return False
    return True


def _sync(directory: Path, deep: bool = True) -> None:
    """Return once `directory`, with all that is in it if `deep`, is on disk."""
    for path in (*(directory.rglob("*") if deep else ()), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _bundles(where: Path) -> list[Path]:
    bundles = [p for p in where.glob("[!.]*") if (p / "manifest.json").is_file()]
    return sorted(bundles, key=lambda p: p.stat().st_mtime, reverse=True)


def _delete_old(where: Path, name: str) -> None:
    for left in where.glob(".*-*"):  # of a process that was killed; we hold the lock
        if left.name.startswith((".arriving-", ".damaged-", f".{POINTER}-")):
            shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)
    others = [p for p in _bundles(where) if p.name != name]
    spare = next((p for p in others if _is_whole(p)), None)  # for servers that find the current one damaged
    for old in others:  # servers that still map it keep it until they let go
        if old != spare:
            shutil.rmtree(old, ignore_errors=True)
