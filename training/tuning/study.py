"""A tuning study: which settings are tried next, and what came of those that were.

Kept in Optuna's own storage, a SQLite file in USUAL_HOME, so that a study goes on where it was stopped or killed.
Which settings come next depends on the seed and the finished trials alone: an interrupted study tries the same ones.
"""

import contextlib
import hashlib
import json
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from features.common.clock import iso
from features.common.errors import InputError
from features.common.locks import exclusive_lock
from features.common.paths import home
from features.event_log.log import EventLog
from features.ranking.feature_matrix import schema_hash
from training.recipe import Recipe, flatten
from training.tracking.mlflow_client import quiet
from training.tuning import recipe_space

GENERATORS_EVERY = 3  # one trial in so many changes a generator or the budgets, the others the ranker
STARTUP = 6  # trials before Optuna models what it has seen
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Study:
    """The trials of one name. `directory` holds each complete trial's value of every query of the hold-out."""

    kept: optuna.Study
    ranges: dict[str, recipe_space.Range]
    recipe: Recipe
    directory: Path

    @property
    def name(self) -> str:
        return str(self.kept.study_name)

    def finished(self) -> list[FrozenTrial]:
        """Complete and pruned trials, first to last."""
        return self.kept.get_trials(deepcopy=False, states=FINISHED)

    def complete(self) -> list[FrozenTrial]:
        return self.kept.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def best(self) -> FrozenTrial:
        """The highest value; of equals the first."""
        return max(self.complete(), key=lambda trial: (value(trial), -trial.number))

    def ask(self) -> tuple[optuna.Trial, str, recipe_space.Settings]:
        """The next trial, what it changes, and its settings.

        The first is the recipe itself. After that the best settings so far are held, save for one block: the
        ranker's, or in every third trial those of one generator or the budgets, each in its turn. So most trials
        need no refit, and each answers a question of its own.
        """
        n = len(self.finished())
        values = flatten(self.recipe.model_dump())
        ranker, *others = recipe_space.blocks(self.ranges)
        if not self.complete():
            changed, base = [], {name: values[name] for name in self.ranges}
        else:
            refit = n % GENERATORS_EVERY == 0 and others
            changed = others[(n // GENERATORS_EVERY - 1) % len(others)] if refit else ranker
            base = self.best().params
        held = {name: value for name, value in base.items() if name not in changed}
        # A seed for every trial: a sampler made anew with the same one would repeat itself after an interruption.
        seed = int(np.random.SeedSequence([self.recipe.seed, n]).generate_state(1)[0])
        tpe = TPESampler(n_startup_trials=STARTUP, multivariate=True, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.kept.sampler = PartialFixedSampler(held, tpe)
        trial = self.kept.ask()
        return trial, _block(changed), recipe_space.suggest(trial, self.ranges, self.recipe)

    def per_query(self, number: int) -> Path:
        return self.directory / f"trial-{number}.npy"


def value(trial: FrozenTrial) -> float:
    """What a complete trial measured."""
    if trial.value is None:
        raise ValueError(f"trial {trial.number} has no value")
    return trial.value


def identity(event_log: EventLog, until: int, metric: str, recipe: Recipe, ranges: dict[str, Any]) -> dict[str, str]:
    """What must be the same for values to be comparable, in words for people."""
    return {
        "log": event_log.fingerprint,
        "end": iso(until),
        "metric": metric,
        "recipe": _digest(recipe.model_dump(mode="json")),
        "search space": _digest({name: repr(where) for name, where in ranges.items()}),
        "features": schema_hash(),
    }


@contextlib.contextmanager
def opened(name: str | None, about: dict[str, str], ranges: dict[str, recipe_space.Range], recipe: Recipe) -> Iterator[Study]:
    """The study `name` (default: one named after what it is about), made if it is not there.

    Raises `InputError` where it was made about something else, or is at work in another process.
    """
    name = name or f"{about['metric']} until {about['end'][:10]} {_digest(about)[:8]}"
    directory = home() / "tuning" / hashlib.sha256(name.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    message = f"the study {name!r} is being tuned by another process; wait, or give another --name"
    with exclusive_lock(directory / "lock", if_held=lambda _: message):
        with quiet():  # Alembic says line by line that it makes the tables
            made = optuna.create_study(
                storage=_storage(home() / "tuning" / "optuna.db"),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                # Small learning rates start slowly: nobody is judged by the first fifth of the trees.
                pruner=MedianPruner(n_startup_trials=4, n_warmup_steps=max(_rounds(recipe, about["metric"]) // 5, 1)),
            )
        _check(made, name, about)
        for trial in made.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            made.tell(trial.number, state=TrialState.FAIL)  # nobody else is at work: it was killed
        yield Study(made, ranges, recipe, directory)


def _storage(path: Path) -> RDBStorage:
    storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})

    def connected(connection: sqlite3.Connection, _: object) -> None:
        # Optuna commits every setting of a trial by itself. Without waiting for the disk each time a killed process
        # still loses nothing, and a power cut the last moments.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", connected)
    storage.engine.dispose()  # connections of before
    return storage


def _check(made: optuna.Study, name: str, about: dict[str, str]) -> None:
    known = made.user_attrs.get("about")
    if known is None:
        made.set_user_attr("about", about)
    elif known != about:
        differ = [f"{key} {known.get(key)}, now {value}" for key, value in about.items() if known.get(key) != value]
        raise InputError(
            f"the study {name!r} was made for another {'; another '.join(differ)}: its trials cannot be compared with "
            "new ones. Give another --name, or none to have one chosen, or the log, --until, --metric and --recipe "
            "that it was made with"
        )


def _block(names: list[str]) -> str:
    return names[0].rpartition(".")[0] if names else "the recipe itself"


def _rounds(recipe: Recipe, metric: str) -> int:
    return (recipe.predictive if metric.startswith("predictive_") else recipe.one_to_one).ranker.rounds


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
