"""Log a study to MLflow: one run for the study, a nested run per trial, plots, and the resulting recipe.

Parameters have the names that training runs give them. Each trial is logged with a few calls once it is finished;
what an interruption kept from being logged is logged when the study goes on.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from features.common.clock import now
from features.common.errors import InputError
from training.config import MlflowConfig
from training.recipe import flatten
from training.tracking.mlflow_client import connect
from training.tuning import study_plots
from training.tuning.recipe_space import apply_settings
from training.tuning.study import Study

PARENT = "mlflow.parentRunId"  # the tag that makes a run nested
_PARENT_RUN = "mlflow_run"  # the study's attribute with the id of its run


@dataclass(frozen=True)
class LoggedStudy:
    """Where MLflow keeps a study."""

    run_id: str
    experiment: str
    tracking_uri: str


@dataclass(frozen=True)
class StudyRun:
    """The MLflow run of a study. `identity` as `study_identity` describes it."""

    client: "mlflow.MlflowClient"
    experiment_id: str
    run_id: str
    study: Study
    identity: dict[str, str]
    config: MlflowConfig

    def log_trial(self, trial: FrozenTrial, run_id: str | None = None) -> None:
        """Log a finished trial as a nested run; `run_id`: the one that an interruption left unfinished."""
        began, ended = _milliseconds(trial.datetime_start), _milliseconds(trial.datetime_complete)
        changed = trial.user_attrs["changed"]
        if run_id is None:
            tags = {
                PARENT: self.run_id,
                "trial": str(trial.number),
                "state": trial.state.name.lower(),
                "changed": changed,
                "log_fingerprint": self.identity["log"],
            }
            run = self.client.create_run(self.experiment_id, began, tags, f"trial {trial.number}: {changed}")
            run_id = run.info.run_id
        metric = self.identity["metric"]
        values = {metric: trial.value, "trees": trial.user_attrs["trees"], "seconds": trial.user_attrs["seconds"]}
        points = [Metric(name, float(value), ended, 0) for name, value in values.items()]
        # Step: the number of trees.
        points += [Metric(f"{metric}_by_trees", v, ended, trees) for trees, v in trial.intermediate_values.items()]
        recipe = apply_settings(self.study.recipe, trial.user_attrs["settings"])
        parameters = [Param(name, str(value)) for name, value in flatten(recipe.model_dump()).items()]
        self.client.log_batch(run_id, points, parameters)
        self.client.set_terminated(run_id, "FINISHED", ended)

    def catch_up(self) -> None:
        """Log the finished trials that an interruption kept from being logged."""
        runs = {r.data.tags["trial"]: r for r in self._nested() if "trial" in r.data.tags}
        for trial in self.study.finished():
            run = runs.get(str(trial.number))
            if run is None or run.info.status != "FINISHED":
                self.log_trial(trial, run.info.run_id if run else None)

    def log_result(self, metrics: dict[str, float], recipe: str) -> LoggedStudy:
        """Log the metrics of the study, its plots, and the resulting recipe as YAML."""
        logged_at_ms = now() // 1000
        tags = [RunTag("best_trial", str(int(metrics["best_trial"])))]
        points = [Metric(k, float(v), logged_at_ms, 0) for k, v in metrics.items()]
        self.client.log_batch(self.run_id, points, tags=tags)
        self.client.log_text(self.run_id, recipe, "best-recipe.yml")
        for name, figure in study_plots.plot_study(self.study, self.identity["metric"]).items():
            self.client.log_figure(self.run_id, figure, f"plots/{name}.png")
        return LoggedStudy(self.run_id, self.config.experiment, self.config.shown_uri)

    def _nested(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], f"tags.`{PARENT}` = '{self.run_id}'", page_token=token)
            yield from page
            token = page.token
            if not token:
                return


@contextlib.contextmanager
def open_study_run(config: MlflowConfig, study: Study, identity: dict[str, str]) -> Iterator[StudyRun]:
    """Open the study's run, new or continued; finished trials that it lacks are logged first."""
    client = connect(config)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:  # deleted since `connect`
        raise InputError(f"MLflow at {config.shown_uri} has no experiment {config.experiment}; run the command again")
    experiment_id = experiment.experiment_id
    run_id = _find_run(client, study)
    if run_id is None:
        tags = {"study": study.name, "log_fingerprint": identity["log"], "until": identity["end"]}
        run_id = client.create_run(experiment_id, tags=tags, run_name=f"tune {study.name}").info.run_id
        client.log_batch(run_id, params=[Param("metric", identity["metric"]), Param("until", identity["end"])])
        study.optuna_study.set_user_attr(_PARENT_RUN, run_id)
    client.update_run(run_id, "RUNNING")
    run = StudyRun(client, experiment_id, run_id, study, identity, config)
    run.catch_up()
    try:
        yield run
    except BaseException as error:
        client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _find_run(client: "mlflow.MlflowClient", study: Study) -> str | None:
    """The study's run, if this store has it: it may have been deleted, or be in another store."""
    run_id = study.optuna_study.user_attrs.get(_PARENT_RUN)
    try:
        exists = run_id is not None and client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        exists = False
    return run_id if exists else None


def _milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else now() // 1000
