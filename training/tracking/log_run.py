"""A training run as MLflow shows it: parameters, metrics, data, plots, a report, the registered bundle."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.tracking.mlflow_client import (  # first: it fixes what mlflow reads when it is imported
    connect,
    quiet,
    serve_ui,
)

import mlflow  # isort: skip
import pandas as pd
import yaml
from mlflow.entities import Metric
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

import features
import models
from features.common.clock import iso, now
from features.event_log.log import EventLog
from models import pyfunc
from training import recipe
from training.config import MlflowConfig
from training.evaluation import revenue_tradeoff as value
from training.reports import customer_plots, html, model_card, plots, samples
from training.result import LoggedRun, TrainingResult
from training.tracking import metric_names
from training.tracking.event_log_dataset import EventLogDataset
from training.tracking.registry import bundle_path, register, version_label

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "EventLogDataset",
    "bundle_path",
    "connect",
    "log_run",
    "serve_ui",
    "version_label",
]

CHALLENGER, CHAMPION = "challenger", "champion"
SERVING_PACKAGES = ("numpy", "scipy", "pydantic", "pyarrow", "polars", "narwhals", "lightgbm", "pandas")
_NAMED_CHANGES = 2  # settings in a run's name


def log_run(
    result: TrainingResult, event_log: EventLog, config: MlflowConfig, seconds: Sequence[tuple[str, float]] = ()
) -> LoggedRun:
    """Log a training run and register its bundle with the alias challenger.

    `seconds`: what each step was and how long it took, for the report (`training.stopwatch`).
    """
    client = connect(config)
    mlflow.set_experiment(config.experiment)
    card = model_card.markdown(result, event_log, result.bundle.libraries)
    tags = _tags(result, event_log)
    changes = _changes(result)
    told = tags | {"recipe_changes": ", ".join(changes) or "none: the default recipe"}
    with mlflow.start_run(run_name=_name(result, changes), tags=told, description=_description(result, changes)) as run:
        run_id = run.info.run_id
        mlflow.log_params(_parameters(result))
        mlflow.log_input(EventLogDataset(event_log, result), context="training")
        with tempfile.TemporaryDirectory() as scratch:
            lists = samples.samples(result.bundle, event_log.catalog())
            mlflow.log_artifacts(str(_files(Path(scratch), result, event_log, card, lists, seconds)))
        # Not with the other files: MLflow shows as a table what it was given as one.
        mlflow.log_table(samples.table(lists), "sample_recommendations.json")
        for name, evaluation in result.evaluations.items():
            mlflow.log_table(evaluation.per_query.drop("customer_id").to_pandas(), f"evaluation/{name}.json")
        if (tenths := result.customers.tenths()).height:
            mlflow.log_table(tenths.to_pandas(), "customer_predictions.json")
        for name, table in result.trade_offs.items():
            mlflow.log_table(table.to_pandas(), f"value/{name}.json")
        # Relative names from a scratch directory: MLmodel records the paths it is given, and the trainer's
        # are nobody's business.
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), quiet():
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
        _log_metrics(client, run_id, info.model_id, result)
        brief = model_card.markdown(result, event_log, result.bundle.libraries, brief=True)
        about = f"{model_card.summary(result)}\n\n{brief}"  # the table of versions shows how it begins
        registered = register(client, config.registered_model, info.model_uri, run_id, tags, about)
        client.set_registered_model_alias(config.registered_model, CHALLENGER, registered.version)
        return LoggedRun(
            run_id=run_id,
            experiment=config.experiment,
            model_uri=f"models:/{config.registered_model}/{registered.version}",
            version=str(registered.version),
            tracking_uri=config.uri,
        )


def _log_metrics(client: "mlflow.MlflowClient", run_id: str, model_id: str, result: TrainingResult) -> None:
    """In two calls, as each costs a round trip to a remote server: the model's metrics, and the learning curves."""
    mlflow.log_metrics(metric_names.logged(result.bundle.metrics), model_id=model_id)
    logged_at_ms = now() // 1000
    points = [Metric(key, value, logged_at_ms, step) for key, value, step in metric_names.curve_points(result.curves)]
    if points:
        client.log_batch(run_id, points)


def _files(
    folder: Path,
    result: TrainingResult,
    event_log: EventLog,
    card: str,
    told: Sequence[samples.Sample],
    seconds: Sequence[tuple[str, float]],
) -> Path:
    """What goes beside the run, in one directory: MLflow takes it with one call."""
    gains = {name: two_stage.ranker.importance() for name, two_stage in result.bundle.recommenders.items()}
    made = plots.of_run(result.evaluations, gains, result.curves) | customer_plots.of_customers(result.customers)
    made |= {
        f"{name}_value": value.plot(table, result.recipe.recommender(name).ranker.value, name)
        for name, table in result.trade_offs.items()
    }
    for recommender, cuts in result.budgets.items():
        if cuts.table.height:
            kept = {g: (b, k) for g, b, k in cuts.table.select("generator", "recipe_budget", "budget").iter_rows()}
            made[f"{recommender}_budgets"] = plots.budgets(kept, recommender)
    (folder / "plots").mkdir()
    for name, plot in made.items():
        plot.figure().savefig(folder / "plots" / f"{name}.png")
    page = html.html(result, event_log, made, told, seconds)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    text = yaml.safe_dump(result.recipe.model_dump(mode="json"), sort_keys=False)
    (folder / "recipe.yml").write_text(text, encoding="utf-8")
    return folder


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


def _parameters(result: TrainingResult) -> dict[str, Any]:
    """The recipe, flat: `one_to_one.ranker.leaves` and so on, the same names in every run."""
    return recipe.flatten(result.recipe.model_dump()) | {"until": iso(result.until)}


def _changes(result: TrainingResult) -> list[str]:
    """What the recipe says other than the default one: `one_to_one.ranker.leaves=7` and so on."""
    usual = recipe.flatten(recipe.load().model_dump())
    return [f"{k}={v}" for k, v in recipe.flatten(result.recipe.model_dump()).items() if usual.get(k) != v]


def _name(result: TrainingResult, changes: list[str]) -> str:
    """The end of the training data and what is special: runs until the same day are told apart by their recipes."""
    more = f" and {len(changes) - _NAMED_CHANGES} more" if len(changes) > _NAMED_CHANGES else ""
    return f"{iso(result.until)[:10]} {', '.join(changes[:_NAMED_CHANGES]) or 'default recipe'}{more}"


def _description(result: TrainingResult, changes: list[str]) -> str:
    """What a run's page opens with, in Markdown."""
    recipe_text = f"Changed in the recipe: {', '.join(f'`{c}`' for c in changes)}." if changes else "Default recipe."
    where = "Read `report.html` and `MODEL_CARD.md` among the artifacts."
    return f"{model_card.headline(result)}\n\n{recipe_text}\n\n{where}"


def _tags(result: TrainingResult, event_log: EventLog) -> dict[str, str]:
    start, end = result.holdout
    return {
        "until": iso(result.until),
        "holdout_from": iso(start),
        "holdout_to": iso(end),
        "log_fingerprint": event_log.fingerprint,
    }
