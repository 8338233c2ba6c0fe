"""Promotion of the challenger to champion, and rollback to the previous champion."""

import json
from dataclasses import dataclass, field, replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.common.errors import InputError
from features.event_log.log import EventLog
from training.config import MlflowConfig
from training.promotion.comparison import NotComparableError, compare, load_recommender
from training.promotion.gate import Comparison, GateDecision, apply_gate, check_answers, checks_answers
from training.tracking.mlflow_client import connect
from training.tracking.registry import CHALLENGER, CHAMPION

HISTORY_TAG = "previous_champions"  # on the registered model: replaced versions, the latest last
ROLLED_BACK_TAG = "rolled_back"  # on a version that was champion and was rolled back
FORCED_TAG = "gate_forced"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class PromotionResult:
    """The outcome of `promote` or `rollback`; its fields are the keys of the commands' JSON.

    `reason` is one line: of a refusal, every broken rule (`refusals`), then `compared`, the metric and hold-out.
    """

    promoted: bool
    reason: str
    champion: str | None  # version that is champion afterwards
    challenger: str | None = None  # version that was judged
    refusals: list[str] = field(default_factory=list)
    compared: str = ""
    measured: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """Render the outcome for the terminal: the decision, then its reasons."""
        if self.promoted:
            return f"champion is version {self.champion}: {self.reason}"
        stays = f"version {self.champion} stays champion" if self.champion else "there is no champion"
        because = [f"  - {refusal}" for refusal in self.refusals]
        compared = [f"compared: {self.compared}"] if self.compared else []
        anyway = "to promote it anyway: usual promote --force REASON"
        return "\n".join([f"version {self.challenger} is refused, {stays}", *because, *compared, anyway])


def promote(config: MlflowConfig, force: str | None = None, event_log: EventLog | None = None) -> PromotionResult:
    """Make the challenger champion if the gate accepts it, or for the stated reason `force`.

    A challenger that cannot answer is refused. Without a champion, one that has the gate's metric is accepted.
    Otherwise both are compared on one hold-out (`training.promotion.comparison`) by the rules in mlflow.yml
    (`training.promotion.gate`). The decision and its evidence are stored as tags of the challenger's version. Raises
    `InputError` if there is nothing to promote, or the log holds no window that both models can be compared on.
    """
    client = connect(config)
    name = config.registered_model
    if force is not None and not force.strip():
        raise InputError("--force needs a reason; it is stored with the version")
    challenger = _find_holder(client, name, CHALLENGER)
    if challenger is None:
        raise InputError(f"the model {name} has no challenger; `usual train` registers one")
    champion = _find_holder(client, name, CHAMPION)
    version, previous = str(challenger.version), str(champion.version) if champion else None
    if previous == version:
        return PromotionResult(True, f"version {version} is champion already", previous, challenger=version)
    tags = {"gate_against": previous or "", FORCED_TAG: force or ""}
    if force:
        decision = GateDecision(f"forced: {force}")
    else:
        decision, evidence = _decide(client, config, champion, challenger, event_log)
        tags |= evidence
    reason = "; ".join([*decision.refusals, *([decision.summary] if decision.summary else [])])
    tags["gate"] = f"{'promoted' if decision.passed else 'refused'}: {reason}"
    if decision.passed:
        tags[ROLLED_BACK_TAG] = ""
    _set_tags(client, name, challenger, tags)
    if decision.passed:
        # The history is written first: if this stops between the two calls, a rollback skips the duplicate entry.
        if previous is not None:
            _write_history(client, name, [*_read_history(client, name), previous])
        client.set_registered_model_alias(name, CHAMPION, version)
    champion_now = version if decision.passed else previous
    return PromotionResult(
        decision.passed, reason, champion_now, version, decision.refusals, decision.summary, decision.measurements
    )


def rollback(config: MlflowConfig) -> PromotionResult:
    """Give the alias back to the version that the champion replaced; repeated calls go further back.

    Raises `InputError` if there is no champion, or it replaced no other version.
    """
    client = connect(config)
    name = config.registered_model
    champion = _find_holder(client, name, CHAMPION)
    if champion is None:
        raise InputError(f"the model {name} has no champion, so there is nothing to roll back")
    previous, history = None, _read_history(client, name)
    while history and previous is None:
        previous = _find_version(client, name, history.pop())
        previous = None if previous == str(champion.version) else previous
    if previous is None:
        raise InputError(f"version {champion.version} of {name} replaced no other, so there is nothing to go back to")
    client.set_registered_model_alias(name, CHAMPION, previous)
    _write_history(client, name, history)
    message = f"rolled back to version {previous}"
    _set_tags(client, name, champion, {"gate": message, ROLLED_BACK_TAG: message})
    return PromotionResult(True, f"version {champion.version} rolled back", previous)


