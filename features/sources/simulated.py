"""A shop that does not exist: customers with tastes, habits and a price in mind, and what they did.

For the demo, tests and benchmarks. The same config gives the same log, byte for byte.

A visit has a category in mind, drawn from the visitor's taste; each item looked at is the most liked
of a few that popularity put in front of the visitor, so popularity and taste both show in the log. A
part of the visits ends in an order. What is used up is bought again, by those who made it a habit.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.events import CATALOG_SCHEMA, EVENT_SCHEMA, conform
from features.ingest import Parsed
from features.sources.simulated_items import BRANDS, SHELVES, Items, draw
from features.sources.simulated_visits import SimulatorConfig as SimulatorConfig
from features.sources.simulated_visits import Visits, browse, draw_people, joined, reorders

DAY_US = 86_400_000_000
SOURCES = ["direct", "organic", "paid_search", "email", "social"]
DEVICES = ["mobile", "desktop", "tablet"]
COUNTRIES = ["DE", "AT", "CH", "NL"]


def read(config: SimulatorConfig) -> Iterator[Parsed]:
    """One `Parsed` with the whole log and a complete catalog."""
    rng = np.random.default_rng(config.seed)
    items = draw(rng, config.items, config.days, config.launched)
    people = draw_people(rng, config, len(items.first) - 1)
    browsing = browse(rng, config, items, people)
    visits = joined(browsing, reorders(rng, config, items, people, browsing))
    events = _events(rng, config, items, visits)
    yield Parsed(rows_read=events.height, events=events, catalog=_catalog(config, items))


def _events(rng: np.random.Generator, config: SimulatorConfig, items: Items, v: Visits) -> pl.DataFrame:
    people, visits, views = int(v.person.max(initial=0)) + 1, len(v.person), len(v.visit)
    midnight = int(datetime.combine(config.start, time(), UTC).timestamp()) * 1_000_000
    # Microseconds after the first view; a cart follows its view before the next one.
    pause = (np.clip(rng.lognormal(3.5, 0.8, views), 12, 600) * 1e6).astype(np.int64)
    spent = np.cumsum(pause)
    first = np.searchsorted(v.visit, np.arange(visits))
    viewed = (v.start * DAY_US).astype(np.int64)[v.visit] + spent - spent[first][v.visit] + midnight
    carted = viewed + (rng.uniform(3, 10, views) * 1e6).astype(np.int64)
    last = np.append(first[1:], views) - 1
    paid = (viewed[last] + (rng.uniform(30, 240, visits) * 1e6).astype(np.int64))[v.visit]
    back = paid + (rng.uniform(2, 20, views) * DAY_US).astype(np.int64)

    ordered = np.bincount(v.visit[v.bought], minlength=visits) > 0
    known = (v.person < config.customers) & (rng.random(visits) < np.where(ordered, 0.9, 0.6))
    refill = items.refill_days[v.item] > 0
    refunded = v.bought & ~refill & (rng.random(views) < config.refunds)
    quantity = np.where(refill, 1 + rng.poisson(0.6, views), 1 + (rng.random(views) < 0.05))
    discount = np.where(rng.random(visits) < 0.1, 0.85, 1.0)[v.visit]
    stranger = v.person >= config.customers
    met = rng.choice(5, visits, p=[0.2, 0.35, 0.25, 0.02, 0.18])
    source = np.where(stranger, met, rng.choice(5, visits, p=[0.35, 0.25, 0.1, 0.22, 0.08]))
    device = rng.choice(3, people, p=[0.6, 0.34, 0.06])
    country = rng.choice(4, people, p=[0.7, 0.12, 0.1, 0.08])
    consent = rng.random(people) >= config.refused

    def pick(words: list[str], index: NDArray[np.int64]) -> pl.Series:
        return pl.Series(words)[index]

    def ids(prefix: str, numbers: NDArray[np.int64]) -> pl.Series:
        return pl.select(pl.lit(prefix) + pl.Series(numbers).cast(pl.String).str.zfill(6)).to_series()

    def rows(name: str, mask: NDArray[np.bool_], at: NDArray[np.int64], event_ids: pl.Series) -> pl.DataFrame:
        visit, sale = v.visit[mask], name in ("purchase", "refund")
        frame = pl.DataFrame({
            "event_id": event_ids,
            "timestamp": at[mask],
            "customer_id": ids("c", v.person[visit]).set(pl.Series(~known[visit]), None),
            "client_id": ids("d", v.person[visit]),
            # A refund is booked by the shop, outside any visit.
            "session_id": None if name == "refund" else ids("s", visit),
            "item_id": ids("i", v.item[mask]),
            "quantity": None if name == "view_item" else quantity[mask].astype(float),
            "price": (items.price[v.item] * discount).round(2)[mask],
            "order_id": ids("o", visit) if sale else None,
            "source": pick(SOURCES, source[visit]),
            "device": pick(DEVICES, device[v.person[visit]]),
            "country": pick(COUNTRIES, country[v.person[visit]]),
            "consent": consent[v.person[visit]],
        })  # fmt: skip
        return conform(frame.with_columns(name=pl.lit(name), currency=pl.lit(config.currency)), EVENT_SCHEMA)

    everything, row = np.ones(views, bool), np.arange(views)
    events = pl.concat([
        rows("view_item", everything, viewed, ids("v", row)),
        rows("add_to_cart", v.carted, carted, ids("a", row[v.carted])),
        rows("purchase", v.bought, paid, ids("p", v.visit[v.bought])),
        rows("refund", refunded, back, ids("r", row[refunded])),
    ])  # fmt: skip
    end = midnight + config.days * DAY_US
    inside = pl.col("timestamp").to_physical() < end
    return events.filter(inside).sort("timestamp", "event_id", "item_id")


def _catalog(config: SimulatorConfig, items: Items) -> pl.DataFrame:
    midnight = datetime.combine(config.start, time(), UTC)
    frame = pl.DataFrame({
        "item_id": np.arange(len(items.price)),
        "title": items.title,
        "category": [SHELVES[c].path for c in items.category],
        "brand": [BRANDS[b] for b in items.brand],
        "price": items.price,
        "launch": np.floor(items.launch_day * DAY_US).astype(np.int64),
    })  # fmt: skip
    frame = frame.with_columns(
        item_id=pl.lit("i") + pl.col("item_id").cast(pl.String).str.zfill(6),
        first_seen=pl.lit(midnight) + pl.duration(microseconds="launch"),
        currency=pl.lit(config.currency),
        available=True,
    )
    return conform(frame, CATALOG_SCHEMA)
