"""Which package and which room may import which, what may not be used at all, and how long a file may be."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "features": {"features"},
    "models": {"features", "models"},
    "training": {"features", "models", "training"},
    "serving": {"features", "models", "serving"},
    "usual": {"features", "models", "training", "serving", "usual"},
}
# Room → the rooms of the same package below it. A room is a folder, or a module that lies beside the folders.
ROOMS = {
    "features": {
        "common": "",
        "event_log": "common",
        "sources": "common event_log",
        "tables": "common event_log",
        "checks": "common event_log tables",
        "segments": "common event_log tables",
        "ranking": "common event_log tables",
    },
    "models": {
        "search_space": "",
        "timing": "",
        "candidates": "search_space",
        "customers": "candidates",
        "native_ranker": "",
        "ranker": "search_space native_ranker",
        "two_stage": "candidates ranker search_space timing",
        "bundle": "candidates customers ranker two_stage",
        "publishing": "bundle",
        "bundle_erasure": "bundle",
        "interface": "candidates two_stage",
        "availability": "",
        "self_check": "availability interface",
        "recommender": "availability candidates bundle customers interface two_stage",
        "explain": "candidates bundle customers interface ranker recommender two_stage",
        "pyfunc": "interface recommender",
    },
    "training": {
        "recipe": "",
        "guard": "",
        "config": "",
        "stopwatch": "",
        "dataset": "recipe",
        "evaluation": "dataset recipe",
        "customers": "",
        "result": "customers dataset evaluation guard recipe",
        "reports": "customers dataset evaluation recipe result stopwatch",
        "tracking": "config dataset evaluation recipe reports result",
        "promotion": "config dataset evaluation recipe tracking",
        "train": "customers dataset evaluation guard recipe result",
        "tuning": "config dataset evaluation recipe tracking",
        "run": "config dataset guard recipe result stopwatch tracking train",
        "batch_inference": "",
        "benchmarks": "dataset evaluation recipe train",
    },
    "serving": {
        "settings": "",
        "installation_secret": "settings",
        "logging": "",
        "metrics": "",
        "client": "",
        "schemas": "",
        "identity": "installation_secret metrics settings",
        "event_store": "identity schemas",
        "events": "event_store identity schemas",
        "rules": "metrics schemas",
        "recommend": "event_store events identity installation_secret metrics rules schemas settings",
        "api": "event_store events identity logging metrics recommend rules schemas settings",
        "service": "api event_store identity logging recommend settings",
        "deploy": "api client event_store recommend rules schemas settings",
    },
    "usual": {"cli": "", "__main__": "cli"},
}
# The same within a room that is large enough to have rooms of its own.
SUB_ROOMS = {
    "features.event_log": {
        "schema": "",
        "atomic_dir": "",
        "consent": "",
        "dedup": "",
        "stated_answers": "",
        "time_span": "",
        "catalog": "schema",
        "partitions": "dedup schema",
        "tombstones": "atomic_dir",
        "log": "atomic_dir catalog dedup partitions schema time_span tombstones",
        "identity_links": "atomic_dir log schema tombstones",
        "erase": "atomic_dir log partitions schema tombstones",
        "ingestion": "atomic_dir catalog consent dedup identity_links log partitions schema time_span tombstones",
    },
    "features.sources.parsing": {
        "cells": "",
        "text_files": "cells",
        "files": "cells text_files",
        "rows": "cells text_files files",
        "mapping": "cells text_files files rows",
        "catalog": "cells text_files files rows mapping",
        "events": "cells text_files files rows mapping catalog",
    },
}
LONGEST = 400
TYPED_ARRAYS = ("features/ranking", "models", "serving")
RUNS_CODE = {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}
FILES = sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imported(module: ast.Module) -> set[str]:
    """The dotted names a module imports anywhere in it, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import does not say which package it is of"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(module: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph(files: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module → the modules of `files` it imports; of a dotted name the longest part that is a module."""
    graph: dict[str, set[str]] = {}
    for name, module in files.items():
        targets = set()
        for dotted in imported(module):
            parts = dotted.split(".")
            known = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
            targets |= {next((part for part in known if part in files), name)}
        graph[name] = targets - {name}
    return graph


GRAPH = import_graph({module_name(file): tree(file) for file in FILES})


