"""Habits of the simulated customers: items that are used up and bought again, and the visits that leads to.

The first purchase of an item that is used up becomes a habit with the chance `config.habit`. It is bought again
after a gap of whole days, drawn each time around refill days × the person's pace; each time one in ten
customers ends the habit. The purchase is on the first day from then on which the person goes shopping
(every `config.rhythm` days) and the item is in stock.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.sources.simulator.calendar import Calendar
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.items import Items
from features.sources.simulator.people import Devices, People
from features.sources.simulator.visits import Visits, draw_clients, draw_sources, draw_times_of_day

KEEP_UP_CHANCE = 0.9
GAP_SPREAD = 0.2  # standard deviation of the log of a gap


@dataclass(frozen=True)
class Habits:
    """One row per purchase of a habit, sorted by person, item, day; the first of an item began the habit."""

    person: NDArray[np.int64]
    item: NDArray[np.int64]
    day: NDArray[np.int64]


def next_shopping_day(rhythm: int, person: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first day, from `day` on, on which a person goes shopping: every `rhythm` days, staggered by person."""
    return day + (-(day + person)) % rhythm


def draw_reorders(
    rng: np.random.Generator,
    config: SimulatorConfig,
    calendar: Calendar,
    items: Items,
    people: People,
    devices: Devices,
    visits: Visits,
) -> tuple[Visits, Habits]:
    """Draw the visits in which customers buy again, all that is due on a day in one order; and their habits."""
    person, day, refill = visits.person[visits.visit], visits.day[visits.visit], items.refill_days
    rows = np.flatnonzero((visits.units > 0) & (person < people.customers) & (refill[visits.item] > 0))
    rows = rows[np.argsort(visits.visit[rows], kind="stable")]
    rows = rows[np.unique(person[rows] * config.items + visits.item[rows], return_index=True)[1]]
    rows = rows[rng.random(len(rows)) < config.habit]
    who, what, last = person[rows], visits.item[rows], day[rows]
    purchases = [(who, what, last)]
    while len(who):
        gap = refill[what] * people.pace[who] * rng.lognormal(0, GAP_SPREAD, len(who))
        due = next_shopping_day(config.rhythm, who, last + np.maximum(np.rint(gap).astype(np.int64), 1))
        while (waits := (due < config.days) & calendar.out[np.minimum(due, config.days - 1), what]).any():
            due[waits] += config.rhythm
        goes_on = (rng.random(len(who)) < KEEP_UP_CHANCE) & (due < people.until[who]) & (due < config.days)
        who, what, last = who[goes_on], what[goes_on], due[goes_on]
        purchases.append((who, what, last))
    who, what, when = (np.concatenate(part) for part in zip(*purchases, strict=True))
    again = np.arange(len(who)) >= len(rows)
    trips, visit = np.unique(who[again] * config.days + when[again], return_inverse=True)
    person, day = np.divmod(trips, config.days)
    reorders = Visits(
        person=person,
        start=day + draw_times_of_day(rng, len(trips)),
        source=draw_sources(rng, config, people, person),
        client=draw_clients(rng, devices, person),
        visit=visit,
        item=what[again],
        units=np.ones(again.sum(), np.int64),
    )
    order = np.lexsort((when, what, who))
    return reorders, Habits(who[order], what[order], when[order])
