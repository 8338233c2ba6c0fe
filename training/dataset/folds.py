"""Folds: the tables, generators and queries of one boundary of training.

At a boundary everything is refitted on the events before it, and the events after it are the labels. So no training
example sees a model that saw its future.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from features.common.clock import DAY, iso
from features.common.errors import InputError
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables.build import build_from_events
from features.tables.left_out import LeftOut
from models.bundle import RecommenderName
from models.candidates.generators import Generators
from training.dataset.queries import Queries, build_queries
from training.recipe import Recipe


@dataclass(frozen=True)
class Fold:
    """Everything that is refitted at one boundary. Neither `snapshot` nor `generators` saw an event at or after `at`.

    `at`: the boundary, in microseconds. `traffic`: customer_id, source, device, country of the customers known then.
    `queries`: those after the boundary, by recommender. `left_out`: the events before it that count in no table.
    """

    at: int
    snapshot: Snapshot
    generators: Generators
    traffic: pl.DataFrame
    queries: dict[RecommenderName, Queries]
    left_out: LeftOut = field(default_factory=LeftOut)


def check_end(events_from: int, until: int) -> None:
    """Raise `InputError` where training ends before the log begins; both in microseconds."""
    if until <= events_from:
        raise InputError(
            f"the end of training, {iso(until)}, is not after the log's first event, {iso(events_from)}; "
            "choose a later --until"
        )


def choose_boundaries(events_from: int, until: int, recipe: Recipe) -> list[int]:
    """Choose the training boundaries, latest first: the first is where the hold-out begins. All in microseconds.

    Raises `InputError` where the log is too short for a boundary with a horizon before and after it.
    """
    horizon = recipe.horizon_days * DAY
    check_end(events_from, until)
    first = until - horizon
    steps = [first - k * recipe.boundary_step_days * DAY for k in range(recipe.boundaries)]
    boundaries = [at for at in steps if at >= events_from + horizon]
    if not any(before_holdout(boundaries, recipe)):
        needed = 3 * recipe.horizon_days
        raise InputError(
            f"the log covers {(until - events_from) / DAY:.0f} days before {iso(until)}; with horizon_days "
            f"{recipe.horizon_days} training needs {needed}: one horizon to learn from, one to label, one to "
            "hold out. Bring more history or a recipe with a shorter horizon"
        )
    return boundaries


def before_holdout(boundaries: Sequence[int], recipe: Recipe) -> list[bool]:
    """Tell which boundaries have all their labels before the hold-out, which begins at the first of them."""
    return [at <= boundaries[0] - recipe.horizon_days * DAY for at in boundaries]


def build_folds(
    event_log: EventLog,
    boundaries: Sequence[int],
    recipe: Recipe,
    report: Callable[[str], None],
    active: Collection[str] | None = None,
) -> Iterator[Fold]:
    """Build the fold of each boundary, one at a time: a fold takes much memory, and most are needed only briefly.

    `report` is called with a line of progress before each. All have the generators whose keys are `active`, by default
    those that apply to the first.
    """
    events, catalog, links = event_log.scan(), event_log.catalog(), event_log.links()
    for at in boundaries:
        report(f"refit as of {iso(at)[:10]}")
        fold = build_fold(events, catalog, at, recipe, links, active)
        active = fold.generators.active
        yield fold
        del fold  # before the next one is built


def build_fold(
    events: pl.LazyFrame,
    catalog: pl.DataFrame,
    at: int,
    recipe: Recipe,
    links: pl.DataFrame | None = None,
    active: Collection[str] | None = None,
) -> Fold:
    """Fit on the events before `at` (microseconds), and collect the queries of the `horizon_days` from there.

    `active`: the keys of the generators to fit, by default those that apply (`Generators.fit`).
    """
    tables = build_from_events(events, catalog, at, links)
    snapshot = Snapshot.from_tables(tables)
    return Fold(
        at=at,
        snapshot=snapshot,
        generators=Generators.fit(snapshot, recipe.generators, active),
        traffic=tables.customers.select("customer_id", "source", "device", "country"),
        queries=build_queries(events, snapshot, at + recipe.horizon_days * DAY, recipe),
        left_out=tables.left_out,
    )
