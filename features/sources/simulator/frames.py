"""Frames of the simulated log: recorded numbers as events, catalog and links in the log's columns."""

from dataclasses import dataclass
from datetime import UTC, datetime, time

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features.common.clock import micros
from features.event_log.catalog import conform_catalog
from features.event_log.schema import EMBEDDING, EVENT_NAMES, EVENT_SCHEMA, TIMESTAMP, conform
from features.sources.simulator import people as simulated_people
from features.sources.simulator.calendar import Calendar
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.events import DAY, Rows, Sessions
from features.sources.simulator.items import BRANDS, Items, draw_vectors
from features.sources.simulator.people import COUNTRIES, DEVICES, Devices, People
from features.sources.simulator.visits import SOURCES, Visits

VECTORS_STREAM = 10  # of random numbers, beside those of `shop`
PURCHASE, REFUND = EVENT_NAMES.index("purchase"), EVENT_NAMES.index("refund")
FOUR_DIGITS = np.array([f"{i:04d}" for i in range(10_000)], dtype="S4").view("<u4")


def log_start(config: SimulatorConfig) -> int:
    """The start of the config's log, microseconds since the epoch."""
    return micros(datetime.combine(config.start, time(), UTC))


def merge_rows(config: SimulatorConfig, people: Rows, bots: Rows) -> Rows:
    """Merge all rows inside the log's days, in order of time; the rows of one event stay together."""
    rows = Rows(*(np.concatenate([getattr(people, f), getattr(bots, f)]) for f in Rows.__dataclass_fields__))
    order = np.argsort(rows.time, kind="stable")
    low, high = np.searchsorted(rows.time[order], [0, config.days * DAY])
    return rows[order[low:high]]


def make_ids(prefix: str, count: int) -> pl.Series:
    """Make `count` ids: the prefix and a number of at least six digits."""
    return pl.select(pl.lit(prefix) + pl.int_range(count).cast(pl.String).str.zfill(6)).to_series()


def format_ids(prefix: str, numbers: NDArray[np.integer], present: NDArray[np.bool_] | None = None) -> pl.Series:
    """Format ids of `prefix` (one letter) and eleven digits, null where not `present`.

    Arrow holds texts of up to twelve bytes inside its views, so they are written there as numbers: ten
    times as fast as formatting each.
    """
    first = np.array([f"{prefix}{i:03d}" for i in range(1000)], dtype="S4").view("<u4")
    views = np.empty((len(numbers), 4), "<u4")
    rest, low = np.divmod(numbers, 10_000)
    high, middle = np.divmod(rest, 10_000)
    views[:, 0], views[:, 1], views[:, 2], views[:, 3] = 12, first[high], FOUR_DIGITS[middle], FOUR_DIGITS[low]
    valid = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    array = pa.Array.from_buffers(pa.string_view(), len(numbers), [valid, pa.py_buffer(views)])
    return pl.Series(array)


def _gather(values: pl.Series, index: NDArray[np.integer], present: NDArray[np.bool_] | None = None) -> pl.Series:
    at = pl.Series(index.astype(np.uint32) if present is None else np.where(present, index, 0).astype(np.uint32))
    if present is not None:
        at = at.set(pl.Series(~present), None)
    return values.gather(at)


