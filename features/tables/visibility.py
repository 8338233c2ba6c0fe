"""Visibility: the events that may be used as of an instant. Every table is computed from these."""

from dataclasses import dataclass, replace

import narwhals as nw
import polars as pl

from features.event_log.schema import EVENT_NAMES
from features.tables import bots, identity, left_out, orders, repeats
from features.tables.engine import Engine, Lazy, exact_sum
from features.tables.left_out import LeftOut

COLUMNS = (
    "t", "name", "customer_id", "client_id", "session_id", "item_id", "quantity", "price", "order", "numbered",
    "source", "device", "country",
)  # fmt: skip
_CONSENTED = nw.col("consent").fill_null(True)
_MONEY = nw.col("name").is_in(["purchase", "refund"])
_NO_REPEATS = {
    "name": pl.String, "t": pl.Int64, "customer_id": pl.String, "order": pl.String, "item_id": pl.String,
    "quantity": pl.Float64, "price": pl.Float64, "after": pl.Int64,
}  # fmt: skip


def select_usable(engine: Engine, events: Lazy, as_of: int) -> Lazy:
    """Select the events before `as_of` that carry consent and a known name: `COLUMNS`.

    `t` is in microseconds. `order` is the order of a purchase or refund (without an order_id each event is its own),
    null for other events; `numbered` tells which have an order_id. An unproven client beside a customer is none.
    """
    return (
        bots.drop_unproven_clients(engine.with_micros(events, "timestamp", "t"))
        .filter(nw.col("t") < as_of, _CONSENTED, nw.col("name").is_in(EVENT_NAMES))
        .with_columns(
            order=nw.when(_MONEY).then(nw.coalesce("order_id", "event_id")), numbered=~nw.col("order_id").is_null()
        )
        .select(*COLUMNS)
    )


@dataclass(frozen=True)
class VisibleEvents:
    """The events of a log that the tables of one instant are computed from.

    `events`: `COLUMNS`, anonymous events under the customer they belong to, each order once. `lines` and `refunds`:
    `orders.build_lines` and `orders.build_refunds` of them, guests' too. `profiles`: client_id, customer_id of the
    clients that belong to exactly one customer. `bots`: client_id or customer_id, reason, events, first, last, orders
    and value of what `bots.remove_bots` removes, by visitor. `shared_devices`: client_id, customers, events, orders and
    value of the clients with several customers.
    """

    events: Lazy
    lines: Lazy
    refunds: Lazy
    profiles: Lazy
    bots: pl.DataFrame
    shared_devices: pl.DataFrame
    left_out: LeftOut


@dataclass(frozen=True)
class UsableVisitors:
    """Who is who among usable events: bots, shared devices (`bots.find_shared_devices`), pairs of client and customer.

    `profiles`: client_id, customer_id of the clients that belong to exactly one customer.
    """

    bots: bots.Bots
    shared: Lazy
    pairs: Lazy
    profiles: Lazy

    def resolve(self, usable: Lazy) -> Lazy:
        """Select the events of people, resolved to customers."""
        return identity.resolve(bots.remove_bots(usable, self.bots), self.profiles)


def find_visitors(engine: Engine, usable: Lazy, links: Lazy, as_of: int) -> UsableVisitors:
    """Find who is who among the events of `select_usable`; `links` is in `LINK_SCHEMA`."""
    ids = engine.materialize(bots.count_ids(usable))
    shared = engine.materialize(bots.find_shared_devices(ids))
    pairs = bots.pair_ids(ids)
    profiles = engine.materialize(identity.build_profiles(pairs, engine.with_micros(links, "at", "t"), as_of))
    detected = bots.find_bots(engine, usable, ids, shared, profiles)
    if detected.clients:
        profiles = engine.materialize(profiles.filter(~nw.col("client_id").is_in(detected.clients)))
    return UsableVisitors(detected, shared, pairs, profiles)


