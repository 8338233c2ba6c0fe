from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from features.common.errors import InputError
from training.config import GateConfig, GuardRailsConfig, MlflowConfig
from training.promotion.promote import promote, rollback
from training.tracking import mlflow_client
from training.tracking.registry import CHALLENGER, CHAMPION

NO_BUNDLE = GuardRailsConfig(latency_ratio=None, empty_share=None, filled_share=None, available_share=None)
HOLDOUT = {"holdout_from": "2026-02-01T00:00:00Z", "holdout_to": "2026-03-01T00:00:00Z", "log_fingerprint": "aa"}
QUERIES = np.random.default_rng(2).normal(0, 0.1, 40)
QUERIES -= QUERIES.mean()


@dataclass(frozen=True)
class Registry:
    """Registered versions without the training: a run with its results, and the tags of its hold-out."""

    client: MlflowClient
    config: MlflowConfig

    def challenge(self, ndcg: float | None, **holdout: str) -> str:
        """A new version with the alias challenger."""
        experiment = self.client.get_experiment_by_name(self.config.experiment)
        assert experiment is not None
        run = self.client.create_run(experiment.experiment_id)
        if ndcg is not None:
            self.client.log_metric(run.info.run_id, self.config.gate.metric, ndcg)
            table = {"segment": "NEW", "relevant": range(1, 41), "ndcg_at_10": QUERIES + ndcg}
            self.client.log_dict(run.info.run_id, pd.DataFrame(table).to_dict("split"), "evaluation/one_to_one.json")
        source = f"{run.info.artifact_uri}/model"
        name = self.config.registered_model
        version = self.client.create_model_version(name, source, run.info.run_id, tags=HOLDOUT | holdout)
        self.client.set_registered_model_alias(name, CHALLENGER, version.version)
        return str(version.version)

    @property
    def champion(self) -> str | None:
        aliases = self.client.get_registered_model(self.config.registered_model).aliases
        return None if CHAMPION not in aliases else str(aliases[CHAMPION])

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.client.get_model_version(self.config.registered_model, version).tags)

    def gate(self, version: str) -> str:
        return self.tags(version)["gate"]


@pytest.fixture
def registry(store: MlflowConfig, request: pytest.FixtureRequest) -> Registry:
    """A registered model of the test's own; its versions have no bundle that could be timed or asked."""
    name = request.node.name.replace("[", "-").rstrip("]")
    gate = GateConfig(metric="one_to_one_ndcg_at_10", margin=0.005, rails=NO_BUNDLE)
    config = store.model_copy(update={"registered_model": name, "gate": gate})
    client = mlflow_client.connect(config)
    client.create_registered_model(config.registered_model)
    return Registry(client, config)


def test_the_first_challenger_becomes_champion(registry: Registry):
    version = registry.challenge(0.2)
    outcome = promote(registry.config)
    assert (outcome.promoted, outcome.champion) == (True, version)
    assert registry.champion == version
    assert registry.gate(version).startswith("promoted: no champion yet; one_to_one_ndcg_at_10 0.2000")


@pytest.mark.parametrize("ndcg", [None, float("nan")])
def test_a_first_challenger_without_the_metric_is_refused(registry: Registry, ndcg: float | None):
    version = registry.challenge(ndcg)
    outcome = promote(registry.config)
    assert (outcome.promoted, outcome.champion, registry.champion) == (False, None, None)
    assert "one_to_one_ndcg_at_10 (missing)" in registry.gate(version)
    assert "there is no champion" in outcome.text()


@pytest.mark.parametrize(
    ("ndcg", "passes"),
    [(0.3, True), (0.2, True), (0.1951, True), (0.1949, False), (0.1, False), (None, False), (float("nan"), False)],
)
def test_on_the_same_hold_out_the_margin_decides(registry: Registry, ndcg: float | None, passes: bool):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(ndcg)
    outcome = promote(registry.config)
    assert outcome.promoted is passes
    assert outcome.champion == registry.champion == (second if passes else first)
    assert "2026-02-01T00:00:00Z to 2026-03-01T00:00:00Z" in outcome.reason
    assert registry.gate(second) == f"{'promoted' if passes else 'refused'}: {outcome.reason}"
    assert bool(outcome.refusals) is not passes


def test_the_evidence_is_stored_in_tags_of_the_version(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.1)
    text = promote(registry.config).text()
    assert f"version {second} is refused, version {first} stays champion" in text
    assert "- metric: one_to_one_ndcg_at_10 -0.1000, to be worse by 0.005 at most" in text
    assert "compared: one_to_one_ndcg_at_10 0.1000 against the champion's 0.2000" in text
    tags = registry.tags(second)
    assert tags["gate_against"] == first
    assert (tags["gate_difference"], tags["gate_interval"]) == ("-0.1", "-0.1000 to -0.1000")
    assert (tags["gate_champion"], tags["gate_challenger"], tags["gate_queries"]) == ("0.2", "0.1", "40")
    assert tags["gate_holdout"].startswith(
        f"{HOLDOUT['holdout_from']} to {HOLDOUT['holdout_to']} (of both training runs, on log"
    )
    assert registry.tags(first)["gate"].startswith("promoted")


