"""What is used up and bought again: habits, and the visits they lead to.

The first purchase of something used up becomes a habit with the chance `config.habit`. It is bought again
after a gap of whole days, drawn anew each time around refill days × the person's pace; each time one in
ten gives the habit up. It is bought on the first day from then on which the person goes shopping (every
`config.rhythm` days) and it is in stock.
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
    """One row per purchase of a habit, sorted by person, item, day; the first of an item is what began it."""

    person: NDArray[np.int64]
    item: NDArray[np.int64]
    day: NDArray[np.int64]


def next_shopping_day(rhythm: int, person: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first day, from `day` on, on which a person goes shopping: every `rhythm` days, not all on the same."""
    return day + (-(day + person)) % rhythm


def draw_reorders(
    rng: np.random.Generator,
    config: SimulatorConfig,
    calendar: Calendar,
    items: Items,
    people: People,
    devices: Devices,
    seen: Visits,
) -> tuple[Visits, Habits]:
    """Visits in which customers buy again what they have used up, everything due on a day in one order."""
    person, day, refill = seen.person[seen.visit], seen.day[seen.visit], items.refill_days
    rows = np.flatnonzero((seen.units > 0) & (person < people.customers) & (refill[seen.item] > 0))
    rows = rows[np.argsort(seen.visit[rows], kind="stable")]
    rows = rows[np.unique(person[rows] * config.items + seen.item[rows], return_index=True)[1]]
    rows = rows[rng.random(len(rows)) < config.habit]
    who, what, last = person[rows], seen.item[rows], day[rows]
    found = [(who, what, last)]
    while len(who):
        gap = refill[what] * people.pace[who] * rng.lognormal(0, GAP_SPREAD, len(who))
        due = next_shopping_day(config.rhythm, who, last + np.maximum(np.rint(gap).astype(np.int64), 1))
        while (waits := (due < config.days) & calendar.out[np.minimum(due, config.days - 1), what]).any():
            due[waits] += config.rhythm
        goes_on = (rng.random(len(who)) < KEEP_UP_CHANCE) & (due < people.until[who]) & (due < config.days)
        who, what, last = who[goes_on], what[goes_on], due[goes_on]
        found.append((who, what, last))
    who, what, when = (np.concatenate(part) for part in zip(*found, strict=True))
    again = np.arange(len(who)) >= len(rows)
    trips, visit = np.unique(who[again] * config.days + when[again], return_inverse=True)
    person, day = np.divmod(trips, config.days)
    visits = Visits(
        person=person,
        start=day + draw_times_of_day(rng, len(trips)),
        source=draw_sources(rng, config, people, person),
        client=draw_clients(rng, devices, person),
        visit=visit,
        item=what[again],
        units=np.ones(again.sum(), np.int64),
    )
    order = np.lexsort((when, what, who))
    return visits, Habits(who[order], what[order], when[order])
