"""Champion and challenger: the gate between them, and the way back."""

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.clock import DAY, iso, micros
from features.errors import InputError
from features.log import EventLog
from models.bundle import Bundle
from training import recipe
from training.config import MlflowConfig
from training.evaluate import prefixed
from training.replay import replay
from training.tracking import CHALLENGER, CHAMPION, bundle_path, connect

PREVIOUS_TAG = "previous_champion"  # on a version: which one it replaced
HOLDOUT = ("holdout_from", "holdout_to", "log_fingerprint")


@dataclass(frozen=True)
class Verdict:
    """What the gate said. `promoted` is false where the challenger was refused."""

    promoted: bool
    reason: str
    champion: str | None  # version that is champion now


def promote(config: MlflowConfig, force: str | None = None, event_log: EventLog | None = None) -> Verdict:
    """Make the challenger champion if the gate lets it pass, or for the stated reason `force`.

    Without a champion the challenger passes. Otherwise it may be worse by at most the margin on the same
    hold-out: a window of `event_log` that neither has seen, on which both are replayed; or, without a log,
    the one their training runs measured, if that is the same for both.
    """
    client = connect(config)
    name = config.registered_model
    challenger = _holder(client, name, CHALLENGER)
    if challenger is None:
        raise InputError(f"the model {name} has no challenger; `usual train` registers one")
    champion = _holder(client, name, CHAMPION)
    if champion is not None and champion.version == challenger.version:
        return Verdict(True, f"version {challenger.version} is champion already", str(champion.version))
    passed, reason = (True, f"forced: {force}") if force else _gate(client, config, champion, challenger, event_log)
    client.set_model_version_tag(name, challenger.version, "gate", f"{'promoted' if passed else 'refused'}: {reason}")
    if not passed:
        return Verdict(False, reason, str(champion.version) if champion else None)
    if champion is not None:
        client.set_model_version_tag(name, challenger.version, PREVIOUS_TAG, str(champion.version))
    client.set_registered_model_alias(name, CHAMPION, challenger.version)
    return Verdict(True, reason, str(challenger.version))


def rollback(config: MlflowConfig) -> Verdict:
    """Give the alias back to the version the champion replaced."""
    client = connect(config)
    name = config.registered_model
    champion = _holder(client, name, CHAMPION)
    if champion is None:
        raise InputError(f"the model {name} has no champion, so there is nothing to roll back")
    before = champion.tags.get(PREVIOUS_TAG)
    if before is None:
        raise InputError(f"version {champion.version} of {name} replaced no other, so there is nothing to go back to")
    client.set_registered_model_alias(name, CHAMPION, before)
    client.set_model_version_tag(name, champion.version, "gate", f"rolled back to version {before}")
    return Verdict(True, f"version {champion.version} rolled back", before)


def _gate(
    client: MlflowClient,
    config: MlflowConfig,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    event_log: EventLog | None,
) -> tuple[bool, str]:
    metric, margin = config.gate.metric, config.gate.margin
    if champion is None:
        new = _metric(client, challenger, metric)
        return new is not None, f"no champion yet; {metric} {_shown(new)}"
    if event_log is not None:
        old, new, where = _on_fresh_events(config, champion, challenger, event_log)
    elif any(champion.tags.get(tag) != challenger.tags.get(tag) for tag in HOLDOUT):
        theirs, ours = (_window(v) for v in (champion, challenger))
        return False, (
            f"champion (version {champion.version}: {theirs}) and challenger (version {challenger.version}: {ours}) "
            "were measured on different hold-outs; give --log with events newer than both, on which they can be "
            "compared, or --force REASON"
        )
    else:
        old, new = _metric(client, champion, metric), _metric(client, challenger, metric)
        where = _window(challenger)
    compared = f"{metric} {_shown(new)} against the champion's {_shown(old)}, margin {margin:g}, hold-out {where}"
    return new is not None and (old is None or new >= old - margin), compared


def _on_fresh_events(
    config: MlflowConfig, champion: ModelVersion, challenger: ModelVersion, event_log: EventLog
) -> tuple[float | None, float | None, str]:
    """Both replayed on the horizon that follows the later of the two models."""
    settings = recipe.load()
    name = config.registered_model
    bundles = [Bundle.load(bundle_path(f"models:/{name}/{v.version}", config)) for v in (champion, challenger)]
    start = max(bundle.snapshot.as_of for bundle in bundles)
    end = min(start + settings.horizon_days * DAY, micros(event_log.last) + 1)
    if end <= start:
        raise InputError(
            f"{event_log.path} ends {iso(micros(event_log.last))}, the newer model was trained up to {iso(start)}: "
            "there is no newer event to compare them on"
        )
    old, new = (prefixed(replay(bundle, event_log, start, end, settings)).get(config.gate.metric) for bundle in bundles)
    return old, new, f"{iso(start)} to {iso(end)}"


def _shown(value: float | None) -> str:
    return "(missing)" if value is None else f"{value:.4f}"


def _window(version: ModelVersion) -> str:
    start, end, log = (version.tags.get(tag, "?") for tag in HOLDOUT)
    return f"{start} to {end}, log {log}"


def _holder(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


def _metric(client: MlflowClient, version: ModelVersion, metric: str) -> float | None:
    if version.run_id is None:
        return None
    value = client.get_run(version.run_id).data.metrics.get(metric)
    return None if value is None else float(value)
