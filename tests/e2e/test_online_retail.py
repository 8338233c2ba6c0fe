"""Real data: the counts of the ingest, and recommendations scored by a script that is independent of this code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import SHARED, recipe, run_in

DATA = SHARED / "data" / "online_retail_II.parquet"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not DATA.exists(),
        reason="needs UCI Online Retail II (doi 10.24432/C5CG6D) as ../shared/data/online_retail_II.parquet",
    ),
]


def test_ingest_train_recommend_score(tmp_path: Path) -> None:
    run = run_in(tmp_path / "home")
    log, recommendations = tmp_path / "log", tmp_path / "recs.parquet"
    counts = json.loads(run("ingest", "online-retail", DATA, "--out", log, "--json").stdout)
    assert counts["rows_read"] == 1_044_848
    assert counts["kept"]["refund"] > 17_000
    assert sum(counts["kept"].values()) + counts["merged"] + sum(counts["rejected"].values()) == 1_044_848
    # Three boundaries of the default recipe's twelve, a third of its queries and trees: nearly the quality.
    settings = recipe(tmp_path / "recipe.yml", boundaries=3, queries_per_boundary=1000)
    run("train", "--log", log, "--until", "2011-11-11", "--recipe", settings)
    run("recommend", "--model", "models:/usual@challenger", "--k", 100, "--out", recommendations)
    process = subprocess.run(
        [sys.executable, str(SHARED / "eval" / "score.py"), str(recommendations)],
        capture_output=True,
        text=True,
        check=True,
    )
    scores = json.loads(process.stdout)
    assert scores["all"]["customers"] == 1429
    assert scores["all"]["ndcg_at_10"] > 0.365
    assert scores["new_to_customer"]["ndcg_at_10"] > 0.125
