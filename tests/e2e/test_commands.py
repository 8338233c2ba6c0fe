"""The commands of the README, on a simulated shop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import polars as pl
import pytest

from serving.deploy.server import find_free_port
from tests.e2e.conftest import TrainedShop

pytestmark = pytest.mark.e2e


def test_ingest_accounts_for_every_row(shop: TrainedShop) -> None:
    counts = shop.ingested
    accounted = (
        sum(counts["kept"].values()) + counts["merged"] + counts["duplicates"] + sum(counts["rejected"].values())
    )
    assert accounted == counts["rows_read"] == counts["log"]["rows"] > 10_000


def test_train_registers_a_challenger_that_beats_popularity(shop: TrainedShop) -> None:
    metrics = shop.trained["metrics"]
    # The simulated customers have preferences to learn: popularity alone reaches about .2 on this shop.
    assert metrics["one_to_one_ndcg_at_10"] > 0.4
    assert metrics["predictive_ndcg_at_10"] > 0.15
    assert shop.promoted["promoted"] is True
    assert shop.promoted["champion"] == "1"


def test_recommend_ranks_everyone_once(shop: TrainedShop) -> None:
    table = pl.read_parquet(shop.recommendations)
    lists = table.group_by("customer_id").agg("rank", pl.col("item_id").n_unique().alias("distinct"))
    assert lists.height > 300
    assert all(ranks == list(range(1, 11)) for ranks in lists["rank"].list.sort().to_list())
    assert lists["distinct"].to_list() == [10] * lists.height


def test_features_writes_the_tables(shop: TrainedShop, tmp_path: Path) -> None:
    counts = json.loads(
        shop.run("features", "--log", shop.log, "--as-of", "2026-04-01", "--out", tmp_path / "t", "--json").stdout
    )
    for name in ("customers", "items", "history"):
        assert pl.read_parquet(tmp_path / "t" / f"{name}.parquet").height == counts[name] > 0
    assert json.loads((tmp_path / "t" / "snapshot.json").read_text())["as_of"] == "2026-04-01T00:00:00Z"


def test_customer_predictions_are_in_the_segments_and_in_an_explanation(shop: TrainedShop, tmp_path: Path) -> None:
    metrics = shop.trained["metrics"]
    assert metrics["predictive_propensity_7d_auc"] > 0.55
    assert metrics["predictive_next_category_hit_at_3"] > metrics["predictive_next_category_best_selling_hit_at_3"]
    out, model = tmp_path / "segments.parquet", ("--model", "models:/usual@champion")
    shop.run("segments", "--log", shop.log, "--as-of", shop.trained["until"], "--out", out, *model)
    table = pl.read_parquet(out).filter(pl.col("next_category").is_not_null())
    assert table["propensity_7d"].is_between(0, 1).all()
    expected = table.sort("propensity_7d").row(-1, named=True)
    explained = shop.run("explain", "--customer", expected["customer_id"], *model, "--json")
    profile = json.loads(explained.stdout)["profile"]
    for name in ("segment", "propensity_7d", "churn_risk_90d", "expected_value_365d", "next_category"):
        assert profile[name] == pytest.approx(expected[name])
    refused = shop.run("segments", "--log", shop.log, "--as-of", "2026-04-01", "--out", out, *model, code=2)
    assert "would know its future" in refused.stderr


def test_evaluate_backtests_the_model_on_later_events(shop: TrainedShop) -> None:
    model = ("--model", "models:/usual@champion", "--log", shop.log, "--to", "2026-05-31", "--json")
    metrics = json.loads(shop.run("evaluate", "--from", shop.until, *model).stdout)
    assert metrics["one_to_one_queries"] > 20
    assert metrics["one_to_one_ndcg_at_10"] > 0.3
    refused = shop.run("evaluate", "--from", "2026-04-01", *model, code=2)
    assert "would know its future" in refused.stderr


def test_rollback_without_a_predecessor_says_so(shop: TrainedShop) -> None:
    assert "nothing to go back to" in shop.run("rollback", code=2).stderr


def test_online_rankings_equal_batch_inference(shop: TrainedShop) -> None:
    """Build a Bento, serve it with `bentoml serve`, and rank for 100 customers, one by one and together."""
    bento = json.loads(shop.run("package", "--json").stdout)
    batch = pl.read_parquet(shop.recommendations).sort("customer_id", "rank")
    expected = dict(batch.group_by("customer_id", maintain_order=True).agg("item_id").iter_rows())
    customers = sorted(expected)[:100]
    assert len(customers) == 100
    port = find_free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USUAL_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", bento["tag"], "--host", "127.0.0.1", "--port", str(port)],
        cwd=shop.home,
        env=environment | {"BENTOML_HOME": str(shop.home / "bentoml"), "USUAL_OPEN": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _until_ready(client, server)
            alone = {c: _recommend(client, [c])[0] for c in customers}
            together = {}
            for start in range(0, 100, 16):
                group = customers[start : start + 16]
                together |= dict(zip(group, _recommend(client, group), strict=True))
            assert alone == together == {c: expected[c] for c in customers}
            assert client.get("/v1/model").json()["version"] == "1"
            unknown = client.post("/v1/recommendations", json={"requests": [{"client_id": "never-seen"}]}).json()
            assert unknown["results"][0]["fallback"]["why"] == "unknown_visitor"
            assert len(unknown["results"][0]["items"]) == 12
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _recommend(client: httpx.Client, customers: list[str]) -> list[list[str]]:
    body = {"requests": [{"customer_id": c, "placement": "search.rerank", "limit": 10} for c in customers]}
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == 200, response.text
    return [[item["item_id"] for item in result["items"]] for result in response.json()["results"]]


def _until_ready(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server has stopped"
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError("the server did not get ready in two minutes")
