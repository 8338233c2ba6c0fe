"""One training run as `usual train` and `usual demo` do it: train with progress, log to MLflow, register."""

from features.common.clock import micros
from features.common.progress import show_steps
from features.event_log.log import EventLog
from training.config import MlflowConfig
from training.dataset.folds import check_end
from training.guard import Guard
from training.recipe import Recipe
from training.result import LoggedRun, TrainingResult
from training.stopwatch import Stopwatch
from training.tracking.log_run import log_run
from training.train import train


def run(
    event_log: EventLog, recipe: Recipe, config: MlflowConfig, until: int | None = None, force: str | None = None
) -> tuple[TrainingResult, LoggedRun]:
    """Check the log, fit on the events before `until` (microseconds; None: all), log to MLflow, register as challenger.

    Raises `InputError`, and registers nothing, where a check stops it; with the reason `force` it goes on.
    """
    if until is not None:
        check_end(micros(event_log.first), until)
    guard = Guard(force)
    guard.check_log(event_log, until)
    with show_steps() as step:
        watch = Stopwatch(step)
        result = train(event_log, recipe, until, watch, guard)
        seconds = watch.seconds()
    return result, log_run(result, event_log, config, seconds)
