"""Bots: visitors that are not people, recognised by the rate of their events; and devices that customers share.

A visitor with more than `PER_HOUR` page events in one clock hour, or more than `PER_DAY` in one day (UTC), is a bot,
and none of its events counts. Page events have one row an event; orders and lists have a row per item and do not
count, so a large order makes nobody a bot. As of an instant only the events before it decide: a visitor that turns
out to be a bot later was not one yet.

A visitor is a client, or a customer where there is no client. A client with several customers is a shared device (a
kiosk, a proxy, a placeholder), which is no one visitor: there each customer is a visitor, and the events without a
customer are one.
"""

from dataclasses import dataclass

import narwhals as nw
import polars as pl

from features.common.clock import DAY, HOUR
from features.tables.engine import Engine, Lazy, count_where, distinct, exact_sum

PER_HOUR = 300  # a page every twelve seconds for an hour
PER_DAY = 1000
PAGE_EVENTS = ("select_item", "view_item", "search", "add_to_wishlist", "add_to_cart", "remove_from_cart")

_IDS = ("client_id", "customer_id")
_VISITOR = (*_IDS, "shared")
_FEW = 5_000  # ids that a look-up takes


@dataclass(frozen=True)
class Bots:
    """Who the bots are, by id: few, so a look-up is cheaper than a join."""

    clients: list[str]  # devices of at most one customer: all their events
    shared_clients: list[str]  # shared devices: their events without a customer
    customers: list[str]  # their events without a client, and on the devices `shared_with`
    shared_with: list[str]

    def __bool__(self) -> bool:
        return bool(self.clients or self.shared_clients or self.customers)

    def match(self) -> nw.Expr:
        """True for an event of a bot; reads client_id and customer_id."""
        by_customer = self._by_customer()
        return self._by_client() if by_customer is None else self._by_client() | by_customer

    def _by_client(self) -> nw.Expr:
        whole = _is_in("client_id", self.clients)
        if not self.shared_clients:
            return whole
        return whole | (nw.col("customer_id").is_null() & _is_in("client_id", self.shared_clients))

    def _by_customer(self) -> nw.Expr | None:
        if not self.customers:
            return None
        outside = nw.col("client_id").is_null() | _is_in("client_id", self.shared_with)
        return outside & _is_in("customer_id", self.customers)

    def name_visitors(self, events: Lazy) -> Lazy:
        """Reduce the two ids of the bots' events to the one that is the bot's."""
        return events.with_columns(
            client_id=nw.when(self._by_client()).then(nw.col("client_id")),
            customer_id=nw.when(~self._by_client()).then(nw.col("customer_id")),
        )


def _is_in(column: str, ids: list[str]) -> nw.Expr:
    return nw.col(column).is_in(ids).fill_null(False)


def count_ids(events: Lazy) -> Lazy:
    """Count the events of each combination of client and customer: client_id, customer_id, events, pages."""
    page = nw.col("name").is_in(PAGE_EVENTS)
    return events.group_by(*_IDS).agg(events=nw.len(), pages=count_where(page))


def pair_ids(ids: Lazy) -> Lazy:
    """Select the combinations of `count_ids` that have both."""
    return ids.filter(~nw.col("client_id").is_null(), ~nw.col("customer_id").is_null())


def find_shared_devices(ids: Lazy) -> Lazy:
    """Find the clients with more than one customer: client_id, customers, events. `ids` is `count_ids`."""
    devices = ids.filter(~nw.col("client_id").is_null()).with_columns(
        _one=(~nw.col("customer_id").is_null()).cast(nw.Int64)
    )
    counts = devices.group_by("client_id").agg(customers=nw.col("_one").sum(), events=nw.col("events").sum())
    return counts.filter(nw.col("customers") > 1).with_columns(nw.col("events").cast(nw.Int64))


