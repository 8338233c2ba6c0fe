"""Visits: the events of one customer in one session."""

import narwhals as nw

from features.common.clock import SECOND
from features.tables.engine import Lazy, count_where


def build_sessions(events: Lazy) -> Lazy:
    """One row per customer × session: start, end (µs), seconds, events, views, carts, sales, searches.

    Events without a session_id are in none. A row of an event is an event here: a list shown counts its items once
    each, so they are left out.
    """

    def named(name: str) -> nw.Expr:
        return count_where(nw.col("name") == name)

    return (
        events.filter(
            ~nw.col("customer_id").is_null(), ~nw.col("session_id").is_null(), nw.col("name") != "view_item_list"
        )
        .group_by("customer_id", "session_id")
        .agg(
            start=nw.col("t").min(),
            end=nw.col("t").max(),
            events=nw.len(),
            views=named("view_item"),
            carts=named("add_to_cart"),
            sales=named("purchase"),
            searches=named("search"),
        )
        .with_columns(seconds=(nw.col("end") - nw.col("start")).cast(nw.Float64) / SECOND)
    )
