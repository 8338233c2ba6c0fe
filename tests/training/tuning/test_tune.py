"""Tuning: studies that continue, are refused, prune and decide; their values are those of a training run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from optuna.trial import TrialState

from features.common.clock import DAY
from features.common.errors import InputError
from features.common.paths import home
from features.event_log import log
from features.event_log.log import EventLog
from features.tables.left_out import LeftOut
from models.candidates.registry import GENERATORS
from models.ranker import RankerConfig
from tests.conftest import SHOP_ENDS
from tests.training.recipes import small, small_with_embedding
from training import recipe as recipes
from training.config import MlflowConfig
from training.recipe import Recipe, flatten
from training.result import TrainingResult
from training.tracking import mlflow_client
from training.tuning import recipe_space, study_plots, study_text, tune
from training.tuning.log_study import PARENT, LoggedStudy
from training.tuning.study import study_identity
from training.tuning.study_result import StudyResult
from training.tuning.trial_data import ProgressCallback
from training.tuning.tune import TuningTask

# Those of a log without vectors and without answers.
ALWAYS_ACTIVE = tuple(name for name in GENERATORS if not name.startswith(("embedding", "stated")))
TEXT = yaml.safe_dump(small().model_dump(mode="json"), sort_keys=False)


@pytest.fixture
def task(event_log: EventLog, store: MlflowConfig, tmp_path: Path) -> TuningTask:
    return TuningTask(event_log, small(), TEXT, 4, tmp_path / "best.yml", name=f"study of {tmp_path.name}")


class FakeTrialData:
    """Trial data of which the metric follows from the learning rate at once."""

    gain = 0.2

    def __init__(self, *_: object) -> None:
        self.left_out = LeftOut()

    def count_folds(self, _: Recipe) -> int:
        return 0

    def active_generators(self, *_: object) -> tuple[str, ...]:
        return ALWAYS_ACTIVE

    def get(self, *_: object) -> "FakeTrialData":
        return self

    def measure(self, config: RankerConfig, report: ProgressCallback) -> tuple[np.ndarray, int]:
        values = np.linspace(0.2, 0.4, 50) + self.gain * (config.learning_rate - 0.1)
        for trees in (4, 8):
            report(values * trees / 12, trees)
        return values, 12


@contextlib.contextmanager
def fake_trials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "TrialDataCache", FakeTrialData)
        patch.setattr(study_plots, "plot_study", lambda *_: {})  # drawing takes longer than the rest
        yield


@pytest.fixture
def quick() -> Iterator[type[FakeTrialData]]:
    with fake_trials():
        yield FakeTrialData


@pytest.fixture(scope="module")
def whole(
    event_log: EventLog, store: MlflowConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TuningTask, StudyResult, LoggedStudy]:
    """Ten trials at once."""
    task = TuningTask(event_log, small(), TEXT, 10, tmp_path_factory.mktemp("whole") / "best.yml", name="ten at once")
    with fake_trials():
        return task, *tune.tune(task, store)


def changed(task: TuningTask, **updates: object) -> TuningTask:
    return TuningTask(**{**vars(task), **updates})  # type: ignore[arg-type]


def trials(study_result: StudyResult) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(
        study_name=study_result.study, storage=f"sqlite:///{home() / 'tuning' / 'optuna.db'}"
    ).trials


def nested(client: MlflowClient, run_id: str) -> list[MlflowRun]:
    experiment = client.get_run(run_id).info.experiment_id
    return list(client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'"))


@pytest.fixture(scope="module")
def tuned(
    event_log: EventLog, store: MlflowConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TuningTask, StudyResult, LoggedStudy, list[tuple[str, int, int]]]:
    steps: list[tuple[str, int, int]] = []
    task = TuningTask(event_log, small(), TEXT, 4, tmp_path_factory.mktemp("tuned") / "best.yml")
    return task, *tune.tune(task, store, lambda *step: steps.append(step)), steps


Tuned = tuple[TuningTask, StudyResult, LoggedStudy, list[tuple[str, int, int]]]


def test_the_initial_recipe_is_the_first_trial_and_has_the_metric_of_training(tuned: Tuned, result: TrainingResult):
    _, study_result, _, steps = tuned
    first = trials(study_result)[0]
    assert first.user_attrs["settings"] == {n: study_result.initial_settings[n] for n in first.params}
    evaluation = result.evaluations["one_to_one"]
    assert study_result.default == first.value == pytest.approx(evaluation.summary["ndcg_at_10"], abs=1e-12)
    assert first.user_attrs["trees"] == result.bundle.recommenders["one_to_one"].ranker.trees
    assert study_result.holdout == result.holdout
    assert study_result.queries == evaluation.per_query.height
    assert [n for _, n, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, _, total in steps} == {len(steps)}


def test_the_best_trial_replaces_the_recipe_only_beyond_chance(tuned: Tuned):
    task, study_result, logged, _ = tuned
    mean, low, high = study_result.difference
    assert mean == pytest.approx(study_result.best - study_result.default)
    assert study_result.best >= study_result.default
    assert low <= mean <= high
    best = recipes.load(task.out)
    assert best == (recipe_space.apply_settings(task.recipe, study_result.settings) if low > 0 else task.recipe)
    text = study_text.render_study(study_result, logged, task.out)
    assert ("stands" in text) is (not study_result.better)


def test_mlflow_has_a_nested_run_per_trial(tuned: Tuned, store: MlflowConfig):
    task, study_result, logged, _ = tuned
    client = mlflow_client.connect(store)
    runs = {run.data.tags["trial"]: run for run in nested(client, logged.run_id)}
    assert sorted(runs) == ["0", "1", "2", "3"]
    for trial in trials(study_result):
        run = runs[str(trial.number)]
        assert run.info.status == "FINISHED"
        assert run.data.tags["state"] == trial.state.name.lower()
        assert run.data.params["one_to_one.ranker.leaves"] == str(trial.params["one_to_one.ranker.leaves"])
        assert set(flatten(task.recipe.model_dump())) == set(run.data.params)
        assert run.data.metrics[study_result.metric] == pytest.approx(trial.value)
        assert run.data.metrics["seconds"] > 0
    assert runs["3"].data.tags["changed"] == "generators.als"
    parent = client.get_run(logged.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_one_to_one_ndcg_at_10"] == pytest.approx(study_result.best)
    assert parent.data.metrics["trials_complete"] + parent.data.metrics["trials_pruned"] == 4
    files = {f.path for f in client.list_artifacts(logged.run_id)} | {
        f.path for f in client.list_artifacts(logged.run_id, "plots")
    }
    assert {"best-recipe.yml", "plots/optimisation_history.png", "plots/parameter_importances.png"} <= files


@pytest.mark.usefixtures("quick")
def test_a_killed_study_continues_as_if_it_had_not_been(
    task: TuningTask, store: MlflowConfig, whole: tuple[TuningTask, StudyResult, LoggedStudy]
):
    _, at_once, _ = whole

    def killed_in_trial_4(text: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune.tune(changed(task, trials=6), store, killed_in_trial_4)
    steps: list[tuple[int, int | None]] = []
    study_result, logged = tune.tune(changed(task, trials=6), store, lambda _, n, total: steps.append((n, total)))
    assert steps == [(5, 6), (6, 6)]  # four trials are done
    states = [t.state for t in trials(study_result)]
    assert states[4] is TrialState.FAIL
    assert len(states) == 7
    finished = [t for t in trials(study_result) if t.state is not TrialState.FAIL]
    assert [t.params for t in finished] == [t.params for t in trials(at_once)[:6]]
    assert [t.value for t in finished] == [t.value for t in trials(at_once)[:6]]
    assert len(nested(mlflow_client.connect(store), logged.run_id)) == 6
    # Enough trials are finished already: the same result is returned.
    again, same = tune.tune(changed(task, trials=6), store)
    assert (again, same.run_id, len(trials(again))) == (study_result, logged.run_id, 7)


@pytest.mark.usefixtures("quick")
def test_trials_that_were_not_logged_are_logged_when_the_study_continues(
    task: TuningTask, store: MlflowConfig, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", _unreachable(after=2))
        with pytest.raises(ConnectionError):
            tune.tune(task, store)
    study_result, logged = tune.tune(task, store)
    runs = nested(mlflow_client.connect(store), logged.run_id)
    assert sorted(r.data.tags["trial"] for r in runs) == ["0", "1", "2", "3"]
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert all(r.data.metrics[study_result.metric] > 0 for r in runs)


def _unreachable(after: int) -> object:
    log_batch, calls = MlflowClient.log_batch, iter(range(100))

    def call(*args: object, **named: object) -> object:
        if next(calls) >= after:
            raise ConnectionError
        return log_batch(*args, **named)  # type: ignore[arg-type]

    return call


def test_a_trial_that_falls_behind_is_pruned(whole: tuple[TuningTask, StudyResult, LoggedStudy], store: MlflowConfig):
    _, study_result, logged = whole
    all_trials = trials(study_result)
    pruned = [t for t in all_trials if t.state is TrialState.PRUNED]
    assert 0 < len(pruned) == study_result.pruned < 10
    assert study_result.complete + study_result.pruned == 10
    assert (
        max(t.params["one_to_one.ranker.learning_rate"] for t in pruned)
        < study_result.settings["one_to_one.ranker.learning_rate"]
    )
    runs = {r.data.tags["trial"]: r for r in nested(mlflow_client.connect(store), logged.run_id)}
    for trial in pruned:
        run = runs[str(trial.number)]
        assert run.data.tags["state"] == "pruned"
        assert run.data.metrics["trees"] == max(trial.intermediate_values) < 12


def test_one_trial_in_three_changes_one_generator_the_others_the_ranker(
    whole: tuple[TuningTask, StudyResult, LoggedStudy],
):
    _, study_result, _ = whole
    all_trials = trials(study_result)
    blocks = [t.user_attrs["changed"] for t in all_trials]
    assert blocks[0] == "the recipe itself"
    assert blocks[3::3] == ["generators.als", "generators.item_knn", "generators.neighbours"]
    assert {b for n, b in enumerate(blocks) if n % 3} == {"one_to_one.ranker"}
    als = [tuple(v for k, v in t.params.items() if k.startswith("generators.als")) for t in all_trials]
    assert als[0] == als[1] == als[2] != als[3]


def test_a_better_recipe_is_written_with_a_caveat(whole: tuple[TuningTask, StudyResult, LoggedStudy]):
    task, study_result, logged = whole
    text = study_text.render_study(study_result, logged, task.out)
    assert study_result.better
    assert study_text.study_to_dict(study_result, logged, task.out)["better"] is True
    assert "optimistic" in text
    assert "one_to_one.ranker.learning_rate: 0.1 -> " in text
    assert task.out.read_text().startswith("# Made by `usual tune`: the best of 10 trials")
    assert recipes.load(task.out).one_to_one.ranker.learning_rate > 0.1


def test_the_initial_recipe_stands_where_none_is_better(
    task: TuningTask, store: MlflowConfig, quick: type[FakeTrialData]
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "gain", 0.0)
        study_result, logged = tune.tune(changed(task, trials=2), store)
    assert not study_result.better
    assert "stands: no trial did better" in study_text.render_study(study_result, logged, task.out)
    assert task.out.read_text().startswith("# Left as it was by `usual tune`")
    assert recipes.load(task.out) == task.recipe


@pytest.mark.usefixtures("quick")
def test_a_study_of_another_identity_is_refused(task: TuningTask, store: MlflowConfig, newer_log: EventLog):
    tune.tune(changed(task, trials=1), store)
    for other, difference in (
        ({"event_log": newer_log, "until": SHOP_ENDS}, "another log .*, now"),
        ({"until": SHOP_ENDS - DAY}, "another end 2026-03-12T00:00:00Z, now 2026-03-11T00:00:00Z"),
        (
            {"metric": "predictive_mrr"},
            "another metric one_to_one_ndcg_at_10, now predictive_mrr; another search space",
        ),
        ({"recipe": small(seed=8)}, "another recipe"),
    ):
        with pytest.raises(InputError, match=f"was made for {difference}") as refused:
            tune.tune(changed(task, trials=1, **other), store)
        assert "Give another --name" in str(refused.value)
    # Without a name each has its own study.
    names = {tune.tune(changed(task, trials=1, name=None, until=u), store)[0].study for u in (None, SHOP_ENDS - DAY)}
    assert len(names) == 2


def test_inactive_generators_do_not_change_a_study(event_log: EventLog):
    def identify(recipe: Recipe, generators: tuple[str, ...]) -> dict[str, str]:
        ranges = recipe_space.search_space(recipe, "one_to_one", generators)
        return study_identity(event_log, SHOP_ENDS, "one_to_one_mrr", recipe, ranges, generators)

    old, new = small(boundaries=3), small_with_embedding()
    set_by_hand = recipe_space.apply_settings(new, {"generators.embedding.neighbours": 99})
    study = identify(old, ALWAYS_ACTIVE)
    assert study == identify(new, ALWAYS_ACTIVE) == identify(set_by_hand, ALWAYS_ACTIVE)
    assert study["features"] == "b8c7266609251837"  # as without `embedding` and `stated`
    others = [identify(recipe, GENERATORS) for recipe in (old, new, set_by_hand)]
    assert len({each["recipe"] for each in (study, *others)}) == 4
    assert all(each["features"] != study["features"] for each in others)


@pytest.mark.usefixtures("quick")
def test_two_processes_do_not_run_one_study(task: TuningTask, store: MlflowConfig):
    def second(*_: object) -> None:
        with pytest.raises(InputError, match="is being tuned by another process"):
            tune.tune(task, store)
        calls.append(1)

    calls: list[int] = []
    tune.tune(changed(task, trials=2), store, second)
    assert calls == [1, 1]


def test_errors_say_what_cannot_be_tuned(task: TuningTask, store: MlflowConfig, event_log: EventLog, tmp_path: Path):
    with pytest.raises(
        InputError, match="--metric coverage is not one to tune for; choose one of one_to_one_ndcg_at_10"
    ):
        tune.tune(changed(task, metric="coverage"), store)
    with pytest.raises(InputError, match="with horizon_days 60 training needs 180"):
        tune.tune(changed(task, recipe=small(horizon_days=60)), store)
    tree = small(boundaries=3).model_dump()
    tree["predictive"]["budgets"] = {"embedding_visit": 30}
    with pytest.raises(InputError, match=r"predictive of the recipe has budgets only of .*: embedding_visit\. Add"):
        tune.tune(changed(task, recipe=Recipe.model_validate(tree)), store)
    few = event_log.scan().filter(pl.col("client_id").is_in([f"d00000{n}" for n in range(5)])).collect()
    tiny = log.write(tmp_path / "few", few, event_log.catalog(), event_log.rejected(), event_log.links())
    with pytest.raises(InputError, match=r"one_to_one cannot be tuned: the log has \d+ queries to learn from"):
        tune.tune(changed(task, event_log=tiny, until=SHOP_ENDS), store)