def find_bots(engine: Engine, events: Lazy, ids: Lazy | None = None, shared: Lazy | None = None) -> Bots:
    """Find the bots among the visitors of `events`, which has client_id, customer_id, name and t.

    `ids` and `shared` are `count_ids` and `find_shared_devices` of the events, where the caller has them.
    """
    ids = engine.materialize(count_ids(events)) if ids is None else ids
    shared = engine.materialize(find_shared_devices(ids)) if shared is None else shared
    busy = _name_visitors(ids.select(*_IDS, "pages"), shared).group_by(*_VISITOR).agg(pages=nw.col("pages").sum())
    (busy_visitors,) = engine.collect([busy.filter(nw.col("pages") > min(PER_HOUR, PER_DAY))])
    if busy_visitors.is_empty():
        return Bots([], [], [], [])
    pages = events.filter(nw.col("name").is_in(PAGE_EVENTS))
    if busy_visitors.height <= _FEW:
        pages = pages.filter(
            _is_in("client_id", busy_visitors["client_id"].drop_nulls().to_list())
            | _is_in("customer_id", busy_visitors["customer_id"].drop_nulls().to_list())
        )
    hours = pages.with_columns(hour=nw.col("t") // HOUR).group_by(*_IDS, "hour").agg(pages=nw.len())
    by_hour = _name_visitors(hours, shared).group_by(*_VISITOR, "hour").agg(pages=nw.col("pages").sum())
    by_day = (
        by_hour.with_columns(day=nw.col("hour") // (DAY // HOUR))
        .group_by(*_VISITOR, "day")
        .agg(pages=nw.col("pages").sum(), busiest=nw.col("pages").max())
    )
    fast = by_day.filter((nw.col("pages") > PER_DAY) | (nw.col("busiest") > PER_HOUR))
    (found,) = engine.collect([distinct(fast, *_VISITOR)])
    customers = found["customer_id"].drop_nulls().to_list()
    shared_with: list[str] = []
    if customers:
        of_customers = ids.filter(nw.col("customer_id").is_in(customers))
        (on_shared,) = engine.collect([distinct(of_customers.join(shared, on="client_id", how="semi"), "client_id")])
        shared_with = on_shared["client_id"].to_list()
    clients = found.filter(pl.col("client_id").is_not_null())
    own, several = (clients.filter(f)["client_id"].to_list() for f in (~pl.col("shared"), pl.col("shared")))
    return Bots(own, several, customers, shared_with)


def _name_visitors(rows: Lazy, shared: Lazy) -> Lazy:
    """Reduce the two ids to the one that names the visitor; `shared`: whether it is a shared device."""
    devices = shared.select("client_id", _shared=nw.lit(True))
    rows = rows.join(devices, on="client_id", how="left").with_columns(nw.col("_shared").fill_null(False))
    customer = nw.col("client_id").is_null() | (nw.col("_shared") & ~nw.col("customer_id").is_null())
    return rows.with_columns(
        client_id=nw.when(~customer).then(nw.col("client_id")),
        customer_id=nw.when(customer).then(nw.col("customer_id")),
        shared=nw.col("_shared") & ~customer,
    ).drop("_shared")


def remove_bots(events: Lazy, bots: Bots) -> Lazy:
    """Remove the events of the bots."""
    return events.filter(~bots.match()) if bots else events


def select_bots(events: Lazy, bots: Bots) -> Lazy:
    """Select the events of the bots, each with the one id, client_id or customer_id, that is the bot's."""
    return bots.name_visitors(events.filter(bots.match()))


def measure_activity(bot_events: Lazy) -> Lazy:
    """Summarise `select_bots`, one row a bot: client_id or customer_id, events, first and last (µs)."""
    activity = bot_events.group_by(*_IDS).agg(events=nw.len(), first=nw.col("t").min(), last=nw.col("t").max())
    return activity.with_columns(nw.col("events").cast(nw.Int64))


def measure_orders(events: Lazy, *by: str) -> Lazy:
    """Sum up the purchases among `events` by some columns: orders, and value, quantity × price."""
    purchases = events.filter(nw.col("name") == "purchase")
    per_order = purchases.group_by(*by, "order").agg(value=exact_sum(nw.col("quantity") * nw.col("price")))
    return per_order.group_by(*by).agg(orders=nw.len(), value=exact_sum(nw.col("value")))
