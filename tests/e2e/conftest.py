"""A shop from its events to recommendations, made once by the commands that a user types."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from training.recipe import DEFAULT_RECIPE

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_in(home: Path) -> Run:
    """Return a function: `run("train", "--log", log)` runs that command with its state in `home`."""

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("USUAL_", "MLFLOW_", "BENTOML_"))}
        process = subprocess.run(
            [sys.executable, "-m", "usual", *map(str, arguments)],
            cwd=ROOT,
            env=environment | {"USUAL_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert process.returncode == code, f"{arguments}: exit {process.returncode}\n{process.stdout}\n{process.stderr}"
        assert "Traceback" not in process.stderr
        return process

    return run


def recipe(path: Path, **changes: object) -> Path:
    """The default recipe with fewer boundaries and trees, so that it trains in seconds."""
    content = yaml.safe_load(DEFAULT_RECIPE.read_text()) | changes
    for recommender in ("one_to_one", "one_to_one_visit", "predictive"):
        content[recommender]["ranker"]["rounds"] = 80
    path.write_text(yaml.safe_dump(content))
    return path


class TrainedShop:
    """A simulated shop: its log, its home, and the output of the commands. The last weeks are left for evaluation."""

    until = "2026-05-03"

    def __init__(self, root: Path) -> None:
        self.home, self.log = root / "home", root / "log"
        self.run = run_in(self.home)
        size = ("--customers", 600, "--days", 150, "--seed", 3)
        self.ingested = json.loads(self.run("ingest", "simulated", "--out", self.log, *size, "--json").stdout)
        settings = recipe(root / "recipe.yml", boundaries=3)
        train = ("train", "--log", self.log, "--until", self.until, "--recipe", settings, "--json")
        self.trained = json.loads(self.run(*train).stdout)
        self.promoted = json.loads(self.run("promote", "--json").stdout)
        self.recommendations = root / "recommendations.parquet"
        self.run("recommend", "--k", 10, "--out", self.recommendations)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    return TrainedShop(tmp_path_factory.mktemp("shop"))
