"""After `usual erase --everywhere` the id is in no file of the installation, nor of the event log."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import TrainedShop, run_in
from tests.serving.deploy.installation import find, find_hashes

pytestmark = pytest.mark.e2e


@pytest.fixture
def home(shop: TrainedShop, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop.home, tmp_path / "home", symlinks=True))


def test_the_id_is_nowhere(shop: TrainedShop, home: Path, tmp_path: Path) -> None:
    log = Path(shutil.copytree(shop.log, tmp_path / "log"))
    customer = str(pl.read_parquet(shop.recommendations)["customer_id"][-1])  # the first is an example in the code
    assert len(find(home, customer)) >= 2, "in the champion and in MLflow's artifacts"
    run = run_in(home)
    report = json.loads(run("erase", customer, "--everywhere", "--log", log, "--json").stdout)
    assert sum(report["logs"].values()) > 0
    assert len(report["bundles"]) >= 2
    assert find(home, customer) == []
    assert find(log, customer) == []
    out = tmp_path / "lists.parquet"
    assert "unknown" in run("recommend", "--customers", _one(tmp_path, customer), "--out", out).stdout
    assert find_hashes(home, customer) == []
    assert report["seconds"] < 120


def test_only_its_owner_may_read_an_installation(shop: TrainedShop) -> None:
    """Whatever a command wrote, but for copies of the code, and for what BentoML keeps of itself."""
    everything = [path for root in (shop.home, shop.log) for path in (root, *root.rglob("*")) if not path.is_symlink()]
    nobodys = {"src", "code", "env", "client_id", "prometheus_multiproc_dir"}  # they name no visitor
    others = {p for p in everything if nobodys & set(p.relative_to(shop.home.parent).parts)}
    modes = {p: p.stat().st_mode & 0o777 for p in everything if p not in others and p.suffix != ".py"}
    assert len(modes) > 50
    assert {p: oct(mode) for p, mode in modes.items() if mode & 0o077} == {}


def _one(folder: Path, customer: str) -> Path:
    file = folder / "one.txt"
    file.write_text(f"{customer}\n")
    return file
