"""A training run as MLflow shows it: parameters, metrics, data, plots, a sample, the registered bundle."""

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # read when mlflow is imported

import mlflow
import pandas as pd
from mlflow.data import sources
from mlflow.data.dataset import Dataset
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

import features
import models
from features.clock import iso
from features.errors import InputError
from features.log import EventLog
from models import pyfunc
from models.bundle import Bundle
from models.ranking import Request
from models.recommender import BundleRecommender
from training import plots
from training.config import MlflowConfig
from training.train import Result

CHALLENGER, CHAMPION = "challenger", "champion"
SERVING_PACKAGES = ("numpy", "scipy", "pydantic", "pyarrow", "polars", "narwhals", "lightgbm", "pandas")
SAMPLED_CUSTOMERS = 20


@dataclass(frozen=True)
class Logged:
    """Where a training run is to be found."""

    run_id: str
    experiment: str
    model_uri: str
    version: str
    tracking_uri: str


def connect(config: MlflowConfig) -> "mlflow.MlflowClient":
    """Point MLflow at the configured store. Raises `InputError` where it cannot be reached."""
    if config.uri.startswith("sqlite:///"):
        Path(config.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        # The first use of a SQLite store creates its tables and says so line by line.
        with _quiet():
            mlflow.set_tracking_uri(config.uri)
            client = mlflow.MlflowClient()
            if client.get_experiment_by_name(config.experiment) is None:
                client.create_experiment(config.experiment, artifact_location=config.artifacts)
    except MlflowException as error:
        raise InputError(f"MLflow cannot be reached at {config.uri}: {error.message}") from error
    return client


def log_run(result: Result, event_log: EventLog, config: MlflowConfig) -> Logged:
    """Log a training run and register its bundle with the alias challenger."""
    client = connect(config)
    mlflow.set_experiment(config.experiment)
    with mlflow.start_run(run_name=f"until {iso(result.until)[:10]}") as run:
        mlflow.log_params(_parameters(result))
        mlflow.set_tags(_tags(result, event_log))
        mlflow.log_input(EventLogDataset(event_log, result), context="training")
        for name, evaluation in result.evaluations.items():
            ranker = result.bundle.recommenders[name].ranker
            mlflow.log_figure(plots.importance(ranker.importance(), name), f"plots/{name}_importance.png")
            mlflow.log_figure(plots.segments(evaluation.per_query, name), f"plots/{name}_ndcg_by_segment.png")
            mlflow.log_table(evaluation.per_query.drop("customer_id").to_pandas(), f"evaluation/{name}.json")
        mlflow.log_table(_sample(result.bundle), "sample_recommendations.json")
        # Relative names from a scratch directory: MLmodel records the paths it is given, and the trainer's
        # are nobody's business.
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), _quiet():
            result.bundle.save(Path("bundle"))
            shutil.copy(pyfunc.__file__, "pyfunc.py")
            for package in (features, models):  # without compiled files: they name the trainer's directories
                source = Path(str(package.__file__)).parent
                shutil.copytree(source, source.name, ignore=shutil.ignore_patterns("__pycache__"))
            info = mlflow.pyfunc.log_model(
                name=config.registered_model,
                python_model="pyfunc.py",
                artifacts={"bundle": "bundle"},
                code_paths=["features", "models"],
                pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", *SERVING_PACKAGES)],
                signature=_SIGNATURE,
                input_example=pd.DataFrame({"customer_id": ["somebody-new"], "k": [3]}),
            )
        # One call: each costs a round trip to a remote server.
        mlflow.log_metrics(result.bundle.metrics, model_id=info.model_id)
        registered = _register(
            client, config.registered_model, info.model_uri, run.info.run_id, _tags(result, event_log)
        )
        client.set_registered_model_alias(config.registered_model, CHALLENGER, registered.version)
        return Logged(
            run_id=run.info.run_id,
            experiment=config.experiment,
            model_uri=f"models:/{config.registered_model}/{registered.version}",
            version=str(registered.version),
            tracking_uri=config.uri,
        )


def _register(client: "mlflow.MlflowClient", name: str, uri: str, run_id: str, tags: dict[str, str]) -> ModelVersion:
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name, description="Bundles of The Usual; see the aliases.")
    with _quiet():
        return client.create_model_version(
            name, source=uri, run_id=run_id, tags=tags, model_id=uri.removeprefix("models:/")
        )


