"""The hold-out that champion and challenger are compared on, and their results there.

In order of preference:

1. events newer than both models: both are replayed on them;
2. the hold-out of the challenger's training run, where the champion was trained before it: the champion is replayed
   on it, the challenger's results are those of its run, of the same recipe fitted before the hold-out;
3. without a log: the hold-out of both training runs, where it was the same window of the same log.
"""

from functools import partial

import mlflow
import polars as pl
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from features.common.clock import DAY, iso, micros, parse
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables import build
from models.bundle import RECOMMENDERS, Bundle, RecommenderName
from models.recommender import BundleRecommender
from training import recipe
from training.config import Gate, MlflowConfig
from training.dataset import queries
from training.evaluation.backtest import measure
from training.evaluation.evaluate import Evaluation
from training.promotion import gate
from training.promotion.gate import Comparison, Latency
from training.recipe import Recipe
from training.tracking import registry
from training.tracking.metric_names import recommender_of

HOLDOUT = ("holdout_from", "holdout_to", "log_fingerprint")  # tags of a version
SAMPLING = ("visit_days", "visits_per_boundary", "seed")  # keys of a recipe that say which visits are queries


class NotComparableError(InputError):
    """There is no hold-out that says anything about both models."""


def compare(
    client: MlflowClient,
    config: MlflowConfig,
    champion: ModelVersion,
    challenger: ModelVersion,
    event_log: EventLog | None,
) -> Comparison:
    """Both models' results on one hold-out. Raises `InputError` where there is none, with what to do."""
    if event_log is None:
        return _by_their_runs(client, config, champion, challenger)
    old, new = (_bundle(config, version) for version in (champion, challenger))
    start = max(old.snapshot.as_of, new.snapshot.as_of)
    end = min(start + config.gate.holdout_days * DAY, micros(event_log.last) + 1)
    found = "there is no newer event to compare them on"
    if end > start:
        fresh = _on_newer_events(event_log, old, new, start, end)
        count = _queries(fresh, config.gate)
        if count >= config.gate.min_queries:
            return fresh
        found = f"the newer events hold {count} queries to compare them on, min_queries is {config.gate.min_queries}"
    window = _window(challenger)
    if window is not None and old.snapshot.as_of <= window[0]:
        return _on_the_challengers_holdout(client, challenger, event_log, old, new, *window, found)
    raise InputError(_what_to_do(config.gate, champion, challenger, event_log, old, start, found))


def _on_newer_events(event_log: EventLog, old: Bundle, new: Bundle, start: int, end: int) -> Comparison:
    snapshot = Snapshot.of(build.at(event_log, start))
    bundles = old.refreshed(snapshot), new.refreshed(snapshot)
    asked = queries.after(event_log.scan(), snapshot, end, recipe.load())
    champion, challenger = (measure(bundle, asked, end) for bundle in bundles)
    timed = partial(_latency, *bundles, _customers(champion))
    return Comparison(champion, challenger, start, end, "events newer than both models", timed)


def _on_the_challengers_holdout(
    client: MlflowClient,
    version: ModelVersion,
    event_log: EventLog,
    old: Bundle,
    new: Bundle,
    start: int,
    end: int,
    found: str,
) -> Comparison:
    replayed = old.refreshed(Snapshot.of(build.at(event_log, start)))
    asked = queries.after(event_log.scan(), replayed.snapshot, end, _sampling(client, version))
    champion = measure(replayed, asked, end)
    how = (
        f"the challenger's own, as {found}; the champion, trained before it, is replayed there, the challenger's "
        "results are its training run's, of the same recipe fitted before the hold-out"
    )
    timed = partial(_latency, old.refreshed(new.snapshot), new, _customers(champion))
    return Comparison(champion, _logged(client, version), start, end, how, timed)