def room(module: str) -> str:
    """Its room within the package; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def upward(graph: dict[str, set[str]], rooms: dict[str, dict[str, str]]) -> list[str]:
    """Imports of another room that `rooms` does not allow."""
    wrong = []
    for module, targets in graph.items():
        package = module.partition(".")[0]
        for target in targets:
            here, there = room(module), room(target)
            if target.partition(".")[0] != package or there in ("", here) or not here:
                continue
            if there not in rooms[package][here].split():
                wrong.append(f"{module} imports {target}")
    return wrong


def sub_graph(graph: dict[str, set[str]], prefix: str) -> dict[str, set[str]]:
    """The part of `graph` below the room `prefix`, as if that room were a package of its own."""
    top = prefix.rpartition(".")[0] + "."
    inside = {name for name in graph if name == prefix or name.startswith(prefix + ".")}
    return {name.removeprefix(top): {t.removeprefix(top) for t in graph[name] & inside} for name in inside}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def unsafe(module: ast.Module) -> list[str]:
    """What runs code out of data: allow_pickle=True, yaml.load, eval, exec."""
    findings = []
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        findings += [
            f"allow_pickle, line {node.lineno}"
            for k in node.keywords
            if k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
        ]
        called = ast.unparse(node.func)
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"):
            findings.append(f"{called}, line {node.lineno}")
        if called in ("np.load", "numpy.load") and "allow_pickle" not in {k.arg for k in node.keywords}:
            findings.append(f"{called} does not say allow_pickle=False, line {node.lineno}")
    return findings


def arrays_without_dtype(module: ast.Module) -> list[int]:
    """The lines where `np.ndarray` is a type; in a call, such as isinstance, it is not."""
    values = {id(node) for call in ast.walk(module) if isinstance(call, ast.Call) for node in ast.walk(call)}
    return [
        node.lineno
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr == "ndarray" and id(node) not in values
    ]


def test_there_is_something_to_look_at():
    assert {f.relative_to(ROOT).parts[0] for f in FILES} == set(PACKAGES)
    assert len(FILES) > 40


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str):
    for file in (ROOT / package).rglob("*.py"):
        ours = packages(tree(file)) & {*PACKAGES, "tests", "benchmarks"}
        assert ours <= PACKAGES[package], f"{file.relative_to(ROOT)} imports {ours - PACKAGES[package]}"


def test_every_folder_and_module_is_a_room_that_is_listed_here():
    for package, rooms in ROOMS.items():
        assert {r for name in GRAPH if name.partition(".")[0] == package and (r := room(name))} == set(rooms)


def test_rooms_import_only_rooms_below_them():
    assert upward(GRAPH, ROOMS) == []


@pytest.mark.parametrize("prefix", SUB_ROOMS)
def test_rooms_within_a_room_import_only_those_below_them(prefix: str):
    graph, package = sub_graph(GRAPH, prefix), prefix.rpartition(".")[2]
    assert {r for name in graph if (r := room(name))} == set(SUB_ROOMS[prefix])
    assert upward(graph, {package: SUB_ROOMS[prefix]}) == []
    assert graph[package] == set(), "the room itself imports nothing of its rooms: no circle through its name"


def test_the_rooms_themselves_form_no_circle():
    for rooms in (*ROOMS.values(), *SUB_ROOMS.values()):
        assert circle({name: set(below.split()) for name, below in rooms.items()}) == []


def test_modules_form_no_circle_not_even_inside_a_room():
    assert circle(GRAPH) == []


def test_an_upward_import_and_a_circle_are_recognised():
    sources = {
        "p": "",
        "p.low.a": "def f():\n    from p.high import b",
        "p.high.b": "from p.low import a",
        "p.high.c": "import p.low.a as low",
    }
    graph = import_graph({name: ast.parse(text) for name, text in sources.items()})
    assert graph["p.high.c"] == {"p.low.a"}
    assert upward(graph, {"p": {"low": "", "high": "low"}}) == ["p.low.a imports p.high.b"]
    assert set(circle(graph)) == {"p.low.a", "p.high.b"}
    assert circle({"a": {"b"}, "b": set()}) == []
    assert sub_graph({"p.q": set(), "p.q.a.m": {"p.q.b.n", "p.x"}, "p.q.b.n": set(), "p.x": set()}, "p.q") == {
        "q": set(),
        "q.a.m": {"q.b.n"},
        "q.b.n": set(),
    }


def test_a_class_name_stands_for_one_class():
    names: dict[str, list[str]] = {}
    for file in FILES:
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(module_name(file))
    assert {name: modules for name, modules in names.items() if len(modules) > 1} == {}


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(t for extra in project["optional-dependencies"].values() for t in extra)]
    declared = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-") for text in texts}
    owners = packages_distributions()
    for file in FILES:
        for name in packages(tree(file)) - set(PACKAGES) - set(sys.stdlib_module_names):
            distributions = {d.lower().replace("_", "-") for d in owners.get(name, [name])}
            assert distributions & declared, (
                f"{file.relative_to(ROOT)} imports {name}, which pyproject.toml does not name"
            )


def test_serving_needs_nothing_that_only_training_needs():
    for file in (ROOT / "serving").rglob("*.py"):
        assert not packages(tree(file)) & {"mlflow", "optuna", "matplotlib"}, file


def test_nothing_loads_code_from_data():
    for file in FILES:
        module = tree(file)
        assert not packages(module) & RUNS_CODE, file
        assert unsafe(module) == [], file


def test_arrays_have_a_dtype_where_mypy_is_strict():
    """Of `features.common.arrays`, as a bare `np.ndarray` passes as an array of any dtype."""
    for room in TYPED_ARRAYS:
        for file in (ROOT / room).rglob("*.py"):
            assert arrays_without_dtype(tree(file)) == [], file.relative_to(ROOT)


def test_files_can_be_read_in_one_sitting():
    long = {f.relative_to(ROOT).as_posix(): n for f in FILES if (n := len(f.read_text().splitlines())) > LONGEST}
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


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ("def f(a: np.ndarray): ...", True),
        ("def f() -> tuple[int, np.ndarray | None]: ...", True),
        ("class C:\n    a: np.ndarray", True),
        ("Arrays = dict[str, np.ndarray]", True),
        ("isinstance(a, np.ndarray)", False),
        ("def f(a: npt.NDArray[np.int64]): ...", False),
        ("'np.ndarray'", False),
    ],
)
def test_an_array_without_a_dtype_is_recognised(source: str, bare: bool):
    assert (arrays_without_dtype(ast.parse(source)) != []) is bare