@pytest.mark.parametrize("tag", sorted(HOLDOUT))
def test_different_hold_outs_cannot_be_compared(registry: Registry, tag: str):
    first = registry.challenge(0.2)
    promote(registry.config)
    registry.challenge(0.9, **{tag: "another"})
    outcome = promote(registry.config)
    assert (outcome.promoted, outcome.champion, registry.champion) == (False, first, first)
    assert "measured on different hold-outs" in outcome.reason
    assert "--log" in outcome.reason
    assert "--force" in outcome.reason


def test_force_skips_the_gate_and_stores_its_reason(registry: Registry):
    registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.1)
    assert not promote(registry.config).promoted
    outcome = promote(registry.config, force="the old one sells umbrellas in June")
    assert (outcome.promoted, registry.champion) == (True, second)
    assert registry.gate(second) == "promoted: forced: the old one sells umbrellas in June"
    assert registry.tags(second)["gate_forced"] == "the old one sells umbrellas in June"
    assert "gate_difference" not in registry.tags(second)  # the earlier verdict's
    assert rollback(registry.config).champion == "1"


def test_force_without_a_reason_is_refused(registry: Registry):
    registry.challenge(0.2)
    with pytest.raises(InputError, match="--force needs a reason"):
        promote(registry.config, force=" ")
    assert registry.champion is None


def test_rollback_restores_the_previous_champion(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.3)
    promote(registry.config)
    third = registry.challenge(0.4)
    promote(registry.config)
    outcome = rollback(registry.config)
    assert (outcome.promoted, outcome.champion, registry.champion) == (True, second, second)
    assert registry.gate(third) == f"rolled back to version {second}"
    assert rollback(registry.config).champion == registry.champion == first
    with pytest.raises(InputError, match=f"version {first} of .* replaced no other"):
        rollback(registry.config)
    assert registry.champion == first


def test_after_a_rollback_the_next_challenger_is_measured_against_the_old_champion(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    registry.challenge(0.4)
    promote(registry.config)
    rollback(registry.config)
    third = registry.challenge(0.21)
    assert promote(registry.config).champion == registry.champion == third
    assert rollback(registry.config).champion == registry.champion == first


def test_a_version_that_was_rolled_back_needs_force_to_return(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.4)
    promote(registry.config)
    rollback(registry.config)
    outcome = promote(registry.config)
    assert (outcome.promoted, registry.champion) == (False, first)
    assert f"version {second} was champion and was rolled back to version {first}" in outcome.text()
    assert promote(registry.config, force="the shop was at fault").champion == registry.champion == second
    assert rollback(registry.config).champion == first


def test_rollback_visits_a_version_as_often_as_it_was_champion(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.3)
    promote(registry.config)
    registry.client.set_registered_model_alias(registry.config.registered_model, CHALLENGER, first)
    promote(registry.config, force="back to the old one")
    assert [rollback(registry.config).champion for _ in range(2)] == [second, first]
    with pytest.raises(InputError, match="nothing to go back to"):
        rollback(registry.config)


def test_rollback_skips_deleted_versions(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.3)
    promote(registry.config)
    registry.challenge(0.4)
    promote(registry.config)
    registry.client.delete_model_version(registry.config.registered_model, second)
    assert rollback(registry.config).champion == registry.champion == first


def test_a_champion_is_not_promoted_twice(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.3)
    promote(registry.config)
    outcome = promote(registry.config)
    assert (outcome.promoted, outcome.champion) == (True, second)
    assert "champion already" in outcome.reason
    assert rollback(registry.config).champion == first


def test_results_of_other_queries_are_not_compared(registry: Registry):
    first = registry.challenge(0.2)
    promote(registry.config)
    second = registry.challenge(0.3)
    run_id = registry.client.get_model_version(registry.config.registered_model, second).run_id
    other = pd.DataFrame({"segment": "NEW", "relevant": range(2, 42), "ndcg_at_10": QUERIES + 0.3})
    registry.client.log_dict(str(run_id), other.to_dict("split"), "evaluation/one_to_one.json")
    outcome = promote(registry.config)
    assert (outcome.promoted, registry.champion) == (False, first)
    assert "the queries of the two results are not the same" in outcome.reason


def test_without_versions_there_is_nothing_to_move(registry: Registry):
    with pytest.raises(InputError, match=r"has no challenger; `usual train` registers one"):
        promote(registry.config)
    with pytest.raises(InputError, match="has no champion, so there is nothing to roll back"):
        rollback(registry.config)
    unknown = registry.config.model_copy(update={"registered_model": "never registered"})
    with pytest.raises(InputError, match="never registered has no challenger"):
        promote(unknown)