def _by_their_runs(
    client: MlflowClient, config: MlflowConfig, champion: ModelVersion, challenger: ModelVersion
) -> Comparison:
    if any(champion.tags.get(tag) != challenger.tags.get(tag, "") for tag in HOLDOUT):
        theirs, ours = (_told(v) for v in (champion, challenger))
        raise NotComparableError(
            f"champion (version {champion.version}: {theirs}) and challenger (version {challenger.version}: {ours}) "
            "were measured on different hold-outs; give --log with events newer than both, on which they can be "
            "compared, or --force REASON"
        )
    sides = _logged(client, champion), _logged(client, challenger)
    log = challenger.tags["log_fingerprint"]

    def timed(batch: int) -> Latency:
        old, new = _bundle(config, champion), _bundle(config, challenger)
        return _latency(old, new, new.snapshot.customers.values.to_pylist(), batch)

    start, end = (parse(challenger.tags[tag]) for tag in HOLDOUT[:2])
    return Comparison(*sides, start, end, f"which both training runs measured on log {log}", timed)


def _logged(client: MlflowClient, version: ModelVersion) -> dict[RecommenderName, Evaluation]:
    """What the version's training run measured on its hold-out."""
    if version.run_id is None:
        return {}
    measured = client.get_run(version.run_id).data.metrics
    there = {file.path for file in client.list_artifacts(version.run_id, "evaluation")}
    found: dict[RecommenderName, Evaluation] = {}
    for name in RECOMMENDERS:
        if (path := f"evaluation/{name}.json") in there:
            table = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{path}")
            per_query = pl.DataFrame(table["data"], schema=table["columns"], orient="row", infer_schema_length=None)
            # JSON has no NaN: a metric that no query has is a column of nulls.
            known = pl.selectors.numeric() | pl.selectors.by_dtype(pl.Null)
            summary = {metric: v for k, v in measured.items() for whose, metric in [recommender_of(k)] if whose == name}
            found[name] = Evaluation(summary, per_query.with_columns(known.cast(pl.Float64)))
    return found


def _sampling(client: MlflowClient, version: ModelVersion) -> Recipe:
    """The recipe by which the version's run took its queries; of it nothing else is used in a replay."""
    given = client.get_run(version.run_id).data.params if version.run_id else {}
    return recipe.load().model_copy(update={key: int(given[key]) for key in SAMPLING if key in given})


def _latency(old: Bundle, new: Bundle, customers: list[str], batch: int) -> Latency:
    return gate.latency(BundleRecommender(old), BundleRecommender(new), customers, batch)


def _bundle(config: MlflowConfig, version: ModelVersion) -> Bundle:
    return registry.bundle(f"models:/{config.registered_model}/{version.version}", config)


def _customers(results: gate.Results) -> list[str]:
    asked = results.get("one_to_one")
    return [] if asked is None else asked.per_query["customer_id"].to_list()


def _queries(compared: Comparison, settings: Gate) -> int:
    sides = [side.get(gate.judged(settings)[0]) for side in (compared.champion, compared.challenger)]
    return max(e.per_query.height if e else 0 for e in sides)


def _window(version: ModelVersion) -> tuple[int, int] | None:
    """The hold-out of the version's training run."""
    tags = [version.tags.get(tag) for tag in HOLDOUT[:2]]
    return (parse(tags[0]), parse(tags[1])) if tags[0] and tags[1] else None


def _told(version: ModelVersion) -> str:
    start, end, log = (version.tags.get(tag, "?") for tag in HOLDOUT)
    return f"{start} to {end}, log {log}"


def _what_to_do(
    settings: Gate,
    champion: ModelVersion,
    challenger: ModelVersion,
    event_log: EventLog,
    old: Bundle,
    newest: int,
    found: str,
) -> str:
    last, trained = micros(event_log.last), old.snapshot.as_of
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
        f"{event_log.path} ends {iso(last)}, the newer model was trained up to {iso(newest)}: {found}. The hold-out of "
        f"the challenger's training (version {challenger.version}: {_told(challenger)}) cannot serve: the champion "
        f"(version {champion.version}) was trained up to {iso(trained)} and knows part of it. Choose: "
        + "; or ".join(ways)
    )
