"""Visitors that are no people, by the rate of what they do.

The rule: a visitor with more than `PER_HOUR` page events in one clock hour, or more than `PER_DAY` in one
day (UTC), is a bot, and none of its events counts. Page events are those of one row an event; orders and
lists have a row per item and do not count, so a large order makes nobody a bot. As of an instant only the
events before it decide, so a visitor found out later was still a visitor before.
"""

from collections.abc import Sequence

import narwhals as nw

from features.clock import DAY, HOUR
from features.engine import Lazy, distinct

PER_HOUR = 300  # a page every twelve seconds for an hour
PER_DAY = 1000
PAGE_EVENTS = ("select_item", "view_item", "search", "add_to_wishlist", "add_to_cart", "remove_from_cart")


def visitor() -> nw.Expr:
    """Who an event is of: the device where it is known, else the customer. Ids of the two kinds may be equal."""
    return nw.coalesce("client_id", "customer_id").alias("visitor")


def bots(events: Lazy) -> Lazy:
    """One row per bot: visitor. `events` has name, client_id, customer_id and t."""
    pages = events.filter(nw.col("name").is_in(PAGE_EVENTS))
    hours = (
        pages.select(visitor(), hour=nw.col("t") // HOUR)
        .group_by("visitor", "hour")
        .agg(pages=nw.len())
        .with_columns(day=nw.col("hour") // (DAY // HOUR))
    )
    days = hours.group_by("visitor", "day").agg(pages=nw.col("pages").sum(), busiest=nw.col("pages").max())
    return distinct(days.filter((nw.col("pages") > PER_DAY) | (nw.col("busiest") > PER_HOUR)), "visitor")


def without(events: Lazy, found: Sequence[str]) -> Lazy:
    """`events` less those of the bots found: they are few, so a look-up is cheaper than a join."""
    return events.filter(~visitor().is_in(found))


def activity(events: Lazy, found: Lazy) -> Lazy:
    """One row per bot found: visitor, events that the rule takes out, first and last of them (µs)."""
    marked = events.with_columns(visitor()).join(found, on="visitor", how="inner")
    return marked.group_by("visitor").agg(events=nw.len(), first=nw.col("t").min(), last=nw.col("t").max())
