"""Bots: visitors that are not people, recognised by the rate of their events.

A visitor with more than `PER_HOUR` page events in one clock hour, or more than `PER_DAY` in one day (UTC), is a bot,
and none of its events counts. Page events have one row an event; orders and lists have a row per item and do not
count, so a large order makes nobody a bot. As of an instant only the events before it decide: a visitor that turns
out to be a bot later was not one yet.
"""

import narwhals as nw
import polars as pl

from features.common.clock import DAY, HOUR
from features.tables.engine import Lazy, distinct

PER_HOUR = 300  # a page every twelve seconds for an hour
PER_DAY = 1000
PAGE_EVENTS = ("select_item", "view_item", "search", "add_to_wishlist", "add_to_cart", "remove_from_cart")

_IDS = ("client_id", "customer_id")


def _visitors(events: Lazy) -> Lazy:
    """Null the customer where there is a client, so that the two ids name the visitor, by device where it is known.

    One id alone would not do: a client and a customer may have the same id.
    """
    return events.with_columns(customer_id=nw.when(nw.col("client_id").is_null()).then(nw.col("customer_id")))


def find_bots(events: Lazy) -> Lazy:
    """Find the bots, one row each: client_id, or customer_id where there is no client. `events` has these, name, t."""
    pages = _visitors(events.filter(nw.col("name").is_in(PAGE_EVENTS)))
    hours = pages.with_columns(hour=nw.col("t") // HOUR).group_by(*_IDS, "hour").agg(pages=nw.len())
    days = (
        hours.with_columns(day=nw.col("hour") // (DAY // HOUR))
        .group_by(*_IDS, "day")
        .agg(pages=nw.col("pages").sum(), busiest=nw.col("pages").max())
    )
    return distinct(days.filter((nw.col("pages") > PER_DAY) | (nw.col("busiest") > PER_HOUR)), *_IDS)


def remove_bots(events: Lazy, bots: pl.DataFrame) -> Lazy:
    """Remove the events of `bots` (rows of `find_bots`): they are few, so a look-up is cheaper than a join."""
    return events.filter(~_is_bot(bots))


def measure_activity(events: Lazy, bots: pl.DataFrame) -> Lazy:
    """Summarise the events of `bots`, one row each: ids as in `find_bots`, events, first and last (µs)."""
    bot_events = _visitors(events.filter(_is_bot(bots)))
    activity = bot_events.group_by(*_IDS).agg(events=nw.len(), first=nw.col("t").min(), last=nw.col("t").max())
    return activity.with_columns(nw.col("events").cast(nw.Int64))


def _is_bot(bots: pl.DataFrame) -> nw.Expr:
    clients, customers = (bots[column].drop_nulls().to_list() for column in _IDS)
    device = nw.col("client_id").is_in(clients).fill_null(False)
    return device | (nw.col("client_id").is_null() & nw.col("customer_id").is_in(customers).fill_null(False))
