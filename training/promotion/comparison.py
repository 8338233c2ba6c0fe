"""Comparison of champion and challenger on one hold-out.

The hold-out is, in order of preference:

1. events newer than both models: both are backtested on them;
2. the hold-out of the challenger's training run, if the champion was trained before it: the champion is backtested on
   it, the challenger's results are those of its run (a model of the same recipe fitted before the hold-out);
3. without a log: the hold-out of both training runs, if it was the same window of the same log.
"""

from functools import partial

import mlflow
import polars as pl
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from features.common.clock import DAY, iso, micros, parse
from features.common.errors import InputError
from features.common.memory import keep_freed_memory
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables.build import build_tables
from models.bundle import RECOMMENDERS, Bundle, RecommenderName
from models.recommender import BundleRecommender
from training import recipe
from training.config import GateConfig, MlflowConfig
from training.dataset import queries
from training.evaluation.backtest import evaluate_bundle
from training.evaluation.evaluate import Evaluation
from training.promotion import gate
from training.promotion.gate import Comparison, Latency
from training.recipe import Recipe
from training.tracking import registry
from training.tracking.metric_names import split_recommender

HOLDOUT_TAGS = ("holdout_from", "holdout_to", "log_fingerprint")  # tags of a version
SAMPLING_KEYS = (
    "visit_days",
    "visits_per_boundary",
    "seed",
)  # keys of a recipe that decide which visits become queries


class NotComparableError(InputError):
    """There is no hold-out that both models can be compared on."""


def compare(
    client: MlflowClient,
    config: MlflowConfig,
    champion: ModelVersion,
    challenger: ModelVersion,
    event_log: EventLog | None,
) -> Comparison:
    """Return both models' results on one hold-out.

    Raises `InputError` if there is none, with a message that says what to do. `NotComparableError`: without a log,
    the two training runs were measured on different hold-outs.
    """
    if event_log is None:
        return _compare_runs(client, config, champion, challenger)
    champion_bundle, challenger_bundle = (_load_bundle(config, version) for version in (champion, challenger))
    start = max(champion_bundle.snapshot.as_of, challenger_bundle.snapshot.as_of)
    end = min(start + config.gate.holdout_days * DAY, micros(event_log.last) + 1)
    reason = "there is no newer event to compare them on"
    if end > start:
        newer = _compare_on_newer_events(event_log, champion_bundle, challenger_bundle, start, end)
        count = _count_queries(newer, config.gate)
        if count >= config.gate.min_queries:
            return newer
        reason = f"the newer events hold {count} queries to compare them on, min_queries is {config.gate.min_queries}"
    window = _holdout_window(challenger)
    if window is not None and champion_bundle.snapshot.as_of <= window[0]:
        return _compare_on_challenger_holdout(
            client, challenger, event_log, champion_bundle, challenger_bundle, *window, reason
        )
    raise InputError(_advise(config.gate, champion, challenger, event_log, champion_bundle, start, reason))


def _compare_on_newer_events(
    event_log: EventLog, champion_bundle: Bundle, challenger_bundle: Bundle, start: int, end: int
) -> Comparison:
    snapshot = Snapshot.from_tables(build_tables(event_log, start))
    bundles = champion_bundle.refit_to(snapshot), challenger_bundle.refit_to(snapshot)
    holdout_queries = queries.build_queries(event_log.scan(), snapshot, end, recipe.load())
    champion, challenger = (evaluate_bundle(bundle, holdout_queries, end) for bundle in bundles)
    measure_latency = partial(_measure_latency, *bundles, _customer_ids(champion))
    return Comparison(champion, challenger, start, end, "events newer than both models", measure_latency)


def _compare_on_challenger_holdout(
    client: MlflowClient,
    version: ModelVersion,
    event_log: EventLog,
    champion_bundle: Bundle,
    challenger_bundle: Bundle,
    start: int,
    end: int,
    reason: str,
) -> Comparison:
    refreshed = champion_bundle.refit_to(Snapshot.from_tables(build_tables(event_log, start)))
    holdout_queries = queries.build_queries(
        event_log.scan(), refreshed.snapshot, end, _sampling_recipe(client, version)
    )
    champion = evaluate_bundle(refreshed, holdout_queries, end)
    basis = (
        f"the challenger's own, as {reason}; the champion, trained before it, is backtested on it, the challenger's "
        "results are its training run's, of the same recipe fitted before the hold-out"
    )
    measure_latency = partial(
        _measure_latency,
        champion_bundle.refit_to(challenger_bundle.snapshot),
        challenger_bundle,
        _customer_ids(champion),
    )
    return Comparison(champion, _run_evaluations(client, version), start, end, basis, measure_latency)


