"""Facts: the tables of a log that checks read. Each is computed when it is first read, and once.

They hold a row per item, visitor, order, hour or name, never one per event, so memory does not grow with the traffic
of a shop of given size.
"""

from functools import cached_property

import numpy as np
import polars as pl

from features.common.clock import DAY, HOUR, moment
from features.event_log.log import EventLog
from features.event_log.schema import ITEM_EVENTS

RECENT_DAYS = 28
ISOLATED_GAP_DAYS = 30
ISOLATED_SHARE = 0.01  # pieces of a log with fewer of its events, beyond such a gap, are isolated


class Facts:
    """The events of `log` before `as_of` (microseconds; default: all), as tables.

    `t` and times are in microseconds. An order without an order_id is its event.
    """

    def __init__(self, log: EventLog, as_of: int | None = None) -> None:
        self.log, self.as_of = log, as_of
        events = log.scan()
        if as_of is not None:
            events = events.filter(pl.col("timestamp") < moment(as_of))
        self.events = events.with_columns(name=pl.col("name").cast(pl.String), t=pl.col("timestamp").dt.timestamp("us"))

    @cached_property
    def hours(self) -> pl.DataFrame:
        """name, hour (since the epoch), events: by name and hour, in order of time."""
        keyed = self.events.group_by("name", hour=pl.col("t") // HOUR)
        return keyed.agg(events=pl.len()).sort("hour", "name").collect(engine="streaming")

    @cached_property
    def names(self) -> dict[str, int]:
        """Event name → rows, the most frequent first."""
        counts = (
            self.hours.group_by("name").agg(pl.col("events").sum()).sort("events", "name", descending=[True, False])
        )
        return dict(counts.iter_rows())

    @cached_property
    def days(self) -> pl.DataFrame:
        """day (since the epoch), events, in order of time."""
        return self.hours.group_by(day=pl.col("hour") // (DAY // HOUR)).agg(pl.col("events").sum()).sort("day")

    @property
    def rows(self) -> int:
        return sum(self.names.values())

    @cached_property
    def end(self) -> int:
        """The time after the last day that is not isolated: what counts as recent goes by it."""
        days = self.days
        main = days[: days.height - split_isolated(days)[1].height]["day"]
        last = int(main[-1] + 1) * DAY if len(main) else 0
        return last if self.as_of is None else min(last, self.as_of)

    @cached_property
    def items(self) -> pl.DataFrame:
        """item_id, events (that mean something only with an item), recent (of the last 28 days), sold (rows)."""
        recent = pl.col("t") >= self.end - RECENT_DAYS * DAY
        with_item = self.events.filter(pl.col("name").is_in(ITEM_EVENTS), pl.col("item_id").is_not_null())
        aggregated = with_item.group_by("item_id").agg(
            events=pl.len(), recent=recent.sum(), sold=(pl.col("name") == "purchase").sum()
        )
        return aggregated.sort("item_id").collect(engine="streaming")

    @cached_property
    def visitors(self) -> pl.DataFrame:
        """customer_id (null: unknown), client_id (null where there is a customer), events, item_events, orders."""
        customer, name = pl.col("customer_id"), pl.col("name")
        order = pl.when(name == "purchase").then(pl.coalesce("order_id", "event_id"))
        keyed = self.events.group_by(customer, client_id=pl.when(customer.is_null()).then("client_id"))
        aggregated = keyed.agg(
            events=pl.len(), item_events=name.is_in(ITEM_EVENTS).sum(), orders=order.drop_nulls().n_unique()
        )
        return aggregated.sort("events", "customer_id", "client_id", descending=[True, False, False]).collect(
            engine="streaming"
        )

    @cached_property
    def catalog(self) -> pl.DataFrame:
        """The catalog, one row per item."""
        return self.log.catalog()

    @cached_property
    def shop_catalog(self) -> pl.DataFrame:
        """The items of the catalog that the shop handed over; those known from events alone are not in it."""
        return self.catalog.filter(pl.col("updated_at").is_null())

    @property
    def span_days(self) -> float:
        """Days from the first to the last event."""
        return (self.days["day"][-1] - self.days["day"][0] + 1) if self.days.height else 0


def split_isolated(days: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off the isolated days before and after the rest; `days` has day and events, in order of time."""
    total = int(days["events"].sum())
    numbers, events = days["day"].to_numpy(), days["events"].to_numpy()
    pieces = np.split(np.arange(days.height), np.flatnonzero(np.diff(numbers) > ISOLATED_GAP_DAYS) + 1)
    sizes = [int(events[piece].sum()) for piece in pieces]
    main = [n for n, size in enumerate(sizes) if size >= ISOLATED_SHARE * total]
    if not main:
        return days.clear(), days.clear()
    start, end = int(pieces[main[0]][0]), int(pieces[main[-1]][-1]) + 1
    return days[:start], days[end:]