def bundle_path(uri: str, config: MlflowConfig) -> Path:
    """The bundle directory behind a model: a directory, or an MLflow URI such as models:/usual@champion."""
    if (Path(uri) / "manifest.json").is_file():
        return Path(uri)
    if not uri.startswith(("models:/", "runs:/")):
        raise InputError(
            f"{uri} is neither a bundle directory nor a model URI; try models:/{config.registered_model}@champion"
        )
    connect(config)
    try:
        with _quiet():
            found = Path(mlflow.artifacts.download_artifacts(uri))
    except MlflowException as error:
        raise InputError(
            f"{uri} was not found at {config.uri} ({error.message}); `usual train` registers a model as "
            "challenger, `usual promote` makes it champion"
        ) from error
    return found / "artifacts" / "bundle"


def version_label(uri: str, config: MlflowConfig) -> str:
    """A short name for the model behind `uri`: its version in the registry, else `local`."""
    prefix = f"models:/{config.registered_model}"
    if uri.startswith(f"{prefix}@"):
        alias = uri.removeprefix(f"{prefix}@")
        return str(connect(config).get_model_version_by_alias(config.registered_model, alias).version)
    return uri.removeprefix(f"{prefix}/") if uri.startswith(f"{prefix}/") else "local"


_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", "customer_id", required=False), ColSpec("long", "k", required=False)]),
    outputs=Schema(
        [
            ColSpec("string", "customer_id"),
            ColSpec("string", "item_id"),
            ColSpec("long", "rank"),
            ColSpec("double", "score"),
            ColSpec("string", "strategy"),
        ]
    ),
)


class EventLogDataset(Dataset):
    """The events a run was trained on: which log, up to when, how many rows. Its digest is the log's fingerprint."""

    def __init__(self, event_log: EventLog, result: Result) -> None:
        self._profile = {
            "events_in_log": event_log.info["rows"],
            "events_before_cut_off": result.events,
            "cut_off": iso(result.until),
            "first_event": event_log.info["first"],
            "customers": len(result.bundle.snapshot.customers),
            "items": len(result.bundle.snapshot.items),
            **{f"training_rows_{name}": n for name, n in result.rows.items()},
        }
        # MLflow makes this class at import, where mypy cannot see it.
        source = sources.LocalArtifactDatasetSource(str(event_log.path.resolve()))  # type: ignore[attr-defined]
        super().__init__(source, event_log.path.name, event_log.fingerprint)

    def _compute_digest(self) -> str:
        return str(self.digest)

    @property
    def schema(self) -> None:
        return None

    @property
    def profile(self) -> dict[str, Any]:
        return self._profile

    def to_dict(self) -> dict[str, str]:
        return {**super().to_dict(), "profile": json.dumps(self._profile)}


def _parameters(result: Result) -> dict[str, Any]:
    """The recipe, flat: `one_to_one.ranker.leaves` and so on, the same names in every run."""
    return dict(_flat(result.recipe.model_dump())) | {"until": iso(result.until)}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tags(result: Result, event_log: EventLog) -> dict[str, str]:
    start, end = result.holdout
    return {
        "until": iso(result.until),
        "holdout_from": iso(start),
        "holdout_to": iso(end),
        "log_fingerprint": event_log.fingerprint,
    }


def _sample(bundle: Bundle) -> pd.DataFrame:
    """The top 10 of some customers, spread over the ids, and of someone unknown."""
    ids = bundle.snapshot.customers.values.to_pylist()
    step = max(1, len(ids) // SAMPLED_CUSTOMERS)
    requests = [Request(limit=10, customer_id=c) for c in [*ids[::step][:SAMPLED_CUSTOMERS], None]]
    rankings = BundleRecommender(bundle).recommend(requests)
    return pd.DataFrame(
        [
            (
                request.customer_id or "(unknown)",
                ranking.segment,
                ranking.strategy,
                rank,
                item,
                ", ".join(generators),
            )
            for request, ranking in zip(requests, rankings, strict=True)
            for rank, (item, generators) in enumerate(zip(ranking.item_ids, ranking.generators, strict=True), 1)
        ],
        columns=["customer_id", "segment", "strategy", "rank", "item_id", "generators"],
    )


def serve_ui(config: MlflowConfig, host: str, port: int) -> None:
    """Become an MLflow server over the configured store; does not return."""
    if config.uri.startswith(("http://", "https://")):
        raise InputError(f"runs are kept on a server already: open {config.uri}")
    connect(config)  # makes the store if this is its first use
    command = ["mlflow", "server", "--backend-store-uri", config.uri, "--host", host, "--port", str(port)]
    # One worker and no job processes: this serves one analyst from a local store.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.execv(sys.executable, [sys.executable, "-m", *command, "--workers", "1"])  # noqa: S606


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow and Alembic print notices that tell the user nothing."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
