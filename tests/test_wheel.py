"""What `make wheel` builds is complete: it installs and runs without the checkout."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("features", "models", "serving", "training", "usual")
ON_TOP = {"usual/mlflow.yml": "mlflow.yml", "usual/bentofile.yaml": "bentofile.yaml"}


def build(source: Path, target: str, out: Path) -> Path:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)], cwd=source, check=True)
    (built,) = out.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked sdist, so that the sdist must be complete, too."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    return target


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert files == tracked() | set(ON_TOP)
        for inside, on_top in ON_TOP.items():
            assert archive.read(inside) == (ROOT / on_top).read_bytes()


def test_the_sdist_holds_no_tests(sdist: Path):
    with tarfile.open(sdist) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames()}
    assert {*PACKAGES, "pyproject.toml", "mlflow.yml", "bentofile.yaml", "README.md", "LICENSE"} <= tops
    assert not tops & {"tests", "benchmarks", ".ci"}


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    """A command from the installed wheel; nothing is imported from the working directory or the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "usual", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(installed), "USUAL_THREADS": "1", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_is_the_metadatas(installed: Path, tmp_path: Path):
    (metadata,) = installed.glob("*.dist-info")
    assert run(installed, tmp_path, "--version") == f"usual {metadata.name.split('-')[1].removesuffix('.dist')}\n"


@pytest.mark.e2e
def test_the_demo_runs_from_the_wheel_beside_a_foreign_models_package(installed: Path, tmp_path: Path):
    for package in ("models", "features", "serving", "training"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('this is not ours')\n")
    printed = run(installed, tmp_path, "demo", "--customers", "500")
    assert "registered models:/usual/1 as challenger" in printed
    assert (tmp_path / ".usual" / "champion" / "current.json").is_file()
