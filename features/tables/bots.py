"""Bots: devices that are not people, recognised by the rate of their page events; and devices that customers share.

A visitor is too fast with more than `PER_HOUR` page events in one clock hour, or more than `PER_DAY` in one day (UTC).
Page events have one row an event; orders and lists have a row per item and do not count, so a large order makes nobody
a bot. As of an instant only the events before it decide: a visitor that turns out to be a bot later was not one yet.

A visitor is a device (client), or a customer where there is no device. A device with several customers is a shared one
(a kiosk, a proxy, a placeholder), which is no one visitor: there each customer is a visitor, and the events without a
customer are one.

Page events cost nothing, so that a flood of them must not take anybody away. Orders do cost: a customer who has ordered
is no bot, nor is a device of theirs. Of such a visitor only the hours that are too fast are left out (a burst), without
their orders; of a bot, who has no customer with orders, everything is. So no order of a customer is ever left out.

Devices that did not prove themselves to the server (`UNPROVEN`) weigh nothing, as bots do: anybody can name as many as
they like.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import narwhals as nw
import polars as pl

from features.common import ids as common_ids
from features.common.clock import DAY, HOUR
from features.tables.engine import Engine, Lazy, count_where, distinct, exact_sum

PER_HOUR = 300  # a page every twelve seconds for an hour
PER_DAY = 1000
PAGE_EVENTS = ("select_item", "view_item", "search", "add_to_wishlist", "add_to_cart", "remove_from_cart")
UNPROVEN = common_ids.UNPROVEN  # what the client ids of devices begin with that pages named and nothing proves

_IDS = ("client_id", "customer_id")
_VISITOR = (*_IDS, "shared")
_MONEY = ("purchase", "refund")
_FEW = 5_000  # ids that a look-up takes


@dataclass(frozen=True)
class Bursts:
    """Hours in which people, or others in their name, were too fast: ids, and `{hour since the epoch}@{id}`."""

    ids: list[str] = field(default_factory=list)
    hours: list[str] = field(default_factory=list)

    def match(self, column: str) -> nw.Expr:
        """True for an event, orders apart, in these hours; reads `column`, name and t."""
        hour = nw.concat_str((nw.col("t") // HOUR).cast(nw.Int64).cast(nw.String), nw.lit("@"), nw.col(column))
        fast = _is_in(column, self.ids) & hour.is_in(self.hours).fill_null(False)
        return fast & ~nw.col("name").cast(nw.String).is_in(_MONEY)


@dataclass(frozen=True)
class Bots:
    """Who the bots are, by id: few, so a look-up is cheaper than a join."""

    clients: list[str] = field(default_factory=list)  # devices of at most one customer: all their events
    shared_clients: list[str] = field(default_factory=list)  # shared devices: their events without a customer
    customers: list[str] = field(default_factory=list)  # their events without a client, and on the `shared_with`
    shared_with: list[str] = field(default_factory=list)  # shared devices of `customers` and of `customer_bursts`
    client_bursts: Bursts = field(default_factory=Bursts)
    shared_bursts: Bursts = field(default_factory=Bursts)
    customer_bursts: Bursts = field(default_factory=Bursts)
    unproven: bool = False  # whether there are events of devices that prove nothing

    def __bool__(self) -> bool:
        return bool(self.whole or self.in_bursts or self.unproven)

    @property
    def whole(self) -> int:
        """The number of bots."""
        return len(self.clients) + len(self.shared_clients) + len(self.customers)

    @property
    def in_bursts(self) -> int:
        """The number of people's devices, and of customers, of whom some hours are left out."""
        return sum(len(b.ids) for b in (self.client_bursts, self.shared_bursts, self.customer_bursts))

    def match(self) -> nw.Expr:
        """True for an event that is left out; reads client_id, customer_id, and for bursts name and t."""
        matches = [self.match_bots()] if self.whole else []
        matches += [self.match_bursts()] if self.in_bursts else []
        matches += [is_unproven()] if self.unproven else []
        return _any(matches)

    def match_bots(self) -> nw.Expr:
        """True for an event of a bot."""
        return self._by_client() | self._by_customer()

    def match_bursts(self) -> nw.Expr:
        """True for an event in a burst of people's device or of a customer."""
        return _any(
            match
            for bursts, match in (
                (self.client_bursts, self._client_burst()),
                (self.shared_bursts, self._shared_burst()),
                (self.customer_bursts, self._customer_burst()),
            )
            if bursts.ids
        )

    def _by_client(self) -> nw.Expr:
        whole = _is_in("client_id", self.clients)
        if not self.shared_clients:
            return whole
        return whole | (nw.col("customer_id").is_null() & _is_in("client_id", self.shared_clients))

    def _by_customer(self) -> nw.Expr:
        return self._outside() & _is_in("customer_id", self.customers)

    def _outside(self) -> nw.Expr:
        return nw.col("client_id").is_null() | _is_in("client_id", self.shared_with)

    def _client_burst(self) -> nw.Expr:
        return self.client_bursts.match("client_id")

    def _shared_burst(self) -> nw.Expr:
        return nw.col("customer_id").is_null() & self.shared_bursts.match("client_id")

    def _customer_burst(self) -> nw.Expr:
        return self._outside() & self.customer_bursts.match("customer_id")

    def name_visitors(self, events: Lazy) -> Lazy:
        """Reduce the two ids of events that are left out to the one that is the visitor's, and add the `reason`.

        The reason is `unproven` (an unproven device), `bot` or `burst`.
        """
        reason = nw.when(self.match_bots()).then(nw.lit("bot")).otherwise(nw.lit("burst"))
        if self.unproven:
            reason = nw.when(is_unproven()).then(nw.lit("unproven")).otherwise(reason)
        by_client = self._by_client() | is_unproven()
        if self.client_bursts.ids:
            by_client = by_client | (~self.match_bots() & self._client_burst())
        if self.shared_bursts.ids:
            by_client = by_client | (~self.match_bots() & self._shared_burst())
        return events.with_columns(
            reason=reason,
            client_id=nw.when(by_client).then(nw.col("client_id")),
            customer_id=nw.when(~by_client).then(nw.col("customer_id")),
        )


