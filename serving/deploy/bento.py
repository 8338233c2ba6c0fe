"""Bento building: a bundle, the code that serves it, and pinned requirements as one deployable directory."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml

from features.common.errors import InputError
from features.common.paths import CODE_ROOT, bentoml_home, home, project_file
from features.common.subprocesses import module_command

# What the server imports; it needs nothing else of the code.
PACKAGES = ("features", "models", "serving")

BENTO = "the-usual"
MODEL = "usual"

# BentoML allows 63 characters, of which nine are a dash and the digest.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,52}[a-z0-9])?")


@dataclass(frozen=True)
class PackagedBento:
    """A built Bento; serve it with `usual serve`, or with `bentoml serve TAG` where BENTOML_HOME is set."""

    tag: str
    model_tag: str
    path: Path


def build_bento(bundle_dir: Path, name: str = BENTO, *, version_label: str) -> PackagedBento:
    """Build the Bento `name` around the bundle in `bundle_dir`, and make it the latest.

    `version_label` is the model's version in the registry, as `GET /v1/model` reports it. The same bundle under the
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
        path = _build_in_subprocess(Path(stage), bundle_dir, model_tag, version_label, version)
    return PackagedBento(f"{name}:{version}", model_tag, path)


def bentoml_variables() -> dict[str, str]:
    """Return environment variables that put BentoML's stores into our home and turn its usage reports off.

    `USUAL_HOME` is among them, as an absolute path: a subprocess may change its working directory.
    """
    return {"USUAL_HOME": str(home()), "BENTOML_HOME": str(bentoml_home()), "BENTOML_DO_NOT_TRACK": "true"}


def _digest(directory: Path) -> str:
    """Return eight hex digits that depend on the names and contents of all files in `directory`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0" + content.digest())
    return digest.hexdigest()[:8]


def _stage(stage: Path, name: str, model_tag: str) -> None:
    """Copy the packages and a bentofile.yaml for `model_tag` into the directory `stage`."""
    # BentoML walks its whole build directory: CODE_ROOT may be site-packages, or hold a virtual environment.
    for package in PACKAGES:
        shutil.copytree(CODE_ROOT / package, stage / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = yaml.safe_load(project_file("bentofile.yaml").read_text())
    options["name"] = name
    options["models"][0]["tag"] = model_tag
    (stage / "bentofile.yaml").write_text(yaml.safe_dump(options))


def _build_in_subprocess(stage: Path, bundle_dir: Path, model_tag: str, label: str, version: str) -> Path:
    command, env = module_command("serving.deploy.build", str(bundle_dir), model_tag, label, version, root=stage)
    process = subprocess.run(
        command,
        cwd=stage,
        env=env | bentoml_variables() | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise InputError(f"the Bento could not be built:\n{process.stderr.strip()[-2000:]}")
    return Path(process.stdout.strip().splitlines()[-1])
