"""A home restored from a backup, at another place: the commands work from it, and the old place stays empty."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from serving.deploy.server import find_free_port
from tests.e2e.conftest import ROOT, Run, TrainedShop, run_in

pytestmark = pytest.mark.e2e


@pytest.fixture
def moved(shop: TrainedShop, tmp_path: Path) -> Iterator[Path]:
    """A copy of the home; the original is renamed away meanwhile."""
    copy, away = tmp_path / "restored", shop.home.with_name("away")
    shutil.copytree(shop.home, copy, symlinks=True)
    shop.home.rename(away)
    try:
        yield copy
        assert not shop.home.exists()
    finally:
        shutil.rmtree(shop.home, ignore_errors=True)
        away.rename(shop.home)


def test_every_command_works_from_the_copy(shop: TrainedShop, moved: Path, tmp_path: Path) -> None:
    run = run_in(moved)
    out = tmp_path / "recommendations.parquet"
    run("recommend", "--k", 10, "--out", out)
    assert pl.read_parquet(out).equals(pl.read_parquet(shop.recommendations))
    model = ("--model", "models:/usual@champion", "--log", shop.log, "--to", "2026-05-31", "--json")
    assert json.loads(run("evaluate", "--from", shop.until, *model).stdout)["one_to_one_queries"] > 20
    assert json.loads(run("promote", "--json").stdout)["champion"] == "1"
    bento = json.loads(run("package", "--json").stdout)
    assert Path(bento["path"]).is_relative_to(moved)
    _see_the_report(moved, run)


def _see_the_report(home: Path, run: Run) -> None:
    """Read an artifact through the server of `usual ui`."""
    port = find_free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("USUAL_", "MLFLOW_"))}
    server = subprocess.Popen(
        [sys.executable, "-m", "usual", "ui", "--port", str(port)],
        cwd=ROOT,
        env=environment | {"USUAL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for _ in range(240):
                assert server.poll() is None, "the server has stopped"
                try:
                    if client.get("/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
            body = {"experiment_ids": ["1"], "max_results": 1}
            (found,) = client.post("/api/2.0/mlflow/runs/search", json=body).json()["runs"]
            report = client.get("/get-artifact", params={"path": "report.html", "run_uuid": found["info"]["run_id"]})
            assert report.is_success
            assert "ndcg" in report.text.lower()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
