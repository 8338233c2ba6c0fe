"""A study as MLflow shows it: one run, a nested run per trial, plots, and the recipe that came of it.

Parameters have the names that training runs give them. Each trial is logged with a few calls once it is finished;
what an interruption kept from being logged is logged when the study goes on.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from features.common.errors import InputError
from training.config import MlflowConfig
from training.recipe import flat
from training.tracking.mlflow_client import connect
from training.tuning import plots
from training.tuning.space import applied
from training.tuning.study import Study

PARENT = "mlflow.parentRunId"  # what makes a run nested
_PARENT_RUN = "mlflow_run"  # the study's attribute with the id of its run


@dataclass(frozen=True)
class Logged:
    """Where a study is to be found."""

    run_id: str
    experiment: str
    tracking_uri: str


@dataclass(frozen=True)
class Record:
    """A study's run."""

    client: "mlflow.MlflowClient"
    experiment_id: str
    run_id: str
    study: Study
    about: dict[str, str]
    config: MlflowConfig

    def trial(self, trial: FrozenTrial, run_id: str | None = None) -> None:
        """Log a finished trial as a nested run; `run_id`: the one that an interruption left unfinished."""
        began, ended = _milliseconds(trial.datetime_start), _milliseconds(trial.datetime_complete)
        changed = trial.user_attrs["changed"]
        if run_id is None:
            tags = {
                PARENT: self.run_id,
                "trial": str(trial.number),
                "state": trial.state.name.lower(),
                "changed": changed,
                "log_fingerprint": self.about["log"],
            }
            run = self.client.create_run(self.experiment_id, began, tags, f"trial {trial.number}: {changed}")
            run_id = run.info.run_id
        metric = self.about["metric"]
        values = {metric: trial.value, "trees": trial.user_attrs["trees"], "seconds": trial.user_attrs["seconds"]}
        logged = [Metric(name, float(value), ended, 0) for name, value in values.items()]
        # Step: how many trees.
        logged += [Metric(f"{metric}_by_trees", v, ended, trees) for trees, v in trial.intermediate_values.items()]
        recipe = applied(self.study.recipe, trial.user_attrs["settings"])
        parameters = [Param(name, str(value)) for name, value in flat(recipe.model_dump()).items()]
        self.client.log_batch(run_id, logged, parameters)
        self.client.set_terminated(run_id, "FINISHED", ended)

    def catch_up(self) -> None:
        """Log the finished trials that are not there."""
        found = {r.data.tags["trial"]: r for r in self._nested() if "trial" in r.data.tags}
        for trial in self.study.finished():
            run = found.get(str(trial.number))
            if run is None or run.info.status != "FINISHED":
                self.trial(trial, run.info.run_id if run else None)

    def close(self, measured: dict[str, float], recipe: str) -> Logged:
        """Log what came of the study."""
        now = int(time.time() * 1000)
        tags = [RunTag("best_trial", str(int(measured["best_trial"])))]
        self.client.log_batch(self.run_id, [Metric(k, float(v), now, 0) for k, v in measured.items()], tags=tags)
        self.client.log_text(self.run_id, recipe, "best-recipe.yml")
        for name, figure in plots.figures(self.study, self.about["metric"]).items():
            self.client.log_figure(self.run_id, figure, f"plots/{name}.png")
        return Logged(self.run_id, self.config.experiment, self.config.uri)

    def _nested(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], f"tags.`{PARENT}` = '{self.run_id}'", page_token=token)
            yield from page
            token = page.token
            if not token:
                return


@contextlib.contextmanager
def recording(config: MlflowConfig, study: Study, about: dict[str, str]) -> Iterator[Record]:
    """The study's run, begun or taken up again; finished trials that it lacks are logged first."""
    client = connect(config)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:  # someone removed it just now
        raise InputError(f"MLflow at {config.uri} has no experiment {config.experiment}; run the command again")
    experiment_id = experiment.experiment_id
    run_id = _run_of(client, study)
    if run_id is None:
        tags = {"study": study.name, "log_fingerprint": about["log"], "until": about["end"]}
        run_id = client.create_run(experiment_id, tags=tags, run_name=f"tune {study.name}").info.run_id
        client.log_batch(run_id, params=[Param("metric", about["metric"]), Param("until", about["end"])])
        study.kept.set_user_attr(_PARENT_RUN, run_id)
    client.update_run(run_id, "RUNNING")
    record = Record(client, experiment_id, run_id, study, about, config)
    record.catch_up()
    try:
        yield record
    except BaseException as error:
        client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _run_of(client: "mlflow.MlflowClient", study: Study) -> str | None:
    """The study's run, if the store has it: it may have been deleted, or be another store."""
    run_id = study.kept.user_attrs.get(_PARENT_RUN)
    try:
        known = run_id is not None and client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        known = False
    return run_id if known else None


def _milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else int(time.time() * 1000)