@dataclass(frozen=True)
class LogWriter:
    """Writes rows as events and links, by the values of their visit, person, client and item."""

    config: SimulatorConfig
    items: Items
    calendar: Calendar
    sessions: Sessions
    person: NDArray[np.int64]  # per visit, −1 for a bot
    client: NDArray[np.int64]  # per visit
    source: NDArray[np.int64]  # per visit
    day: NDArray[np.int64]  # per visit
    device: NDArray[np.int64]  # per client
    country: NDArray[np.int64]  # per person, a bot's last
    consent: NDArray[np.bool_]  # per person, a bot's last
    ids: dict[str, pl.Series]

    @classmethod
    def build(
        cls,
        config: SimulatorConfig,
        items: Items,
        calendar: Calendar,
        people: People,
        devices: Devices,
        visits: Visits,
        sessions: Sessions,
        bots: NDArray[np.int64],
    ) -> "LogWriter":
        none = np.full(len(bots), -1)
        clients = devices.clients + int(bots.max(initial=-1)) + 1
        queries = [
            text for noun, title, c in zip(items.noun, items.title, items.category, strict=True)
            for text in (noun, title.lower(), items.categories[c].path.rpartition("/")[2])
        ]  # fmt: skip
        lists = ["search", *(f"category/{s.path}" for s in items.categories)]
        return cls(
            config=config,
            items=items,
            calendar=calendar,
            sessions=Sessions(
                np.append(sessions.login, np.full(len(bots), np.iinfo(np.int64).max)),
                np.append(sessions.known, np.zeros(len(bots), bool)),
            ),
            person=np.append(visits.person, none),
            client=np.append(visits.client, devices.clients + bots),
            source=np.append(visits.source, np.zeros(len(bots), np.int64)),
            day=np.append(visits.day, none),
            device=np.append(devices.kind, np.full(clients - devices.clients, 1)),
            country=np.append(devices.country, 0),
            consent=np.append(devices.consent, True),
            ids={
                "customer": make_ids("c", config.customers),
                "client": make_ids("d", clients),
                "item": make_ids("i", config.items),
                "query": pl.Series(queries),
                "list": pl.Series(lists),
            },
        )

    def events(self, rows: Rows, numbers: NDArray[np.int64]) -> pl.DataFrame:
        """Write `rows` in `EVENT_SCHEMA`; `numbers` is the number of each row's event."""
        visit, has_item = rows.visit, rows.item >= 0
        person, client = self.person[visit], self.client[visit]
        sale = (rows.name == PURCHASE) | (rows.name == REFUND)
        # A bot's price is of the row's day, a refund's of the day of purchase.
        day = np.where(person < 0, rows.time // DAY, self.day[visit])
        price = (self.items.price[rows.item] * (1 - self.calendar.discount[day, rows.item].astype(float))).round(2)
        currency = pl.Series([self.config.currency])
        zero = np.zeros(len(rows), np.uint32)
        frame = pl.DataFrame({
            "event_id": format_ids("e", numbers),
            "name": _gather(pl.Series(EVENT_NAMES, dtype=pl.Categorical), rows.name),
            "timestamp": pl.Series(rows.time + log_start(self.config)).cast(TIMESTAMP),
            "customer_id": _gather(self.ids["customer"], person, rows.time >= self.sessions.login[visit]),
            "client_id": _gather(self.ids["client"], client),
            # A refund is booked by the shop, outside any visit.
            "session_id": format_ids("s", visit, rows.name != REFUND),
            "item_id": _gather(self.ids["item"], rows.item, has_item),
            "quantity": _or_null(rows.quantity.astype(float), rows.quantity > 0),
            "price": _or_null(price, has_item),
            "currency": _gather(currency, zero, has_item),
            "order_id": format_ids("o", visit, sale),
            "query": _gather(self.ids["query"], rows.query, rows.query >= 0),
            "list_id": _gather(self.ids["list"], rows.list_, rows.list_ >= 0),
            "position": _or_null(rows.position.astype(np.int32), rows.position > 0),
            "source": _gather(pl.Series(SOURCES, dtype=pl.Categorical), self.source[visit]),
            "device": _gather(pl.Series(DEVICES, dtype=pl.Categorical), self.device[client]),
            "country": _gather(pl.Series(COUNTRIES, dtype=pl.Categorical), self.country[person]),
            "consent": self.consent[person],
        })  # fmt: skip
        return conform(frame, EVENT_SCHEMA)

    def links(self, rng: np.random.Generator, rows: Rows) -> pl.DataFrame:
        """Build the links of clients and customers beside logins."""
        of_people = np.flatnonzero(self.person[rows.visit] >= 0)
        visit, first = np.unique(rows.visit[of_people], return_index=True)
        at = pl.Series(rows.time[of_people[first]] + log_start(self.config)).cast(TIMESTAMP)
        order = np.argsort(rows.time[of_people[first]], kind="stable")
        visit = visit[order].astype(np.int64)
        return simulated_people.build_links(
            rng,
            self.config,
            self.person[visit],
            self.client[visit],
            at.gather(order),
            self.sessions.known[visit],
            (self.ids["customer"], self.ids["client"]),
        )


def _or_null(values: NDArray[np.float64] | NDArray[np.int32], present: NDArray[np.bool_]) -> pl.Series:
    return pl.Series(values).set(pl.Series(~present), None)


def build_catalog(config: SimulatorConfig, items: Items) -> pl.DataFrame:
    """Build the catalog of all items in `CATALOG_SCHEMA`, at their full price; with `embedding` if configured."""
    frame = pl.DataFrame({
        "item_id": make_ids("i", config.items),
        "title": items.title,
        "category": [items.categories[c].path for c in items.category],
        "brand": [BRANDS[b] for b in items.brand],
        "price": items.price,
        "first_seen": pl.Series(items.launch_day * DAY + log_start(config)).cast(TIMESTAMP),
        "available": True,
    })  # fmt: skip
    if config.vectors:
        # A stream of its own: vectors leave the rest of the shop as it is.
        vectors = draw_vectors(np.random.default_rng([config.seed, VECTORS_STREAM]), config, items)
        frame = frame.with_columns(pl.Series(EMBEDDING, vectors).arr.to_list())
    return conform_catalog(frame.with_columns(currency=pl.lit(config.currency)))
