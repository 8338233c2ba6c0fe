"""What may be seen of a log as of an instant. Everything that is computed starts here."""

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
    """The events before `as_of` that carry consent and a known name: `COLUMNS`.

    `t` is in microseconds. `order` is the order of a purchase or refund (without an order_id each event is its own),
    null for all else.
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
    """What is left of a log for the tables of one instant.

    `events`: `COLUMNS`, anonymous events under the customer they belong to. `profiles`: client_id, customer_id of the
    clients that belong to one. `bots`: client_id or
    customer_id, events, first, last of who was taken for none.
    """

    events: Lazy
    profiles: Lazy
    bots: pl.DataFrame


def select_visible(engine: Engine, events: Lazy, links: Lazy, as_of: int) -> VisibleEvents:
    """The usable events of people before `as_of`; `links` is in `LINK_SCHEMA`."""
    allowed = engine.keep(select_usable(engine, events, as_of))
    (found,) = engine.collect([bots.find_bots(allowed)])
    people = bots.remove_bots(allowed, found) if len(found) else allowed
    (found,) = engine.collect([bots.measure_activity(allowed, found)])
    profiles = engine.keep(identity.build_profiles(people, engine.with_micros(links, "at", "t"), as_of))
    return VisibleEvents(engine.keep(identity.resolve(people, profiles)), profiles, found)
