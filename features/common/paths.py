"""Paths: where commands keep what they produce, and where files that ship with the code lie."""

import importlib.util
import os
from pathlib import Path

from features.common.errors import InputError

# The directory that holds `features` and the packages beside it: a checkout, site-packages, or the code of a Bento.
CODE_ROOT = Path(__file__).resolve().parents[2]

_WORKING_DIRECTORY_FIRST = frozenset(("mlflow.yml",))  # files that a project may have its own version of


def home() -> Path:
    """Return `USUAL_HOME`, or `.usual` in the working directory; absolute, not created."""
    return Path(os.environ.get("USUAL_HOME") or ".usual").expanduser().absolute()


def bentoml_home() -> Path:
    """Return the directory of BentoML's model and Bento stores; what `bentoml` itself reads from BENTOML_HOME."""
    return home() / "bentoml"


def make_private(directory: Path) -> None:
    """Let only the owner read what lies in `directory`: files 0600, directories 0700. For files that hold ids."""
    directory.chmod(0o700)
    for folder, directories, files in os.walk(directory):
        for names, mode in ((directories, 0o700), (files, 0o600)):
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(mode)


def check_out_file(out: Path, *endings: str, option: str = "--out") -> None:
    """Raise `InputError` unless a file with one of `endings` can be written at `out`: before the work, not after it."""
    if out.suffix not in endings:
        raise InputError(f"{option} is {out}; its name must end in {' or '.join(endings)}")
    if out.is_dir():
        raise InputError(
            f"{option} is {out}, which is a directory; name a file in it, as {out / f'result{endings[0]}'}"
        )
    _check_parent(out, option)


def check_out_directory(out: Path, option: str = "--out") -> None:
    """Raise `InputError` unless files can be written into the directory `out`, which need not exist yet."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{option} is {out}, which is a file; name a directory")
    _check_parent(out / "file", option)


def _check_parent(out: Path, option: str) -> None:
    existing = next(parent for parent in out.absolute().parents if parent.exists())
    if not existing.is_dir():
        raise InputError(f"{option} is {out}, but {existing} is a file and no directory; choose another place")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{option} is {out}, but nothing may be written to {existing}; choose another place")


def project_file(name: str) -> Path:
    """Find a file that lies on top of a checkout, and in the package `usual` of an installed wheel.

    mlflow.yml of the working directory comes before either. Raises `InputError` where there is no such file.
    """
    working_directory = [Path(name)] if name in _WORKING_DIRECTORY_FIRST else []
    package = importlib.util.find_spec("usual")
    installed = [Path(folder) / name for folder in (package and package.submodule_search_locations) or ()]
    for path in (*working_directory, CODE_ROOT / name, *installed):
        if path.is_file():
            return path
    raise InputError(f"there is no {name} in {CODE_ROOT}, nor in an installed package `usual`; install The Usual anew")