def _decide(
    client: MlflowClient,
    config: MlflowConfig,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    event_log: EventLog | None,
) -> tuple[GateDecision, dict[str, str]]:
    """Return the gate's decision, and tags with its evidence."""
    decision, evidence = _compare_with(client, config, champion, challenger, event_log)
    rails = config.gate.rails
    if challenger.tags.get(ROLLED_BACK_TAG) or not checks_answers(rails):
        return decision, evidence
    measured = dict(decision.measurements)
    cannot_answer = check_answers(rails, load_recommender(config, challenger), measured)
    answers = {
        name: round(measured[name], 6)
        for name in ("empty_share", "filled_share", "available_share")
        if name in measured
    }
    evidence = evidence | {"gate_answers": json.dumps(answers)}
    return replace(decision, refusals=[*cannot_answer, *decision.refusals], measurements=measured), evidence


def _compare_with(
    client: MlflowClient,
    config: MlflowConfig,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    event_log: EventLog | None,
) -> tuple[GateDecision, dict[str, str]]:
    version, metric = challenger.version, config.gate.metric
    if challenger.tags.get(ROLLED_BACK_TAG):
        message = (
            f"version {version} was champion and was {challenger.tags[ROLLED_BACK_TAG]}; train another challenger, or "
            "--force REASON"
        )
        return GateDecision("", [message]), {}
    if champion is None:
        value = _read_metric(client, challenger, metric)
        broken = [f"metric: the challenger's training run has no {metric}"] if value is None else []
        return GateDecision(f"no champion yet; {metric} {'(missing)' if value is None else f'{value:.4f}'}", broken), {}
    try:
        comparison = compare(client, config, champion, challenger, event_log)
    except NotComparableError as error:
        return GateDecision("", [str(error)]), {}
    decision = apply_gate(config.gate, comparison)
    return decision, _evidence_tags(metric, comparison, decision.measurements)


def _evidence_tags(metric: str, comparison: Comparison, measurements: dict[str, float]) -> dict[str, str]:
    """Return the evidence of a decision as tags. Each tag is a round trip, so the less important numbers share one."""
    tags = {"gate_metric": metric, "gate_holdout": comparison.window.removeprefix("hold-out ")}
    rest = dict(measurements)
    if "interval_low" in rest:
        tags["gate_interval"] = f"{rest.pop('interval_low'):+.4f} to {rest.pop('interval_high'):+.4f}"
    for key in ("champion", "challenger", "difference", "queries"):
        if key in rest:
            tags[f"gate_{key}"] = f"{rest.pop(key):.6g}"
    return tags | ({"gate_rails": json.dumps({k: round(v, 6) for k, v in rest.items()})} if rest else {})


def _set_tags(client: MlflowClient, name: str, version: ModelVersion, tags: dict[str, str]) -> None:
    """Set tags, and delete those with an empty value, so that nothing of an earlier decision remains."""
    stale = {tag for tag in version.tags if tag.startswith("gate_")} - set(tags) if "gate_against" in tags else set()
    for key, value in {**dict.fromkeys(stale, ""), **tags}.items():
        if value:
            client.set_model_version_tag(name, version.version, key, value)
        elif key in version.tags:
            client.delete_model_version_tag(name, version.version, key)


def _read_history(client: MlflowClient, name: str) -> list[str]:
    return str(client.get_registered_model(name).tags.get(HISTORY_TAG, "")).split()


def _write_history(client: MlflowClient, name: str, versions: list[str]) -> None:
    client.set_registered_model_tag(name, HISTORY_TAG, " ".join(versions))


def _find_holder(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None


def _find_version(client: MlflowClient, name: str, version: str) -> str | None:
    """Return `version`, or None if it has been deleted."""
    try:
        return str(client.get_model_version(name, version).version)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None


def _read_metric(client: MlflowClient, version: ModelVersion, metric: str) -> float | None:
    value = client.get_run(version.run_id).data.metrics.get(metric) if version.run_id else None
    return None if value is None or value != value else float(value)
