"""Visibility: the events that may be used as of an instant. Every table is computed from these."""

from dataclasses import dataclass

import narwhals as nw
import polars as pl

from features.event_log.schema import EVENT_NAMES
from features.tables import bots, identity
from features.tables.engine import Engine, Lazy

COLUMNS = (
    "t", "name", "customer_id", "client_id", "session_id", "item_id", "quantity", "price", "order",
    "source", "device", "country",
)  # fmt: skip


def select_usable(engine: Engine, events: Lazy, as_of: int) -> Lazy:
    """Select the events before `as_of` that carry consent and a known name: `COLUMNS`.

    `t` is in microseconds. `order` is the order of a purchase or refund (without an order_id each event is its own),
    null for other events.
    """
    money = nw.col("name").is_in(["purchase", "refund"])
    return (
        engine.with_micros(events, "timestamp", "t")
        .filter(nw.col("t") < as_of, nw.col("consent").fill_null(True), nw.col("name").is_in(EVENT_NAMES))
        .with_columns(order=nw.when(money).then(nw.coalesce("order_id", "event_id")))
        .select(*COLUMNS)
    )


@dataclass(frozen=True)
class VisibleEvents:
    """The events of a log that the tables of one instant are computed from.

    `events`: `COLUMNS`, anonymous events under the customer they belong to. `profiles`: client_id, customer_id of the
    clients that belong to exactly one customer. `bots`: client_id or customer_id, events, first, last of the bots.
    """

    events: Lazy
    profiles: Lazy
    bots: pl.DataFrame


def select_visible(engine: Engine, events: Lazy, links: Lazy, as_of: int) -> VisibleEvents:
    """Select the usable events of people before `as_of`, resolved to customers; `links` is in `LINK_SCHEMA`."""
    usable = engine.materialize(select_usable(engine, events, as_of))
    (bot_ids,) = engine.collect([bots.find_bots(usable)])
    human = bots.remove_bots(usable, bot_ids) if len(bot_ids) else usable
    (bot_activity,) = engine.collect([bots.measure_activity(usable, bot_ids)])
    profiles = engine.materialize(identity.build_profiles(human, engine.with_micros(links, "at", "t"), as_of))
    return VisibleEvents(engine.materialize(identity.resolve(human, profiles)), profiles, bot_activity)