def _compare_runs(
    client: MlflowClient, config: MlflowConfig, champion: ModelVersion, challenger: ModelVersion
) -> Comparison:
    if any(champion.tags.get(tag) != challenger.tags.get(tag, "") for tag in HOLDOUT_TAGS):
        champion_window, challenger_window = (_describe_window(v) for v in (champion, challenger))
        raise NotComparableError(
            f"champion (version {champion.version}: {champion_window}) and challenger (version {challenger.version}: "
            f"{challenger_window}) were measured on different hold-outs; give --log with events newer than both, on "
            "which they can be compared, or --force REASON"
        )
    sides = _run_evaluations(client, champion), _run_evaluations(client, challenger)
    log = challenger.tags["log_fingerprint"]

    def measure_latency(batch: int) -> Latency:
        champion_bundle, challenger_bundle = _load_bundle(config, champion), _load_bundle(config, challenger)
        customers = challenger_bundle.snapshot.customers.values.to_pylist()
        return _measure_latency(champion_bundle, challenger_bundle, customers, batch)

    start, end = (parse(challenger.tags[tag]) for tag in HOLDOUT_TAGS[:2])
    return Comparison(*sides, start, end, f"of both training runs, on log {log}", measure_latency)


def _run_evaluations(client: MlflowClient, version: ModelVersion) -> dict[RecommenderName, Evaluation]:
    """Return the evaluations that the version's training run logged."""
    if version.run_id is None:
        return {}
    run_metrics = client.get_run(version.run_id).data.metrics
    files = {file.path for file in client.list_artifacts(version.run_id, "evaluation")}
    evaluations: dict[RecommenderName, Evaluation] = {}
    for name in RECOMMENDERS:
        if (path := f"evaluation/{name}.json") in files:
            table = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{path}")
            per_query = pl.DataFrame(table["data"], schema=table["columns"], orient="row", infer_schema_length=None)
            # JSON has no NaN: a metric that is NaN for every query is read as a column of nulls.
            numeric = pl.selectors.numeric() | pl.selectors.by_dtype(pl.Null)
            summary = {
                metric: v
                for k, v in run_metrics.items()
                for recommender, metric in [split_recommender(k)]
                if recommender == name
            }
            evaluations[name] = Evaluation(summary, per_query.with_columns(numeric.cast(pl.Float64)))
    return evaluations


def _sampling_recipe(client: MlflowClient, version: ModelVersion) -> Recipe:
    """Return a recipe that samples queries as the version's run did; nothing else of it is used."""
    params = client.get_run(version.run_id).data.params if version.run_id else {}
    return recipe.load().model_copy(update={key: int(params[key]) for key in SAMPLING_KEYS if key in params})


def _measure_latency(champion_bundle: Bundle, challenger_bundle: Bundle, customers: list[str], batch: int) -> Latency:
    keep_freed_memory()  # as the server does
    return gate.measure_latency(
        BundleRecommender(champion_bundle), BundleRecommender(challenger_bundle), customers, batch
    )


def load_recommender(config: MlflowConfig, version: ModelVersion) -> BundleRecommender:
    """Load the recommender of a version."""
    return BundleRecommender(_load_bundle(config, version))


def _load_bundle(config: MlflowConfig, version: ModelVersion) -> Bundle:
    return registry.load_bundle(f"models:/{config.registered_model}/{version.version}", config)


def _customer_ids(results: gate.Results) -> list[str]:
    evaluation = results.get("one_to_one")
    return [] if evaluation is None else evaluation.per_query["customer_id"].to_list()


def _count_queries(comparison: Comparison, settings: GateConfig) -> int:
    sides = [side.get(gate.gate_target(settings)[0]) for side in (comparison.champion, comparison.challenger)]
    return max(e.per_query.height if e else 0 for e in sides)


def _holdout_window(version: ModelVersion) -> tuple[int, int] | None:
    """Return start and end of the hold-out of the version's training run, None without the tags."""
    tags = [version.tags.get(tag) for tag in HOLDOUT_TAGS[:2]]
    return (parse(tags[0]), parse(tags[1])) if tags[0] and tags[1] else None


def _describe_window(version: ModelVersion) -> str:
    start, end, log = (version.tags.get(tag, "?") for tag in HOLDOUT_TAGS)
    return f"{start} to {end}, log {log}"


def _advise(
    settings: GateConfig,
    champion: ModelVersion,
    challenger: ModelVersion,
    event_log: EventLog,
    champion_bundle: Bundle,
    newest: int,
    reason: str,
) -> str:
    last, trained = micros(event_log.last), champion_bundle.snapshot.as_of
    ways = ["wait for newer events and promote with a log that has them"]
    if trained < last:
        until = max(trained, last + 1 - settings.holdout_days * DAY)
        ways.append(f"`usual train --until {iso(until)}`, which leaves the days after it to compare on")
        if (days := (newest - trained) // DAY) > 0:
            ways.append(
                f"train with a recipe whose horizon_days is {days} or less, so that its hold-out is new to both"
            )
    ways.append("`usual promote --force REASON`")
    return (
        f"{event_log.path} ends {iso(last)}, the newer model was trained up to {iso(newest)}: {reason}. The hold-out "
        f"of the challenger's training (version {challenger.version}: {_describe_window(challenger)}) cannot be used: "
        f"the champion (version {champion.version}) was trained up to {iso(trained)} and knows part of it. Choose: "
        + "; or ".join(ways)
    )
