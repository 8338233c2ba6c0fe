"""The simulated shop: people with tastes, habits and a price in mind, and the log of their visits.

For the demo, tests and benchmarks. The same config gives the same log, byte for byte.

A visit is about a category, drawn from the visitor's taste and the season, and a style, one of three the
visitor has; the items looked at are drawn by popularity, style, price and brand, or are among the customer's
favourites (`choice`). A part of the visits ends in an order. Items that are used up are bought again, by
customers who made them a habit (`habits`). `events` is what a log records of that. The probabilities
behind it are in `truth`. How real shops compare: docs/simulator.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.event_log.ingestion.ingest import ParsedBatch
from features.sources.simulator import frames
from features.sources.simulator.calendar import Calendar, draw_calendar
from features.sources.simulator.choice import Choice, draw_choice
from features.sources.simulator.config import SimulatorConfig as SimulatorConfig
from features.sources.simulator.events import record_bots, record_visits
from features.sources.simulator.habits import Habits, draw_reorders
from features.sources.simulator.items import Items, draw_items
from features.sources.simulator.people import Devices, People, draw_devices, draw_favourites, draw_people
from features.sources.simulator.quizzes import record_quizzes
from features.sources.simulator.visits import Rates, Visits, draw_visits, merge_visits

SLICE_ROWS = 2_000_000


@dataclass(frozen=True)
class Shop:
    """All of the shop and of what happens in it, whether or not the log records it."""

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
    """Draw the shop of a config and all that happens in it. Raises `InputError` for an unknown department."""

    def stream(part: int) -> np.random.Generator:
        # Each part draws from a stream of its own: switching one off leaves the others as they are.
        return np.random.default_rng([config.seed, part])

    items = draw_items(stream(0), config)
    calendar = draw_calendar(stream(1), config, items)
    choice = draw_choice(stream(2), config, items, calendar)
    people = draw_people(stream(3), config, items)
    devices = draw_devices(stream(4), config, people)
    favourites = draw_favourites(stream(5), choice, people)
    visits, rates = draw_visits(stream(6), config, choice, people, devices, favourites)
    trips, habits = draw_reorders(stream(7), config, calendar, items, people, devices, visits)
    return Shop(
        config, items, calendar, choice, people, devices, favourites, merge_visits(visits, trips), habits, rates
    )


def read(config: SimulatorConfig, slice_rows: int = SLICE_ROWS) -> Iterator[ParsedBatch]:
    """Yield the log in order of time, about `slice_rows` rows each; the first batch has the catalog and the links."""
    shop = simulate(config)
    rng = np.random.default_rng([config.seed, 8])
    rows, sessions = record_visits(rng, config, shop.items, shop.visits, config.customers)
    bot_rows, bots = record_bots(rng, config, shop.items, len(rows), len(shop.visits.person))
    writer = frames.LogWriter.build(
        config, shop.items, shop.calendar, shop.people, shop.devices, shop.visits, sessions, bots
    )
    rows = frames.merge_rows(config, rows, bot_rows)
    catalog = frames.build_catalog(config, shop.items)
    links = writer.links(np.random.default_rng([config.seed, 9]), rows)
    numbers: NDArray[np.int64] = np.cumsum(rows.head)
    quizzes, recorded = (record_quizzes(config, shop.people, shop.choice, writer, rows) if config.quizzes else None), 0
    # The rows of one event stay in one part.
    heads = np.append(np.flatnonzero(rows.head), len(rows))
    cuts = heads[np.searchsorted(heads, np.arange(slice_rows, len(rows), slice_rows))]
    for low, high in pairwise([0, *np.unique(cuts[cuts < len(rows)]).tolist(), len(rows)]):
        part = slice(low, high)
        events = writer.events(rows[part], numbers[part])
        if quizzes is not None:
            until = quizzes.height if high == len(rows) else quizzes["timestamp"].search_sorted(events["timestamp"][-1])
            events = pl.concat([quizzes[recorded:until], events]).sort("timestamp", maintain_order=True)
            recorded = until
        if low == 0:
            yield ParsedBatch(rows_read=events.height, events=events, catalog=catalog, links=links)
        else:
            yield ParsedBatch(rows_read=events.height, events=events)