def select_visible(engine: Engine, events: Lazy, links: Lazy, as_of: int) -> VisibleEvents:
    """Select the usable events of people before `as_of`, resolved to customers; `links` is in `LINK_SCHEMA`."""
    usable = engine.materialize(select_usable(engine, events, as_of))
    visitors = find_visitors(engine, usable, links, as_of)
    shared = visitors.shared
    resolved = engine.materialize(visitors.resolve(usable))
    counted, lines, refunds, again = _count_orders_once(engine, resolved, events, as_of)
    repeated = 0 if again is None else again.height
    bot_events = engine.materialize(bots.select_bots(usable, visitors.bots))
    bot_rows, bot_orders, devices, device_orders, people, value, counts = engine.collect(
        [
            bots.measure_activity(bot_events),
            bots.measure_orders(bot_events, "client_id", "customer_id", "reason"),
            shared,
            bots.measure_orders(counted.join(shared, on="client_id", how="semi"), "client_id"),
            visitors.pairs.join(shared, on="client_id", how="semi").select(nw.col("customer_id").n_unique()),
            lines.select(value=exact_sum(nw.col("value"))),
            _count_names(engine, events, as_of),
        ]
    )
    bot_rows = _with_orders(bot_rows, bot_orders, ["client_id", "customer_id", "reason"])
    devices = _with_orders(devices, device_orders, ["client_id"])
    summary = left_out.summarize(counts, EVENT_NAMES, bot_rows, devices, people.item())
    summary = replace(summary, repeated_orders=repeated, value=float(value.item() or 0.0))
    return VisibleEvents(counted, lines, refunds, visitors.profiles, bot_rows, devices, summary)


def find_repeats(engine: Engine, events: Lazy, links: Lazy, as_of: int) -> pl.DataFrame:
    """Find the rows of purchases and refunds that the tables of `as_of` leave out as repeats, without building tables.

    `events` and `links` as in `select_visible`. Columns: name, t, customer_id (a guest's: `orders.add_guests`), order,
    item_id, quantity, price, after (microseconds since the row that counts), and others.
    """
    usable = select_usable(engine, events, as_of)
    money = find_visitors(engine, usable, links, as_of).resolve(usable.filter(_MONEY))
    *_, again = _count_orders_once(engine, engine.materialize(money), events, as_of)
    return pl.DataFrame(schema=_NO_REPEATS) if again is None else again


def _with_orders(rows: pl.DataFrame, measured: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """Add orders and value, zero where nothing was bought."""
    joined = rows.join(measured, on=ids, how="left", nulls_equal=True)
    return joined.with_columns(pl.col("orders").cast(pl.Int64).fill_null(0), pl.col("value").fill_null(0.0))


def _count_names(engine: Engine, events: Lazy, as_of: int) -> Lazy:
    """Count the rows before `as_of` by name and consent: name, consented, events."""
    before = engine.with_micros(events, "timestamp", "t").filter(nw.col("t") < as_of)
    counts = before.with_columns(consented=_CONSENTED).group_by("name", "consented").agg(events=nw.len())
    return counts.select(nw.col("name").cast(nw.String), "consented", nw.col("events").cast(nw.Int64))


def _count_orders_once(
    engine: Engine, events: Lazy, log: Lazy, as_of: int
) -> tuple[Lazy, Lazy, Lazy, pl.DataFrame | None]:
    """Leave out repeated orders (`repeats`): events, order lines, refunds, and the rows left out, None without any.

    `log` holds the events as they are, which is looked at only where there are repeats.
    """
    money = engine.materialize(orders.add_guests(events))
    lines = engine.materialize(orders.build_lines(money))
    refunds = engine.materialize(orders.build_refunds(money))
    key = ("customer_id", "order", "item_id")
    several = [
        rows.filter(nw.col("rows") > 1).select(*key, name=nw.lit(name))
        for rows, name in ((lines, "purchase"), (refunds, "refund"))
    ]
    (any_line, any_refund) = engine.collect([rows.head(1) for rows in several])
    if any_line.is_empty() and any_refund.is_empty():
        return events, lines, refunds, None
    numbered = (
        engine.with_micros(log, "timestamp", "t")
        .filter(nw.col("t") < as_of, _CONSENTED, _MONEY, ~nw.col("order_id").is_null())
        .select("t", "event_id", "item_id", order=nw.col("order_id"))
    )
    by_line = repeats.find_orders_by_line(engine, numbered)
    once, again = repeats.split_repeats(money, nw.concat(several), by_line)
    once = engine.materialize(once)
    (repeated,) = engine.collect([again])
    if repeated.is_empty():
        return events, lines, refunds, None
    counted = nw.concat(
        [
            events.filter(~_MONEY).select(*COLUMNS).with_columns(nw.col("name").cast(nw.String)),
            once.with_columns(customer_id=nw.col("account")).select(*COLUMNS),
        ]
    )
    lines = engine.materialize(orders.build_lines(once))
    return engine.materialize(counted), lines, engine.materialize(orders.build_refunds(once)), repeated
