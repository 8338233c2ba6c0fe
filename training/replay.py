"""How a finished bundle does on a window it has not seen."""

from features import tables
from features.clock import DAY, iso
from features.errors import InputError
from features.log import EventLog
from features.snapshot import Snapshot
from models.bundle import Bundle, RecommenderName
from training import queries
from training.evaluate import Evaluation, evaluate
from training.recipe import Recipe


def refreshed(bundle: Bundle, event_log: EventLog, as_of: int) -> Bundle:
    """The bundle's models over the log's snapshot as of `as_of`."""
    if as_of < bundle.snapshot.as_of:
        raise InputError(
            f"the model was trained on events up to {iso(bundle.snapshot.as_of)}; as of {iso(as_of)} it would know "
            "its future. Choose a later time, or train with an earlier --until"
        )
    return bundle.refreshed(Snapshot.of(tables.at(event_log, as_of)))


def replay(
    bundle: Bundle, event_log: EventLog, start: int, end: int, recipe: Recipe
) -> dict[RecommenderName, Evaluation]:
    """Evaluate on [start, end) with a snapshot as of `start`. `recipe` says how visits are sampled.

    Raises `InputError` where the model has seen the window or the window holds nothing to compare with.
    """
    if end <= start:
        raise InputError(f"the window from {iso(start)} to {iso(end)} is empty; --to must be after --from")
    current = refreshed(bundle, event_log, start)
    future = queries.window(event_log.scan(), start, end)
    visits = future.filter(future["t"] < start + recipe.visit_days * DAY)
    asked = {
        "one_to_one": queries.one_to_one(future, current.snapshot),
        "predictive": queries.predictive(visits, current.snapshot, recipe.visits_per_boundary, recipe.seed),
    }
    evaluations = {
        name: evaluate(recommender, current.snapshot, asked[name])
        for name, recommender in current.recommenders.items()
        if len(asked[name])
    }
    if not evaluations:
        raise InputError(f"nobody in the window from {iso(start)} to {iso(end)} can be compared with a recommendation")
    return evaluations
