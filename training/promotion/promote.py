"""Champion and challenger: who takes whose place, and the way back."""

import json
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.common.errors import InputError
from features.event_log.log import EventLog
from training.config import MlflowConfig
from training.promotion.comparison import NotComparableError, compare
from training.promotion.gate import Comparison, Judgement, judge
from training.tracking.log_run import CHALLENGER, CHAMPION, connect

HISTORY_TAG = "previous_champions"  # on the registered model: versions that were replaced, the last one last
ROLLED_BACK_TAG = "rolled_back"  # on a version that was champion and did not prove itself
FORCED_TAG = "gate_forced"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Verdict:
    """What the gate said. `promoted` is false where the challenger was refused.

    `reason` is one line: of a refusal, every rule that is broken (`refusals`), then what was `compared`.
    """

    promoted: bool
    reason: str
    champion: str | None  # version that is champion now
    challenger: str | None = None  # version that was judged
    refusals: list[str] = field(default_factory=list)
    compared: str = ""
    measured: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """For people: what happened first, then why."""
        if self.promoted:
            return f"champion is version {self.champion}: {self.reason}"
        stays = f"version {self.champion} stays champion" if self.champion else "there is no champion"
        because = [f"  - {refusal}" for refusal in self.refusals]
        compared = [f"compared: {self.compared}"] if self.compared else []
        anyway = "to promote it all the same: usual promote --force REASON"
        return "\n".join([f"version {self.challenger} is refused, {stays}", *because, *compared, anyway])


def promote(config: MlflowConfig, force: str | None = None, event_log: EventLog | None = None) -> Verdict:
    """Make the challenger champion if the gate lets it pass, or for the stated reason `force`.

    Without a champion a challenger with the gate's metric passes. Otherwise both are judged on one hold-out by the
    rules in mlflow.yml (`training.promotion.gate`); `training.promotion.comparison` says which hold-out. The verdict and what was
    measured are kept as tags of the challenger's version. Raises `InputError` where there is nothing to promote,
    or the log cannot tell the two apart.
    """
    client = connect(config)
    name = config.registered_model
    if force is not None and not force.strip():
        raise InputError("--force needs a reason; it is kept with the version for whoever asks later")
    challenger = _holder(client, name, CHALLENGER)
    if challenger is None:
        raise InputError(f"the model {name} has no challenger; `usual train` registers one")
    champion = _holder(client, name, CHAMPION)
    version, before = str(challenger.version), str(champion.version) if champion else None
    if before == version:
        return Verdict(True, f"version {version} is champion already", before, challenger=version)
    tags = {"gate_against": before or "", FORCED_TAG: force or ""}
    if force:
        judged = Judgement(f"forced: {force}")
    else:
        judged, found = _judged(client, config, champion, challenger, event_log)
        tags |= found
    reason = "; ".join([*judged.refusals, *([judged.summary] if judged.summary else [])])
    tags["gate"] = f"{'promoted' if judged.passed else 'refused'}: {reason}"
    if judged.passed:
        tags[ROLLED_BACK_TAG] = ""
    _tag(client, name, challenger, tags)
    if judged.passed:
        # The way back is written first: if this stops between the two, a rollback passes over the double entry.
        if before is not None:
            _set_history(client, name, [*_history(client, name), before])
        client.set_registered_model_alias(name, CHAMPION, version)
    now = version if judged.passed else before
    return Verdict(judged.passed, reason, now, version, judged.refusals, judged.summary, judged.measured)


def rollback(config: MlflowConfig) -> Verdict:
    """Give the alias back to the version the champion replaced; again, to the one before that, and so on."""
    client = connect(config)
    name = config.registered_model
    champion = _holder(client, name, CHAMPION)
    if champion is None:
        raise InputError(f"the model {name} has no champion, so there is nothing to roll back")
    before, history = None, _history(client, name)
    while history and before is None:
        before = _version(client, name, history.pop())
        before = None if before == str(champion.version) else before
    if before is None:
        raise InputError(f"version {champion.version} of {name} replaced no other, so there is nothing to go back to")
    client.set_registered_model_alias(name, CHAMPION, before)
    _set_history(client, name, history)
    told = f"rolled back to version {before}"
    _tag(client, name, champion, {"gate": told, ROLLED_BACK_TAG: told})
    return Verdict(True, f"version {champion.version} rolled back", before)


def _judged(
    client: MlflowClient,
    config: MlflowConfig,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    event_log: EventLog | None,
) -> tuple[Judgement, dict[str, str]]:
    """The gate's judgement, and tags that say what it rests on."""
    version, metric = challenger.version, config.gate.metric
    if challenger.tags.get(ROLLED_BACK_TAG):
        why = (
            f"version {version} was champion and was {challenger.tags[ROLLED_BACK_TAG]}; train another challenger, or "
            "--force REASON"
        )
        return Judgement("", [why]), {}
    if champion is None:
        value = _metric(client, challenger, metric)
        broken = [f"metric: the challenger's training run has no {metric}"] if value is None else []
        return Judgement(f"no champion yet; {metric} {'(missing)' if value is None else f'{value:.4f}'}", broken), {}
    try:
        compared = compare(client, config, champion, challenger, event_log)
    except NotComparableError as error:
        return Judgement("", [str(error)]), {}
    judged = judge(config.gate, compared)
    return judged, _evidence(metric, compared, judged.measured)


def _evidence(metric: str, compared: Comparison, measured: dict[str, float]) -> dict[str, str]:
    """What a judgement rests on, as tags: each costs a round trip, so the lesser numbers share one."""
    tags = {"gate_metric": metric, "gate_holdout": compared.window.removeprefix("hold-out ")}
    rest = dict(measured)
    if "interval_low" in rest:
        tags["gate_interval"] = f"{rest.pop('interval_low'):+.4f} to {rest.pop('interval_high'):+.4f}"
    for key in ("champion", "challenger", "difference", "queries"):
        if key in rest:
            tags[f"gate_{key}"] = f"{rest.pop(key):.6g}"
    return tags | ({"gate_rails": json.dumps({k: round(v, 6) for k, v in rest.items()})} if rest else {})


def _tag(client: MlflowClient, name: str, version: ModelVersion, tags: dict[str, str]) -> None:
    """Set tags; an empty value takes the tag away, so that nothing is left of an earlier verdict."""
    stale = {tag for tag in version.tags if tag.startswith("gate_")} - set(tags) if "gate_against" in tags else set()
    for key, value in {**dict.fromkeys(stale, ""), **tags}.items():
        if value:
            client.set_model_version_tag(name, version.version, key, value)
        elif key in version.tags:
            client.delete_model_version_tag(name, version.version, key)


def _history(client: MlflowClient, name: str) -> list[str]:
    return str(client.get_registered_model(name).tags.get(HISTORY_TAG, "")).split()


def _set_history(client: MlflowClient, name: str, versions: list[str]) -> None:
    client.set_registered_model_tag(name, HISTORY_TAG, " ".join(versions))


def _holder(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None


def _version(client: MlflowClient, name: str, version: str) -> str | None:
    """`version`, or None where it was deleted since."""
    try:
        return str(client.get_model_version(name, version).version)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None


def _metric(client: MlflowClient, version: ModelVersion, metric: str) -> float | None:
    value = client.get_run(version.run_id).data.metrics.get(metric) if version.run_id else None
    return None if value is None or value != value else float(value)
