"""A tuning study: its trials in Optuna's storage, and the choice of the settings that are tried next.

The storage is a SQLite file in USUAL_HOME, so that a study goes on where it was stopped or killed. Which settings come
next depends on the seed and the finished trials alone: an interrupted study tries the same ones.
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
from models.candidates.registry import GeneratorName
from training.recipe import Recipe, flatten
from training.tracking.mlflow_client import silence_logs
from training.tuning import recipe_space

GENERATORS_EVERY = 3  # one trial in so many changes a generator or the budgets, the others the ranker
STARTUP = 6  # trials before Optuna models their values
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Study:
    """The trials of one name. `directory` holds each complete trial's metric of every query of the hold-out."""

    optuna_study: optuna.Study
    ranges: dict[str, recipe_space.Range]
    recipe: Recipe
    directory: Path

    @property
    def name(self) -> str:
        return str(self.optuna_study.study_name)

    def finished(self) -> list[FrozenTrial]:
        """Complete and pruned trials, first to last."""
        return self.optuna_study.get_trials(deepcopy=False, states=FINISHED)

    def complete(self) -> list[FrozenTrial]:
        """Complete trials, first to last."""
        return self.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def best(self) -> FrozenTrial:
        """The trial with the highest value; of equals the first."""
        return max(self.complete(), key=lambda trial: (trial_value(trial), -trial.number))

    def next_trial(self) -> tuple[optuna.Trial, str, recipe_space.Settings]:
        """Begin the next trial: the trial, the block of settings that it changes, and its settings.

        The first is the recipe itself. After that the best settings so far are held, save for one block: the
        ranker's, or in every third trial those of one generator or the budgets, in turn. So most trials need no
        refit, and each tests one block at a time.
        """
        n = len(self.finished())
        values = flatten(self.recipe.model_dump())
        ranker, *others = recipe_space.group_settings(self.ranges)
        if not self.complete():
            block, base = [], {name: values[name] for name in self.ranges}
        else:
            refit = n % GENERATORS_EVERY == 0 and others
            block = others[(n // GENERATORS_EVERY - 1) % len(others)] if refit else ranker
            base = self.best().params
        fixed = {name: value for name, value in base.items() if name not in block}
        # A seed for every trial: with one for all, a new sampler would repeat itself after an interruption.
        seed = int(np.random.SeedSequence([self.recipe.seed, n]).generate_state(1)[0])
        tpe = TPESampler(n_startup_trials=STARTUP, multivariate=True, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.optuna_study.sampler = PartialFixedSampler(fixed, tpe)
        trial = self.optuna_study.ask()
        return trial, _block_name(block), recipe_space.suggest(trial, self.ranges, self.recipe)

    def per_query(self, number: int) -> Path:
        """File of a complete trial's metric by query."""
        return self.directory / f"trial-{number}.npy"


def trial_value(trial: FrozenTrial) -> float:
    """Return the value of a complete trial."""
    if trial.value is None:
        raise ValueError(f"trial {trial.number} has no value")
    return trial.value


def study_identity(
    event_log: EventLog,
    until: int,
    metric: str,
    recipe: Recipe,
    ranges: dict[str, Any],
    generators: tuple[GeneratorName, ...],
) -> dict[str, str]:
    """Describe what must be the same for the values of trials to be comparable, in words for messages.

    `generators`: the names of the active ones, in the order of columns. Of others nothing counts, so that a study
    continues when a generator is added that does not apply to its log.
    """
    return {
        "log": event_log.fingerprint,
        "end": iso(until),
        "metric": metric,
        "recipe": _digest(recipe.dump_active(generators)),
        "search space": _digest({name: repr(distribution) for name, distribution in ranges.items()}),
        "features": schema_hash(generators),
    }


@contextlib.contextmanager
def open_study(
    name: str | None, identity: dict[str, str], ranges: dict[str, recipe_space.Range], recipe: Recipe
) -> Iterator[Study]:
    """Open the study `name` (default: named after its identity), creating it if it does not exist.

    `identity` as `study_identity` describes it. Raises `InputError` where the study has another identity, or is at
    work in another process.
    """
    name = name or f"{identity['metric']} until {identity['end'][:10]} {_digest(identity)[:8]}"
    directory = home() / "tuning" / hashlib.sha256(name.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warmup = max(_rounds(recipe, identity["metric"]) // 5, 1)
    message = f"the study {name!r} is being tuned by another process; wait, or give another --name"
    with exclusive_lock(directory / "lock", if_held=lambda _: message):
        with silence_logs():  # Alembic logs every table that it creates
            study = optuna.create_study(
                storage=_storage(home() / "tuning" / "optuna.db"),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                # Small learning rates start slowly: no trial is pruned in the first fifth of the trees.
                pruner=MedianPruner(n_startup_trials=4, n_warmup_steps=warmup),
            )
        _check(study, name, identity)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)  # no other process has the lock: this trial was killed
        yield Study(study, ranges, recipe, directory)


def _storage(path: Path) -> RDBStorage:
    storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})

    def connected(connection: sqlite3.Connection, _: object) -> None:
        # Optuna commits every setting of a trial by itself. Without waiting for the disk each time a killed process
        # still loses nothing, and a power cut the last moments.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(storage.engine, "connect", connected)
    storage.engine.dispose()  # connections opened before the listener
    return storage


def _check(study: optuna.Study, name: str, identity: dict[str, str]) -> None:
    stored = study.user_attrs.get("about")
    if stored is None:
        study.set_user_attr("about", identity)
    elif stored != identity:
        changes = [f"{key} {stored.get(key)}, now {new}" for key, new in identity.items() if stored.get(key) != new]
        raise InputError(
            f"the study {name!r} was made for another {'; another '.join(changes)}: its trials cannot be compared with "
            "new ones. Give another --name, or none to have one chosen, or the log, --until, --metric and --recipe "
            "that it was made with"
        )


def _block_name(names: list[str]) -> str:
    return names[0].rpartition(".")[0] if names else "the recipe itself"


def _rounds(recipe: Recipe, metric: str) -> int:
    return (recipe.predictive if metric.startswith("predictive_") else recipe.one_to_one).ranker.rounds


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
