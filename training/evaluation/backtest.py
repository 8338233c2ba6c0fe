"""How a finished bundle does on a window it has not seen."""

from collections.abc import Mapping

import polars as pl

from features.common.clock import iso
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.sources.simulator.truth import Truth
from features.tables import build
from models.bundle import Bundle, RecommenderName
from models.customers.predictions import Predictions
from training.dataset import queries
from training.dataset.queries import Queries
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.oracle import oracle
from training.recipe import Recipe


def refreshed(bundle: Bundle, event_log: EventLog, as_of: int) -> Bundle:
    """The bundle's models over the log's snapshot as of `as_of`."""
    return bundle.refreshed(Snapshot.of(_tables(bundle, event_log, as_of)))


def predicted(bundle: Bundle, now: build.Tables) -> pl.DataFrame:
    """What the bundle's models expect of the customers of `now`: `Predictions.table`."""
    _check(bundle, now.as_of)
    snapshot = Snapshot.of(now)
    return Predictions.of(bundle.propensity, snapshot).table(snapshot)


def _check(bundle: Bundle, as_of: int) -> None:
    """Raises `InputError` where the bundle knows what came after `as_of`."""
    if as_of < bundle.snapshot.as_of:
        raise InputError(
            f"the model was trained on events up to {iso(bundle.snapshot.as_of)}; as of {iso(as_of)} it would know "
            "its future. Choose a later time, or train with an earlier --until"
        )


def _tables(bundle: Bundle, event_log: EventLog, as_of: int) -> build.Tables:
    _check(bundle, as_of)
    return build.at(event_log, as_of)


def replay(
    bundle: Bundle, event_log: EventLog, start: int, end: int, recipe: Recipe, truth: Truth | None = None
) -> dict[RecommenderName, Evaluation]:
    """Evaluate on [start, end) with a snapshot as of `start`. `recipe` says how visits are sampled.

    With the `truth` of a simulated log, the oracle's share is told as well.
    Raises `InputError` where the model has seen the window or the window holds nothing to compare with.
    """
    if end <= start:
        raise InputError(f"the window from {iso(start)} to {iso(end)} is empty; --to must be after --from")
    made = _tables(bundle, event_log, start)
    current = bundle.refreshed(Snapshot.of(made))
    asked = queries.after(event_log.scan(), current.snapshot, end, recipe)
    evaluations = measure(current, asked, end, made.customers, truth)
    if not evaluations:
        raise InputError(f"nobody in the window from {iso(start)} to {iso(end)} can be compared with a recommendation")
    return evaluations


def measure(
    current: Bundle,
    asked: Mapping[RecommenderName, Queries],
    end: int,
    customers: pl.DataFrame | None = None,
    truth: Truth | None = None,
) -> dict[RecommenderName, Evaluation]:
    """Evaluate a bundle on what is `asked` from its snapshot's instant to `end` (`queries.after`).

    Recommenders without a query are left out. `customers`, `truth`: as `evaluate` and `replay` take them.
    """
    snapshot = current.snapshot
    return {
        name: evaluate(
            recommender,
            snapshot,
            asked[name],
            customers,
            oracle(truth, snapshot, asked[name], snapshot.as_of, end) if truth else None,
        )
        for name, recommender in current.recommenders.items()
        if len(asked[name])
    }
