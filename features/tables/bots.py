"""Visitors that are no people, by the rate of what they do.

The rule: a visitor with more than `PER_HOUR` page events in one clock hour, or more than `PER_DAY` in one
day (UTC), is a bot, and none of its events counts. Page events are those of one row an event; orders and
lists have a row per item and do not count, so a large order makes nobody a bot. As of an instant only the
events before it decide, so a visitor found out later was still a visitor before.
"""

import narwhals as nw
import polars as pl

from features.common.clock import DAY, HOUR
from features.tables.engine import Lazy, distinct

PER_HOUR = 300  # a page every twelve seconds for an hour
PER_DAY = 1000
PAGE_EVENTS = ("select_item", "view_item", "search", "add_to_wishlist", "add_to_cart", "remove_from_cart")


_WHO = ("client_id", "customer_id")


def _visitors(events: Lazy) -> Lazy:
    """`events` with the customer only where there is no client: the two name the visitor, a device where it is known.

    One of them alone would not do: a client and a customer may have the same id.
    """
    return events.with_columns(customer_id=nw.when(nw.col("client_id").is_null()).then(nw.col("customer_id")))


def find_bots(events: Lazy) -> Lazy:
    """One row per bot: client_id, or customer_id where there is no client. `events` has these, name and t."""
    pages = _visitors(events.filter(nw.col("name").is_in(PAGE_EVENTS)))
    hours = pages.with_columns(hour=nw.col("t") // HOUR).group_by(*_WHO, "hour").agg(pages=nw.len())
    days = (
        hours.with_columns(day=nw.col("hour") // (DAY // HOUR))
        .group_by(*_WHO, "day")
        .agg(pages=nw.col("pages").sum(), busiest=nw.col("pages").max())
    )
    return distinct(days.filter((nw.col("pages") > PER_DAY) | (nw.col("busiest") > PER_HOUR)), *_WHO)


def remove_bots(events: Lazy, found: pl.DataFrame) -> Lazy:
    """`events` less those of the bots found: they are few, so a look-up is cheaper than a join."""
    return events.filter(~_of(found))


def measure_activity(events: Lazy, found: pl.DataFrame) -> Lazy:
    """One row per bot found: its id as in `bots`, events that the rule takes out, first and last of them (µs)."""
    theirs = _visitors(events.filter(_of(found)))
    counted = theirs.group_by(*_WHO).agg(events=nw.len(), first=nw.col("t").min(), last=nw.col("t").max())
    return counted.with_columns(nw.col("events").cast(nw.Int64))


def _of(found: pl.DataFrame) -> nw.Expr:
    clients, customers = (found[who].drop_nulls().to_list() for who in _WHO)
    device = nw.col("client_id").is_in(clients).fill_null(False)
    return device | (nw.col("client_id").is_null() & nw.col("customer_id").is_in(customers).fill_null(False))
