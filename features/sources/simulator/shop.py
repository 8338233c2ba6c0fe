"""A shop that does not exist: people with tastes, habits and a price in mind, and what they did.

For the demo, tests and benchmarks. The same config gives the same log, byte for byte.

A visit is about a category, drawn from the visitor's taste and the season, and a style, one of three the
visitor has; what is looked at is drawn by popularity, style, price and brand, or is one of the customer's
favourites (`simulated_choice`). A part of the visits ends in an order. What is used up is bought again, by
those who made it a habit (`simulated_habits`). What a log records of that, `simulated_events` says. The
probabilities behind it are known: `simulated_truth`. How real shops compare: docs/simulator.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.event_log.ingest import Parsed
from features.sources.simulator import frames
from features.sources.simulator.calendar import Calendar, draw_calendar
from features.sources.simulator.choice import Choice, draw_choice
from features.sources.simulator.config import SimulatorConfig as SimulatorConfig
from features.sources.simulator.events import crawl, record
from features.sources.simulator.habits import Habits, reorders
from features.sources.simulator.items import Items, draw_items
from features.sources.simulator.people import Devices, People, draw_devices, draw_favourites, draw_people
from features.sources.simulator.visits import Rates, Visits, browse, joined

SLICE_ROWS = 2_000_000


@dataclass(frozen=True)
class Shop:
    """Everything that is so, whatever of it the log records."""

    config: SimulatorConfig
    items: Items
    calendar: Calendar
    choice: Choice
    people: People
    devices: Devices
    favourites: NDArray[np.int64]
    visits: Visits
    habits: Habits
    rates: Rates


def simulate(config: SimulatorConfig) -> Shop:
    """The shop of a config, and all that happens in it. Raises `InputError` for an unknown department."""

    def chance(idea: int) -> np.random.Generator:
        # Each idea draws from a stream of its own: switching one off leaves the others as they are.
        return np.random.default_rng([config.seed, idea])

    items = draw_items(chance(0), config)
    calendar = draw_calendar(chance(1), config, items)
    choice = draw_choice(chance(2), config, items, calendar)
    people = draw_people(chance(3), config, items)
    devices = draw_devices(chance(4), config, people)
    favourites = draw_favourites(chance(5), choice, people)
    seen, rates = browse(chance(6), config, choice, people, devices, favourites)
    trips, habits = reorders(chance(7), config, calendar, items, people, devices, seen)
    return Shop(config, items, calendar, choice, people, devices, favourites, joined(seen, trips), habits, rates)


def read(config: SimulatorConfig, slice_rows: int = SLICE_ROWS) -> Iterator[Parsed]:
    """The log in order of time, about `slice_rows` rows at a time; the first part has the catalog and the links."""
    shop = simulate(config)
    rng = np.random.default_rng([config.seed, 8])
    rows, sessions = record(rng, config, shop.items, shop.visits, config.customers)
    swept, bots = crawl(rng, config, shop.items, len(rows), len(shop.visits.person))
    writer = frames.Writer.of(config, shop.items, shop.calendar, shop.people, shop.devices, shop.visits, sessions, bots)
    rows = frames.in_order(config, rows, swept)
    catalog = frames.catalog(config, shop.items)
    links = writer.links(np.random.default_rng([config.seed, 9]), rows)
    numbers: NDArray[np.int64] = np.cumsum(rows.head)
    # The rows of one event stay in one part.
    heads = np.append(np.flatnonzero(rows.head), len(rows))
    cuts = heads[np.searchsorted(heads, np.arange(slice_rows, len(rows), slice_rows))]
    for low, high in pairwise([0, *np.unique(cuts[cuts < len(rows)]).tolist(), len(rows)]):
        part = slice(low, high)
        events = writer.events(rows[part], numbers[part])
        if low == 0:
            yield Parsed(rows_read=events.height, events=events, catalog=catalog, links=links)
        else:
            yield Parsed(rows_read=events.height, events=events)
