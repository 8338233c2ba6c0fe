"""Logging of a training run to MLflow: parameters, metrics, data set, plots, report, and the registered bundle."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.tracking.mlflow_client import (
    connect,
    silence_logs,
)  # first: it fixes what mlflow reads when it is imported

import mlflow  # isort: skip
import pandas as pd
import yaml
from mlflow.entities import Metric
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType

import features
import models
from features.common.clock import iso, now
from features.event_log.log import EventLog
from models import pyfunc
from training import recipe
from training.config import MlflowConfig
from training.reports import customer_plots, html, model_card, plots, samples
from training.result import LoggedRun, TrainingResult
from training.tracking import metric_names
from training.tracking.event_log_dataset import EventLogDataset
from training.tracking.registry import CHALLENGER, register

SERVING_PACKAGES = ("numpy", "scipy", "pydantic", "pyarrow", "polars", "narwhals", "lightgbm", "pandas")
_TAG = 2000  # characters of a tag: MLflow's databases refuse longer ones
_NAMED_CHANGES = 2  # changed settings that a run's name lists


def log_run(
    result: TrainingResult, event_log: EventLog, config: MlflowConfig, seconds: Sequence[tuple[str, float]] = ()
) -> LoggedRun:
    """Log a training run and register its bundle with the alias challenger.

    `seconds`: (step, duration) pairs for the report (`training.stopwatch`).
    """
    client = connect(config)
    mlflow.set_experiment(config.experiment)
    card = model_card.render_card(result, event_log, result.bundle.libraries)
    tags = _tags(result, event_log)
    changes = _changes(result)
    run_tags = tags | {"recipe_changes": ", ".join(changes) or "none: the default recipe"}
    with mlflow.start_run(
        run_name=_name(result, changes), tags=run_tags, description=_description(result, changes)
    ) as run:
        run_id = run.info.run_id
        mlflow.log_params(_parameters(result))
        mlflow.log_input(EventLogDataset(event_log, result), context="training")
        with tempfile.TemporaryDirectory() as scratch:
            sample_lists = samples.sample_customers(result.bundle, event_log.catalog())
            mlflow.log_artifacts(str(_files(Path(scratch), result, event_log, card, sample_lists, seconds)))
        # Not with the other files: MLflow shows only logged tables as tables.
        mlflow.log_table(samples.to_table(sample_lists), "sample_recommendations.json")
        for name, evaluation in result.evaluations.items():
            mlflow.log_table(evaluation.per_query.drop("customer_id").to_pandas(), f"evaluation/{name}.json")
        if (tenths := result.customers.tenths()).height:
            mlflow.log_table(tenths.to_pandas(), "customer_predictions.json")
        for name, table in result.trade_offs.items():
            mlflow.log_table(table.to_pandas(), f"value/{name}.json")
        # Relative names from a scratch directory: MLmodel records the paths it is given, and must not reveal the
        # trainer's.
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), silence_logs():
            result.bundle.save(Path("bundle"))
            shutil.copy(pyfunc.__file__, "pyfunc.py")
            for package in (features, models):  # without compiled files, which contain the trainer's paths
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
        brief = model_card.render_card(result, event_log, result.bundle.libraries, brief=True)
        description = f"{model_card.render_summary(result)}\n\n{brief}"  # the table of versions shows the first line
        version_info = register(client, config.registered_model, info.model_uri, run_id, tags, description)
        client.set_registered_model_alias(config.registered_model, CHALLENGER, version_info.version)
        return LoggedRun(
            run_id=run_id,
            experiment=config.experiment,
            model_uri=f"models:/{config.registered_model}/{version_info.version}",
            version=str(version_info.version),
            tracking_uri=config.shown_uri,
        )


def _log_metrics(client: "mlflow.MlflowClient", run_id: str, model_id: str, result: TrainingResult) -> None:
    """Log metrics and learning curves in two calls, because each is a round trip to a remote server."""
    mlflow.log_metrics(metric_names.to_mlflow_metrics(result.bundle.metrics), model_id=model_id)
    logged_at_ms = now() // 1000
    points = [
        Metric(key, value, logged_at_ms, step) for key, value, step in metric_names.learning_curve_points(result.curves)
    ]
    points += [Metric(key, value, logged_at_ms, 0) for key, value in _left_out_metrics(result).items()]
    client.log_batch(run_id, points)


def _left_out_metrics(result: TrainingResult) -> dict[str, float]:
    """Return how many events, bots and repeated lines of orders count in no table."""
    left_out = result.left_out
    counts = {
        "events": left_out.total,
        "set_aside": left_out.set_aside,
        "without_consent": left_out.without_consent,
        "unknown_names": left_out.unknown,
        "bots": left_out.bots,
        "bot_events": left_out.bot_events,
        "bot_value_share": left_out.bot_value_share,
        "burst_events": left_out.burst_events,
        "unproven_devices": left_out.unproven_devices,
        "bounded_orders": left_out.bounded_orders,
        "repeated_orders": left_out.repeated_orders,
        "shared_devices": left_out.shared_devices,
    }
    return {f"left_out/{name}": float(value) for name, value in counts.items()}


def _files(
    folder: Path,
    result: TrainingResult,
    event_log: EventLog,
    card: str,
    sample_lists: Sequence[samples.Sample],
    seconds: Sequence[tuple[str, float]],
) -> Path:
    """Write all artifact files into `folder`, which MLflow uploads with one call."""
    gains = {name: two_stage.ranker.importance() for name, two_stage in result.bundle.recommenders.items()}
    all_plots = plots.plot_run(result.evaluations, gains, result.curves) | customer_plots.plot_customers(
        result.customers
    )
    all_plots |= {
        f"{name}_value": plots.plot_revenue_tradeoff(table, result.recipe.recommender(name).ranker.value, name)
        for name, table in result.trade_offs.items()
    }
    for recommender, cuts in result.budgets.items():
        if cuts.table.height:
            budgets = {g: (b, k) for g, b, k in cuts.table.select("generator", "recipe_budget", "budget").iter_rows()}
            all_plots[f"{recommender}_budgets"] = plots.plot_budgets(budgets, recommender)
    (folder / "plots").mkdir()
    for name, plot in all_plots.items():
        plot.figure().savefig(folder / "plots" / f"{name}.png")
    page = html.render_report(result, event_log, all_plots, sample_lists, seconds)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    text = yaml.safe_dump(result.recipe.model_dump(mode="json"), sort_keys=False)
    (folder / "recipe.yml").write_text(text, encoding="utf-8")
    return folder


_SIGNATURE = ModelSignature(
    # Ids may be numbers too: MLflow would refuse to convert them, the model normalizes them as everywhere else.
    inputs=Schema([ColSpec(AnyType(), "customer_id", required=False), ColSpec("long", "k", required=False)]),
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
    """Return the recipe as flat parameters (`one_to_one.ranker.leaves`, …), the same names in every run."""
    return recipe.flatten(result.recipe.model_dump()) | {"until": iso(result.until)}


def _changes(result: TrainingResult) -> list[str]:
    """Return the settings that differ from the default recipe, as `one_to_one.ranker.leaves=7`."""
    defaults = recipe.flatten(recipe.load().model_dump())
    return [f"{k}={v}" for k, v in recipe.flatten(result.recipe.model_dump()).items() if defaults.get(k) != v]


def _name(result: TrainingResult, changes: list[str]) -> str:
    """Return the run's name: the end of its training data, and the settings changed from the default recipe."""
    more = f" and {len(changes) - _NAMED_CHANGES} more" if len(changes) > _NAMED_CHANGES else ""
    return f"{iso(result.until)[:10]} {', '.join(changes[:_NAMED_CHANGES]) or 'default recipe'}{more}"


def _description(result: TrainingResult, changes: list[str]) -> str:
    """Return the Markdown text at the top of the run's page."""
    recipe_text = f"Changed in the recipe: {', '.join(f'`{c}`' for c in changes)}." if changes else "Default recipe."
    where = "See the artifacts `report.html` and `MODEL_CARD.md`."
    return f"{model_card.render_headline(result)}\n\n{recipe_text}\n\n{where}"


def _tags(result: TrainingResult, event_log: EventLog) -> dict[str, str]:
    start, end = result.holdout
    return {
        "until": iso(result.until),
        "holdout_from": iso(start),
        "holdout_to": iso(end),
        "log_fingerprint": event_log.fingerprint,
    } | _guard_tags(result)


def _guard_tags(result: TrainingResult) -> dict[str, str]:
    """Return what training was forced over and warned of, as far as there is any."""
    guard = result.guard
    lines = model_card.describe_left_out(result.left_out)
    tags = {"warnings": " · ".join(guard.warnings), "left_out": " · ".join(lines)}
    if guard.overruled:
        tags |= {"forced": guard.force or "", "forced_over": " · ".join(guard.overruled)}
    return {key: value[:_TAG] for key, value in tags.items() if value}
