"""Who may import whom, and what may not be used at all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("features", "models", "training", "serving")
ALLOWED = {
    "features": {"features"},
    "models": {"features", "models"},
    "training": {"features", "models", "training"},
    "serving": {"features", "models", "serving"},
}
RUNS_CODE = {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}
FILES = sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imported(module: ast.Module) -> set[str]:
    """The dotted names a module imports anywhere in it, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import does not say which package it is of"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(module: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def unsafe(module: ast.Module) -> list[str]:
    """What runs code out of data: allow_pickle=True, yaml.load, eval, exec."""
    found = []
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        found += [
            f"allow_pickle, line {node.lineno}"
            for k in node.keywords
            if k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
        ]
        called = ast.unparse(node.func)
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"):
            found.append(f"{called}, line {node.lineno}")
        if called in ("np.load", "numpy.load") and "allow_pickle" not in {k.arg for k in node.keywords}:
            found.append(f"{called} does not say allow_pickle=False, line {node.lineno}")
    return found


def test_there_is_something_to_look_at():
    assert {f.relative_to(ROOT).parts[0] for f in FILES} == set(PACKAGES)
    assert len(FILES) > 40


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str):
    for file in (ROOT / package).rglob("*.py"):
        ours = packages(tree(file)) & {*PACKAGES, "usual", "tests", "benchmarks"}
        assert ours <= ALLOWED[package], f"{file.relative_to(ROOT)} imports {ours - ALLOWED[package]}"


def test_serving_needs_nothing_that_only_training_needs():
    for file in (ROOT / "serving").rglob("*.py"):
        assert not packages(tree(file)) & {"mlflow", "optuna", "matplotlib"}, file


def test_nothing_loads_code_from_data():
    for file in [*FILES, *sorted((ROOT / "usual").rglob("*.py"))]:
        module = tree(file)
        assert not packages(module) & RUNS_CODE, file
        assert unsafe(module) == [], file


def test_files_can_be_read_in_one_sitting():
    long = {f.relative_to(ROOT).as_posix(): n for f in FILES if (n := len(f.read_text().splitlines())) > 400}
    assert long == {}


def test_the_server_starts_without_the_trainers_libraries():
    code = (
        "import sys, serving.api.app, models.recommender\n"
        "print(*sorted({'mlflow', 'optuna', 'matplotlib', 'implicit', 'training'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import training.train", {"training"}),
        ("def f():\n    from training import train", {"training"}),
        ("from mlflow.models import set_model", {"mlflow"}),
        ("import features.event_log.log as log", {"features"}),
        ("'import training'", set()),
    ],
)
def test_imports_are_found_wherever_they_are(source: str, seen: set[str]):
    assert packages(ast.parse(source)) == seen


@pytest.mark.parametrize(
    ("call", "harmless"),
    [
        ("np.load(f, allow_pickle=False)", True),
        ("np.load(f, allow_pickle=flag)", False),
        ("np.load(f)", False),
        ("np.save(f, a, allow_pickle=False)", True),
        ("yaml.safe_load(t)", True),
        ("yaml.full_load(t)", False),
        ("eval(t)", False),
        ("table.eval(t)", True),
    ],
)
def test_what_runs_code_is_recognised(call: str, harmless: bool):
    assert (unsafe(ast.parse(call)) == []) is harmless
