"""Tuning: many recipes tried on one hold-out, and whether the best is better than the one to begin with.

The hold-out and the fit before it are those of a training run (training/train.py): the last `horizon_days` before
the end. Nothing after the end is looked at, and trials are judged by what they measure there alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from features.common.clock import DAY, micros, next_midnight
from features.common.errors import InputError
from features.common.progress import Step, silent
from features.event_log.log import EventLog
from models.bundle import RECOMMENDERS
from models.ranker import RankerConfig
from training.config import MlflowConfig
from training.evaluation import bootstrap, metrics
from training.recipe import Recipe, flat
from training.tuning import report, space, tracking
from training.tuning.best_recipe import written
from training.tuning.outcome import Outcome
from training.tuning.prepared import Prepared, Workshop
from training.tuning.study import Study, identity, opened, value

METRIC = "one_to_one_ndcg_at_10"
METRICS = {f"{who}_{new}{m}": (who, new + m) for who in RECOMMENDERS for new in ("", "new_") for m in metrics.PER_QUERY}
"""What may be tuned for → the recommender and its metric: those that each query has a value of."""


@dataclass(frozen=True)
class Task:
    """What is tuned, and where the answer goes. `text` is the YAML of `recipe`; `until` microseconds."""

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
        return self.until if self.until is not None else next_midnight(micros(self.event_log.last) + 1)


def tune(task: Task, config: MlflowConfig, step: Step = silent) -> tuple[Outcome, tracking.Logged]:
    """Run trials until the study has `task.trials` finished ones; write the recipe that came of it.

    Raises `InputError` where the log is too short, or the study of that name is about something else.
    """
    if task.metric not in METRICS:
        raise InputError(f"--metric {task.metric} is not one to tune for; choose one of {', '.join(METRICS)}")
    who, measured = METRICS[task.metric]
    ranges = space.space(task.recipe, who)
    workshop = Workshop(task.event_log, task.end, who, measured)
    refits = workshop.steps(task.recipe)
    about = identity(task.event_log, task.end, task.metric, task.recipe, ranges)
    with (
        opened(task.name, about, ranges, task.recipe) as study,
        tracking.recording(config, study, about) as record,
    ):
        done = len(study.finished())
        said, total = count(1), refits + task.trials - done

        def tell(text: str) -> None:
            step(text, next(said), total)

        while done < task.trials:
            record.trial(_try_one(task, study, workshop, tell))
            done = len(study.finished())
        outcome = _outcome(task, study)
        text = written(task.text, task.recipe, outcome.settings if outcome.better else {}, report.header(outcome))
        task.out.parent.mkdir(parents=True, exist_ok=True)
        task.out.write_text(text)
        logged = record.close(outcome.metrics(), text)
    return outcome, logged


def _try_one(task: Task, study: Study, workshop: Workshop, tell: Callable[[str], None]) -> FrozenTrial:
    trial, changed, settings = study.ask()
    began = time.monotonic()
    trial.set_user_attr("changed", changed)
    trial.set_user_attr("settings", settings)
    wanted = space.applied(task.recipe, settings)
    prepared = workshop.prepared(wanted, tell)
    best = f", best so far {value(study.best()):.4f}" if study.complete() else ""
    tell(f"trial {trial.number}: {changed}{best}")
    state, measured = _measure(study, trial, prepared, getattr(wanted, METRICS[task.metric][0]).ranker)
    trial.set_user_attr("seconds", round(time.monotonic() - began, 2))
    return study.kept.tell(trial, measured, state)


def _measure(
    study: Study, trial: optuna.Trial, prepared: Prepared, config: RankerConfig
) -> tuple[TrialState, float | None]:
    def judge(values: np.ndarray, trees: int) -> None:
        trial.report(float(np.nanmean(values)), trees)
        if trial.should_prune():
            trial.set_user_attr("trees", trees)
            raise optuna.TrialPruned

    try:
        values, trees = prepared.measure(config, judge)
    except optuna.TrialPruned:
        return TrialState.PRUNED, None
    trial.set_user_attr("trees", trees)
    np.save(study.per_query(trial.number), values, allow_pickle=False)
    return TrialState.COMPLETE, float(np.nanmean(values))


def _outcome(task: Task, study: Study) -> Outcome:
    finished, first, best = study.finished(), study.complete()[0], study.best()
    theirs, ours = (np.load(study.per_query(t.number), allow_pickle=False) for t in (first, best))
    return Outcome(
        study=study.name,
        metric=task.metric,
        holdout=(task.end - task.recipe.horizon_days * DAY, task.end),
        queries=len(ours),
        complete=len(study.complete()),
        pruned=len(finished) - len(study.complete()),
        default=value(first),
        best=value(best),
        best_trial=best.number,
        difference=bootstrap.difference(ours, theirs, task.recipe.seed),
        settings=best.user_attrs["settings"],
        before=flat(task.recipe.model_dump()),
    )
