"""One training run and one MLflow store, shared: making either takes seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.event_log import log
from features.event_log.ingestion import ingest
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.log import EventLog
from features.sources.simulator.shop import read
from tests.conftest import SHOP
from tests.training.recipes import small
from training.config import GateConfig, MlflowConfig
from training.result import LoggedRun, TrainingResult
from training.tracking import log_run, mlflow_client
from training.train import train


@pytest.fixture(scope="session")
def event_log(simulated: ParsedBatch, tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return ingest.ingest([simulated], tmp_path_factory.mktemp("logs") / "shop").log


@pytest.fixture(scope="session")
def newer_log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    """The same shop five weeks later: half of this log comes after the end of the other."""
    later = SHOP.model_copy(update={"start": SHOP.start + timedelta(days=35)})
    return ingest.ingest(read(later), tmp_path_factory.mktemp("logs") / "later").log


@pytest.fixture(scope="session")
def with_vectors(event_log: EventLog, tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    """The log of the shop, with random vectors in the catalog."""
    catalog = event_log.catalog()
    vectors = np.random.default_rng(5).normal(size=(catalog.height, 4)).astype(np.float32)
    with_column = catalog.with_columns(embedding=pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)))
    return log.write(
        tmp_path_factory.mktemp("logs") / "with vectors",
        event_log.scan().collect(),
        with_column,
        event_log.rejected(),
        event_log.links(),
    )


@pytest.fixture(scope="session")
def result(event_log: EventLog) -> TrainingResult:
    return train(event_log, small())


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowConfig]:
    """A fresh SQLite store in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    gate = GateConfig(metric="one_to_one_ndcg_at_10", margin=0.005)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USUAL_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
        config = MlflowConfig(experiment="shop", registered_model="shop", gate=gate)
        mlflow_client.connect(config)
        yield config


@dataclass(frozen=True)
class Run:
    """A training run as it was logged."""

    logged: LoggedRun
    config: MlflowConfig
    home: Path


@pytest.fixture(scope="session")
def run(result: TrainingResult, event_log: EventLog, store: MlflowConfig) -> Run:
    home = Path(store.uri.removeprefix("sqlite:///")).parent
    return Run(log_run.log_run(result, event_log, store), store, home)
