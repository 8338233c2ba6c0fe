"""From a bundle directory to a Bento: the model, the code that reads it, and pinned requirements."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml

from features.common.errors import InputError
from features.common.paths import bentoml_home

# The checkout: bentofile.yaml and the packages beside it.
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "models", "serving")

BENTO = "the-usual"
MODEL = "usual"

# BentoML takes 63 characters, of which nine name the content.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,52}[a-z0-9])?")


@dataclass(frozen=True)
class PackagedBento:
    """A built Bento: `bentoml serve TAG` with BENTOML_HOME set, or `usual serve`."""

    tag: str
    model_tag: str
    path: Path


def package(bundle_dir: Path, name: str = BENTO, *, version_label: str) -> PackagedBento:
    """Build the Bento `name` around the bundle in `bundle_dir`, and make it the latest.

    `version_label` is the model's version in the registry; answers name it. The same bundle under the
    same label is stored once, however often it is packaged. Raises InputError.
    """
    bundle_dir = bundle_dir.resolve()
    if not (bundle_dir / "manifest.json").is_file():
        raise InputError(f"{bundle_dir} is no bundle: it has no manifest.json; `usual train` writes bundles")
    if not _LABEL.fullmatch(version_label):
        raise InputError(
            f"{version_label!r} cannot be a version: use up to 54 of a-z, 0-9, '.', '_' and '-', with a "
            "letter or digit at both ends"
        )
    if name.isidentifier() and importlib.util.find_spec(name) is not None:
        raise InputError(
            f"a Bento cannot be called {name!r}: `bentoml serve {name}:…` imports the Python module of that "
            f"name first; call it {BENTO!r}"
        )
    model_tag = f"{MODEL}:{version_label}-{_digest(bundle_dir)}"
    version = f"{version_label}-{uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="usual-package-") as stage:
        _stage(Path(stage), name, model_tag)
        path = _build(Path(stage), bundle_dir, model_tag, version_label, version)
    return PackagedBento(f"{name}:{version}", model_tag, path)


def environment() -> dict[str, str]:
    """This process's environment, with BentoML's stores in our home and its reporting off."""
    return {**os.environ, "BENTOML_HOME": str(bentoml_home()), "BENTOML_DO_NOT_TRACK": "true"}


def _digest(directory: Path) -> str:
    """Eight hex digits of the names and contents of all files in `directory`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0" + content.digest())
    return digest.hexdigest()[:8]


def _stage(stage: Path, name: str, model_tag: str) -> None:
    # BentoML walks its whole build directory: in a checkout that is the virtual environment too.
    bentofile = ROOT / "bentofile.yaml"
    if not bentofile.is_file():
        raise InputError(f"there is no {bentofile}; package from a checkout (`pip install -e .`)")
    for package_name in PACKAGES:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package_name, stage / package_name, ignore=skip)
    options = yaml.safe_load(bentofile.read_text())
    options["name"] = name
    options["models"][0]["tag"] = model_tag
    (stage / "bentofile.yaml").write_text(yaml.safe_dump(options))


def _build(stage: Path, bundle_dir: Path, model_tag: str, label: str, version: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "serving.deploy.build", str(bundle_dir), model_tag, label, version],
        cwd=stage,
        env=environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"the Bento could not be built:\n{done.stderr.strip()[-2000:]}")
    return Path(done.stdout.strip().splitlines()[-1])
