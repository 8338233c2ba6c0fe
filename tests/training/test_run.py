"""One training run from the log to the registry: what MLflow shows an analyst, and the registered model."""

import json
import re
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from features.common.clock import DAY, iso
from features.common.errors import InputError
from features.event_log.log import EventLog
from models import bundle as module
from models.bundle import RECOMMENDERS, Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender, load
from tests.conftest import SHOP_ENDS
from tests.training.conftest import Run
from training import recipe
from training.config import GateConfig
from training.evaluation.metrics import PER_QUERY
from training.promotion.promote import promote
from training.reports import samples
from training.reports import text as report
from training.result import TrainingResult
from training.tracking import metric_names, mlflow_client, registry

ROOT = Path(module.__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def client(run: Run) -> MlflowClient:
    return mlflow_client.connect(run.config)


@pytest.fixture(scope="module")
def record(run: Run, client: MlflowClient) -> MlflowRun:
    return client.get_run(run.logged.run_id)


@pytest.fixture(scope="module")
def model(run: Run) -> Path:
    """The registered model's files."""
    mlflow.set_tracking_uri(run.config.uri)
    return Path(mlflow.artifacts.download_artifacts(run.logged.model_uri))


def test_the_hold_out_is_the_last_horizon(result: TrainingResult):
    assert result.until == SHOP_ENDS
    assert result.holdout == (SHOP_ENDS - 10 * DAY, SHOP_ENDS)
    assert result.boundaries == [SHOP_ENDS - d * DAY for d in (10, 17, 24, 31)]
    assert set(result.bundle.recommenders) == set(result.evaluations) == set(result.rows) == set(RECOMMENDERS)
    assert result.bundle.snapshot.as_of == SHOP_ENDS
    assert all(e.per_query.height > 20 for e in result.evaluations.values())


def test_the_recommender_beats_chance(result: TrainingResult):
    """Half of what this shop sells is bought out of habit; a random list would hold one in six of the items."""
    summary = result.evaluations["one_to_one"].summary
    assert summary["hit_rate_at_10"] > 0.35
    assert summary["ndcg_at_10_low"] > 0.1
    assert summary["candidate_recall_union"] > 0.5


def test_parameters_are_the_recipe(record: MlflowRun, result: TrainingResult):
    parameters = record.data.params
    assert parameters["one_to_one.ranker.leaves"] == "7"
    assert parameters["predictive.budgets.popular"] == "15"
    assert parameters["generators.als.factors"] == "6"
    assert parameters["until"] == iso(SHOP_ENDS)
    assert set(result.recipe.model_dump()) <= {p.split(".")[0] for p in parameters}


def test_metrics_are_the_evaluations(record: MlflowRun, result: TrainingResult, client: MlflowClient):
    metrics = record.data.metrics
    for name in RECOMMENDERS:
        summary = result.evaluations[name].summary
        for metric, value in summary.items():
            assert metrics[metric_names.mlflow_name(f"{name}_{metric}")] == pytest.approx(value)
        assert {"ndcg_at_10", "recall_at_20", "coverage", "gini", "novelty"} <= set(summary)
        assert metrics[f"headline/{name}_ndcg_at_10"] == metrics[f"{name}_ndcg_at_10"]
    assert np.isfinite(list(metrics.values())).all()
    assert record.outputs
    (output,) = record.outputs.model_outputs
    logged = {m.key: m.value for m in client.get_logged_model(output.model_id).metrics or ()}
    assert logged == pytest.approx(metric_names.to_mlflow_metrics(result.bundle.metrics))


def test_metrics_of_the_gate_keep_their_names_and_others_are_in_sections(record: MlflowRun):
    """An analyst's charts have a section for what comes before the last slash."""
    metrics = record.data.metrics
    plain = {m for m in metrics if "/" not in m}
    assert {f"{n}_{m}" for n in RECOMMENDERS for m in (*PER_QUERY, "coverage", "over_best_baseline")} <= plain
    assert len(plain) <= 14 * len(RECOMMENDERS)
    sections: dict[str, list[str]] = {}
    for metric in metrics.keys() - plain:
        section, _, leaf = metric.rpartition("/")
        sections.setdefault(section, []).append(leaf)
    assert min(sections) == "headline"
    assert {"als", "history", "union"} <= set(sections["one_to_one/candidate_recall"])
    assert len(sections["one_to_one/ndcg_at_10_by_segment"]) > 3
    assert "popular" in sections["predictive/baseline_ndcg_at_10"]
    assert set(sections["one_to_one/size"]) == {"queries", "trees"}
    assert not [s for s in sections if "more" in s and len(sections[s]) > 3]  # nearly all metrics have a section


def test_runs_are_named_after_what_differs_from_the_default(
    record: MlflowRun, result: TrainingResult, client: MlflowClient
):
    assert record.info.run_name.startswith(iso(SHOP_ENDS)[:10])
    assert "horizon_days=10" in record.info.run_name
    assert "one_to_one.ranker.leaves=7" in record.data.tags["recipe_changes"]
    note = record.data.tags["mlflow.note.content"]
    assert f"{result.evaluations['one_to_one'].summary['ndcg_at_10']:.3f}" in note
    experiment = client.get_experiment(record.info.experiment_id)
    assert "report.html" in experiment.tags["mlflow.note.content"]


def test_the_data_set_describes_the_events_trained_on(record: MlflowRun, result: TrainingResult, event_log: EventLog):
    assert record.inputs
    (data,) = record.inputs.dataset_inputs
    profile = json.loads(str(data.dataset.profile))
    assert data.dataset.digest.startswith(f"{event_log.fingerprint}-")
    assert profile["events_in_log"] == event_log.info["rows"]
    assert profile["events_before_cut_off"] == event_log.scan().collect().height  # the log ends at the cut-off
    assert profile["cut_off"] == iso(SHOP_ENDS)
    assert {profile[f"training_rows_{name}"] for name in RECOMMENDERS} == set(result.rows.values())
    assert min(result.rows.values()) > 0
    assert profile["boundaries"] == [iso(at) for at in result.boundaries]
    assert [profile["holdout_from"], profile["holdout_to"]] == [iso(at) for at in result.holdout]
    queries = {e.per_query.height for e in result.evaluations.values()}
    assert {profile[f"holdout_queries_{n}"] for n in RECOMMENDERS} == queries


def test_plots_and_samples_are_logged(run: Run, client: MlflowClient, result: TrainingResult):
    def files(folder: str | None = None) -> set[str]:
        return {a.path for a in client.list_artifacts(run.logged.run_id, folder)}

    kinds = ("importance", "candidate_recall", "against_baselines")
    assert {f"plots/{name}_{what}.png" for name in RECOMMENDERS for what in kinds} <= files("plots")
    assert "plots/one_to_one_ndcg_by_segment.png" in files("plots")
    assert {f"evaluation/{name}.json" for name in RECOMMENDERS} <= files("evaluation")
    assert {"report.html", "MODEL_CARD.md", "recipe.yml", "sample_recommendations.json"} <= files()
    sample = mlflow.load_table("sample_recommendations.json", run_ids=[run.logged.run_id])
    assert {"customer", "segment", "rank", "title", "item_id"} <= set(sample.columns)
    (ranking,) = BundleRecommender(result.bundle).recommend([RankingRequest(10)])
    assert sample[sample["customer"] == samples.ANONYMOUS]["item_id"].to_list() == ranking.item_ids
    table = mlflow.load_table("evaluation/one_to_one.json", run_ids=[run.logged.run_id])
    assert len(table) == len(result.evaluations["one_to_one"].per_query)
    assert "customer_id" not in table.columns


def test_the_logged_recipe_is_the_runs(run: Run, result: TrainingResult, tmp_path: Path):
    mlflow.set_tracking_uri(run.config.uri)
    path = mlflow.artifacts.download_artifacts(f"runs:/{run.logged.run_id}/recipe.yml", dst_path=str(tmp_path))
    assert recipe.load(Path(path)) == result.recipe


def test_pages_and_tables_name_no_customer(run: Run, result: TrainingResult):
    ids = set(result.bundle.snapshot.customers.values.to_pylist())
    for file in ("report.html", "MODEL_CARD.md", "sample_recommendations.json"):
        text = mlflow.artifacts.load_text(f"runs:/{run.logged.run_id}/{file}")
        assert not ids & set(re.findall(r"[\w-]+", text)), file


def test_a_model_card_describes_the_version(
    run: Run, client: MlflowClient, result: TrainingResult, event_log: EventLog
):
    card = client.get_model_version("shop", run.logged.version).description
    summary = result.evaluations["predictive"].summary
    for text in (
        event_log.fingerprint,
        f"usual train --log {event_log.path.name} --until {iso(SHOP_ENDS)}",
        f"{summary['ndcg_at_10']:.3f} ({summary['ndcg_at_10_low']:.3f} to {summary['ndcg_at_10_high']:.3f})",
        "| champions |",
        "lightgbm",
        "## Limits",
    ):
        assert text in card, text
    assert "challenger" in client.get_registered_model("shop").description


def test_the_model_is_registered_as_challenger(run: Run, client: MlflowClient):
    version = client.get_model_version_by_alias("shop", registry.CHALLENGER)
    assert str(version.version) == run.logged.version
    assert version.run_id == run.logged.run_id
    assert version.tags["holdout_from"] == iso(SHOP_ENDS - 10 * DAY)
    assert registry.version_label("models:/shop@challenger", run.config) == run.logged.version
    assert registry.version_label(run.logged.model_uri, run.config) == run.logged.version
    assert registry.version_label("somewhere/else", run.config) == "local"


def test_the_model_answers_like_the_recommender(run: Run, result: TrainingResult):
    mlflow.set_tracking_uri(run.config.uri)
    loaded = mlflow.pyfunc.load_model(run.logged.model_uri)
    customers = [*result.bundle.snapshot.customers.values.to_pylist()[:6], None, "somebody new"]
    ks = [1, 2, 3, 4, 5, 6, 7, 100]
    table = loaded.predict(pd.DataFrame({"customer_id": customers, "k": ks}))
    rankings = BundleRecommender(result.bundle).recommend(
        [RankingRequest(k, c) for c, k in zip(customers, ks, strict=True)]
    )
    assert list(table.columns) == ["customer_id", "item_id", "rank", "score", "strategy"]
    assert table["item_id"].to_list() == [i for r in rankings for i in r.item_ids]
    assert table["score"].to_list() == [s for r in rankings for s in r.scores]
    assert table["rank"].to_list() == [n for r in rankings for n in range(1, len(r.item_ids) + 1)]
    owners = [c for c, r in zip(customers, rankings, strict=True) for _ in r.item_ids]
    assert [None if pd.isna(c) else c for c in table["customer_id"]] == owners
    assert loaded.predict(pd.DataFrame({"customer_id": customers[:1]}))["item_id"].shape == (10,)


def test_a_frame_without_customers_is_refused(model: Path):
    from models.pyfunc import UsualModel

    pyfunc_model = UsualModel()
    pyfunc_model.recommender = load(model / "artifacts" / "bundle")
    with pytest.raises(InputError, match="needs a column customer_id, it has \\['customer'\\]"):
        pyfunc_model.predict(None, pd.DataFrame({"customer": ["c1"]}))
    with pytest.raises(InputError, match="k is 0; write how many items"):
        pyfunc_model.predict(None, pd.DataFrame({"customer_id": ["c1"], "k": [0]}))
    assert len(pyfunc_model.predict(None, pd.DataFrame({"customer_id": ["c1", "c2"], "k": [3, None]}))) == 3 + 10


def test_the_model_has_no_pickles_and_no_paths_of_the_trainer(model: Path, run: Run):
    own_address = f"artifact_path: {model.as_uri()}"  # where the store keeps the model: MLflow writes it down
    scratch = Path(tempfile.gettempdir())  # the name of a deleted directory reveals nothing
    private = [p for p in (ROOT, Path.home(), run.home) if not scratch.is_relative_to(p)]
    assert private
    assert not list((model / "code").rglob("*.pyc"))
    # Python itself leaves compiled files beside what it loads.
    for file in (f for f in model.rglob("*") if f.is_file() and f.suffix != ".pyc"):
        assert file.suffix not in (".pkl", ".pickle", ".joblib"), file
        if file.suffix not in (".npy", ".arrow", ".py"):
            text = file.read_text().replace(own_address, "")
            assert [str(p) for p in private if str(p) in text] == [], file.name
    assert (model / "MLmodel").is_file()
    assert (model / "code" / "features" / "event_log" / "schema.py").is_file()


def test_the_bundle_is_found_by_uri_and_by_directory(run: Run, result: TrainingResult, tmp_path: Path):
    path = registry.resolve_bundle("models:/shop@challenger", run.config)
    assert Bundle.load(path).info() == result.bundle.info()
    assert registry.resolve_bundle(str(path), run.config) == path
    with pytest.raises(InputError, match="neither a bundle directory nor a model URI"):
        registry.resolve_bundle(str(tmp_path), run.config)
    for uri in ("models:/shop@champion", "models:/shop/99", "models:/nothing/1", "runs:/0123/usual"):
        with pytest.raises(InputError, match=r"was not found at .*`usual train`"):
            registry.resolve_bundle(uri, run.config)


def test_the_terminal_text_says_where_the_run_is(result: TrainingResult, run: Run):
    text = report.render_run(result, run.logged)
    assert f"registered {run.logged.model_uri} as challenger" in text
    assert f"{result.evaluations['predictive'].summary['ndcg_at_10']:.4f}" in text
    assert json.loads(json.dumps(report.run_to_dict(result, run.logged)))["holdout"][1] == iso(SHOP_ENDS)


@pytest.mark.parametrize(("margin", "passes"), [(0.0, True), (-0.1, False)])
def test_two_versions_are_compared_on_events_newer_than_both(
    run: Run, client: MlflowClient, newer_log: EventLog, event_log: EventLog, margin: float, passes: bool
):
    """The same bundle twice: neither is better, so it passes unless it has to be better."""
    config = run.config.model_copy(
        update={"registered_model": f"twins {margin}", "gate": GateConfig(metric="predictive_mrr", margin=margin)}
    )
    client.create_registered_model(config.registered_model)
    trained = client.get_model_version("shop", run.logged.version)
    for alias in (registry.CHAMPION, registry.CHALLENGER):
        # Tags of another hold-out: only the newer events can tell.
        tags = trained.tags | {"log_fingerprint": alias}
        version = client.create_model_version(
            config.registered_model, str(trained.source), trained.run_id, tags=tags, model_id=trained.model_id
        )
        client.set_registered_model_alias(config.registered_model, alias, version.version)
    assert not promote(config).promoted
    with pytest.raises(InputError, match="there is no newer event to compare them on"):
        promote(config, event_log=event_log)
    verdict = promote(config, event_log=newer_log)
    assert verdict.promoted is passes
    assert f"hold-out {iso(SHOP_ENDS)} to {iso(SHOP_ENDS + 28 * DAY)}" in verdict.reason
    assert "predictive_mrr 0." in verdict.reason