def _is_in(column: str, ids: list[str]) -> nw.Expr:
    return nw.col(column).is_in(ids).fill_null(False)


def _any(matches: Iterable[nw.Expr]) -> nw.Expr:
    return reduce(or_, matches, _is_in("client_id", []))


def is_unproven() -> nw.Expr:
    """True for an event that has only a device that proved nothing; an event with a customer has one who did."""
    return nw.col("customer_id").is_null() & nw.col("client_id").str.starts_with(UNPROVEN).fill_null(False)


def drop_unproven_clients(events: Lazy) -> Lazy:
    """Set client_id to null where it proves nothing beside a customer, whom it is not linked to."""
    unproven = ~nw.col("customer_id").is_null() & nw.col("client_id").str.starts_with(UNPROVEN).fill_null(False)
    return events.with_columns(client_id=nw.when(~unproven).then(nw.col("client_id")))


def count_ids(events: Lazy) -> Lazy:
    """Count the events of each combination of client and customer: client_id, customer_id, events, pages, money."""
    page, money = (nw.col("name").is_in(kind) for kind in (PAGE_EVENTS, _MONEY))
    return events.group_by(*_IDS).agg(events=nw.len(), pages=count_where(page), money=count_where(money))


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


def find_bots(
    engine: Engine, events: Lazy, ids: Lazy | None = None, shared: Lazy | None = None, owners: Lazy | None = None
) -> Bots:
    """Find the bots among the visitors of `events`, which has client_id, customer_id, name and t.

    `ids` and `shared` are `count_ids` and `find_shared_devices` of the events, where the caller has them. `owners`
    (client_id, customer_id): the devices that belong to one customer, whose orders are that customer's; default: those
    that share an event with one customer.
    """
    ids = engine.materialize(count_ids(events)) if ids is None else ids
    shared = engine.materialize(find_shared_devices(ids)) if shared is None else shared
    busy = _name_visitors(ids.select(*_IDS, "pages"), shared).group_by(*_VISITOR).agg(pages=nw.col("pages").sum())
    busy_visitors, unproven_rows = engine.collect(
        [busy.filter(nw.col("pages") > min(PER_HOUR, PER_DAY)), ids.filter(is_unproven()).select(*_IDS).head(1)]
    )
    unproven = not unproven_rows.is_empty()
    if busy_visitors.is_empty():
        return Bots(unproven=unproven)
    pages = events.filter(nw.col("name").is_in(PAGE_EVENTS))
    if busy_visitors.height <= _FEW:
        pages = pages.filter(
            _is_in("client_id", busy_visitors["client_id"].drop_nulls().to_list())
            | _is_in("customer_id", busy_visitors["customer_id"].drop_nulls().to_list())
        )
    hours = pages.with_columns(hour=nw.col("t") // HOUR).group_by(*_IDS, "hour").agg(pages=nw.len())
    by_hour = engine.materialize(
        _name_visitors(hours, shared).group_by(*_VISITOR, "hour").agg(pages=nw.col("pages").sum())
    )
    by_day = (
        by_hour.with_columns(day=nw.col("hour") // (DAY // HOUR))
        .group_by(*_VISITOR, "day")
        .agg(pages=nw.col("pages").sum(), busiest=nw.col("pages").max())
    )
    fast = by_day.filter((nw.col("pages") > PER_DAY) | (nw.col("busiest") > PER_HOUR))
    (visitors,) = engine.collect([distinct(fast, *_VISITOR)])
    # An unproven device is left out as such.
    visitors = visitors.filter(~pl.col("client_id").str.starts_with(UNPROVEN).fill_null(False))
    if visitors.is_empty():
        return Bots(unproven=unproven)
    people = _find_people(engine, visitors, ids, owners)
    client, customer = pl.col("client_id").is_not_null(), pl.col("customer_id").is_not_null()
    with_orders = (client & pl.col("client_id").is_in(people.clients.implode())) | (
        customer & pl.col("customer_id").is_in(people.customers.implode())
    )
    bots, protected = visitors.filter(~with_orders), visitors.filter(with_orders)
    bursts = _find_bursts(engine, by_hour, protected) if protected.height else protected.with_columns(hour=pl.lit(0))
    named = visitors["customer_id"].drop_nulls().to_list()
    shared_with: list[str] = []
    if named:
        of_customers = ids.filter(nw.col("customer_id").is_in(named))
        (on_shared,) = engine.collect([distinct(of_customers.join(shared, on="client_id", how="semi"), "client_id")])
        shared_with = sorted(on_shared["client_id"])
    return Bots(
        sorted(bots.filter(client, ~pl.col("shared"))["client_id"]),
        sorted(bots.filter(client, "shared")["client_id"]),
        sorted(bots.filter(customer)["customer_id"]),
        shared_with,
        _name_bursts(bursts.filter(client, ~pl.col("shared")), "client_id"),
        _name_bursts(bursts.filter(client, "shared"), "client_id"),
        _name_bursts(bursts.filter(customer), "customer_id"),
        unproven,
    )


@dataclass(frozen=True)
class _People:
    """Of the visitors that are too fast, who is no bot for all that."""

    clients: pl.Series
    customers: pl.Series


def _find_people(engine: Engine, visitors: pl.DataFrame, ids: Lazy, owners: Lazy | None) -> _People:
    """Find the customers who ordered among `visitors`, and the devices of customers who did."""
    clients, customers = (visitors[column].drop_nulls().to_list() for column in _IDS)
    pairs = distinct(pair_ids(ids), *_IDS)
    pairs = pairs if owners is None else distinct(nw.concat([pairs, owners.select(*_IDS)]), *_IDS)
    (used,) = engine.collect([pairs.filter(_is_in("client_id", clients))])
    concerned = [*customers, *used["customer_id"].unique().to_list()]
    # An order without a customer is its device's, and so the customer's that the device belongs to.
    ordered = ids.filter(nw.col("money") > 0)
    own = ordered.filter(_is_in("customer_id", concerned)).select("customer_id")
    guests = pairs.filter(_is_in("customer_id", concerned)).join(
        ordered.filter(nw.col("customer_id").is_null()).select("client_id"), on="client_id", how="inner"
    )
    (buyers,) = engine.collect([distinct(nw.concat([own, guests.select("customer_id")]), "customer_id")])
    return _People(
        used.filter(pl.col("customer_id").is_in(buyers["customer_id"].implode()))["client_id"], buyers["customer_id"]
    )


def _find_bursts(engine: Engine, by_hour: Lazy, protected: pl.DataFrame) -> pl.DataFrame:
    """Find the hours that are too fast of `protected` visitors, and all of the days that are without these: hour."""
    clients, customers = (protected[column].drop_nulls().to_list() for column in _IDS)
    theirs = by_hour.filter(_is_in("client_id", clients) | _is_in("customer_id", customers))
    (hours,) = engine.collect([theirs])
    day = [*_VISITOR, pl.col("hour") // (DAY // HOUR)]
    slow = pl.when(pl.col("pages") <= PER_HOUR).then("pages").otherwise(0)
    return hours.filter((pl.col("pages") > PER_HOUR) | (slow.sum().over(day) > PER_DAY))


def _name_bursts(hours: pl.DataFrame, column: str) -> Bursts:
    keys = hours.select(pl.format("{}@{}", "hour", column)).to_series()
    return Bursts(sorted(hours[column].unique()), sorted(keys))


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
    """Remove the events of bots and of unproven devices, and those of bursts."""
    return events.filter(~bots.match()) if bots else events


def select_bots(events: Lazy, bots: Bots) -> Lazy:
    """Select the events that `remove_bots` removes, each with the one id that is the visitor's, and its `reason`."""
    return bots.name_visitors(events.filter(bots.match()))


def measure_activity(bot_events: Lazy) -> Lazy:
    """Summarise `select_bots`, one row a visitor and reason: client_id or customer_id, events, first and last (µs)."""
    activity = bot_events.group_by(*_IDS, "reason").agg(
        events=nw.len(), first=nw.col("t").min(), last=nw.col("t").max()
    )
    return activity.with_columns(nw.col("events").cast(nw.Int64))


def measure_orders(events: Lazy, *by: str) -> Lazy:
    """Sum up the purchases among `events` by some columns: orders, and value, quantity × price."""
    purchases = events.filter(nw.col("name") == "purchase")
    per_order = purchases.group_by(*by, "order").agg(value=exact_sum(nw.col("quantity") * nw.col("price")))
    return per_order.group_by(*by).agg(orders=nw.len(), value=exact_sum(nw.col("value")))
