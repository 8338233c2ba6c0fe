"""Sessions: start, length and event counts of each visit of a customer."""

import narwhals as nw

from features.common.clock import SECOND
from features.tables.engine import Lazy, count_where


def build_sessions(events: Lazy) -> Lazy:
    """Build one row per customer × session: start, end (µs), seconds, events, views, carts, sales, searches.

    Events without a session_id are in none. Every row counts as an event here; an item list has a row per item, so
    lists are left out.
    """

    def count(name: str) -> nw.Expr:
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
            views=count("view_item"),
            carts=count("add_to_cart"),
            sales=count("purchase"),
            searches=count("search"),
        )
        .with_columns(seconds=(nw.col("end") - nw.col("start")).cast(nw.Float64) / SECOND)
    )
