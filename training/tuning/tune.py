"""Tuning: try many recipes on one hold-out, and tell whether the best is better than the initial one.

The hold-out and the fit before it are those of a training run (training/train.py): the last `horizon_days` before
the end. Nothing after the end is looked at, and trials are compared by their metric on the hold-out alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from features.common.clock import DAY, micros, next_midnight
from features.common.errors import InputError
from features.common.memory import keep_freed_memory
from features.common.progress import Progress, silent
from features.event_log.log import EventLog
from models.bundle import RECOMMENDERS
from models.ranker import RankerConfig
from training.config import MlflowConfig
from training.evaluation import bootstrap, metrics
from training.recipe import Recipe, flatten
from training.tuning import study_text
from training.tuning.log_study import LoggedStudy, open_study_run
from training.tuning.recipe_space import apply_settings, search_space
from training.tuning.recipe_yaml import render_recipe
from training.tuning.study import Study, open_study, study_identity, trial_value
from training.tuning.study_result import StudyResult
from training.tuning.trial_data import TrialData, TrialDataCache

METRIC = "one_to_one_ndcg_at_10"
METRICS = {
    f"{name}_{new}{metric}": (name, new + metric)
    for name in RECOMMENDERS
    for new in ("", "new_")
    for metric in metrics.PER_QUERY
}
"""What may be tuned for → the recommender and its metric: all metrics that are means over queries."""


@dataclass(frozen=True)
class TuningTask:
    """What to tune: `recipe`, whose YAML is `text`, in `trials` trials; the better recipe is written to `out`.

    `until`: the end, in microseconds; `metric`: one of `METRICS`; `name`: of the study.
    """

    event_log: EventLog
    recipe: Recipe
    text: str
    trials: int
    out: Path
    until: int | None = None
    metric: str = METRIC
    name: str | None = None

    @property
    def end(self) -> int:
        """End of the hold-out, in microseconds."""
        return self.until if self.until is not None else next_midnight(micros(self.event_log.last) + 1)


def tune(task: TuningTask, config: MlflowConfig, step: Progress = silent) -> tuple[StudyResult, LoggedStudy]:
    """Run trials until the study has `task.trials` finished ones; write the best recipe, or the initial one.

    Raises `InputError` where the log is too short, or the study of that name has another identity.
    """
    keep_freed_memory()
    if task.metric not in METRICS:
        raise InputError(f"--metric {task.metric} is not one to tune for; choose one of {', '.join(METRICS)}")
    name, metric = METRICS[task.metric]
    data = TrialDataCache(task.event_log, task.end, name, metric)
    steps, total = count(1), data.count_folds(task.recipe) + task.trials

    def report(text: str) -> None:
        step(text, next(steps), total)

    generators = data.active_generators(task.recipe, report)
    ranges = search_space(task.recipe, name, generators)
    identity = study_identity(task.event_log, task.end, task.metric, task.recipe, ranges, generators)
    with (
        open_study(task.name, identity, ranges, task.recipe) as study,
        open_study_run(config, study, identity) as run,
    ):
        done = len(study.finished())
        steps = count(next(steps) + done)  # trials of an earlier run count as done
        while done < task.trials:
            run.log_trial(_run_trial(task, study, data, report))
            done = len(study.finished())
        result = replace(_compare(task, study), left_out=data.left_out)
        settings = result.settings if result.better else {}
        text = render_recipe(task.text, task.recipe, settings, study_text.recipe_header(result))
        task.out.parent.mkdir(parents=True, exist_ok=True)
        task.out.write_text(text)
        logged = run.log_result(result.metrics(), text)
    return result, logged


def _run_trial(task: TuningTask, study: Study, data: TrialDataCache, report: Callable[[str], None]) -> FrozenTrial:
    trial, block, settings = study.next_trial()
    start = time.monotonic()
    trial.set_user_attr("changed", block)
    trial.set_user_attr("settings", settings)
    recipe = apply_settings(task.recipe, settings)
    trial_data = data.get(recipe, report)
    best = f", best so far {trial_value(study.best()):.4f}" if study.complete() else ""
    report(f"trial {trial.number}: {block}{best}")
    ranker = recipe.recommender(METRICS[task.metric][0]).ranker
    state, value = _measure(study, trial, trial_data, ranker)
    trial.set_user_attr("seconds", round(time.monotonic() - start, 2))
    return study.optuna_study.tell(trial, value, state)


def _measure(
    study: Study, trial: optuna.Trial, trial_data: TrialData, config: RankerConfig
) -> tuple[TrialState, float | None]:
    def prune(values: np.ndarray, trees: int) -> None:
        trial.report(float(np.nanmean(values)), trees)
        if trial.should_prune():
            trial.set_user_attr("trees", trees)
            raise optuna.TrialPruned

    try:
        values, trees = trial_data.measure(config, prune)
    except optuna.TrialPruned:
        return TrialState.PRUNED, None
    trial.set_user_attr("trees", trees)
    np.save(study.per_query(trial.number), values, allow_pickle=False)
    return TrialState.COMPLETE, float(np.nanmean(values))


def _compare(task: TuningTask, study: Study) -> StudyResult:
    """Compare the best trial with the first, which is the initial recipe."""
    finished, first, best = study.finished(), study.complete()[0], study.best()
    initial_values, best_values = (np.load(study.per_query(t.number), allow_pickle=False) for t in (first, best))
    return StudyResult(
        study=study.name,
        metric=task.metric,
        holdout=(task.end - task.recipe.horizon_days * DAY, task.end),
        queries=len(best_values),
        complete=len(study.complete()),
        pruned=len(finished) - len(study.complete()),
        default=trial_value(first),
        best=trial_value(best),
        best_trial=best.number,
        difference=bootstrap.paired_difference(best_values, initial_values, task.recipe.seed),
        settings=best.user_attrs["settings"],
        initial_settings=flatten(task.recipe.model_dump()),
    )
