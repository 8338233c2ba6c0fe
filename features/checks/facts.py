"""Facts: the tables of a log that checks read. Each is computed when it is first read, and once.

They hold a row per item, visitor, order, hour or name, never one per event, so memory does not grow with the traffic
of a shop of given size.
"""

from functools import cached_property

import narwhals as nw
import polars as pl

from features.common.clock import DAY, HOUR, moment
from features.event_log.consent import REFUSED
from features.event_log.log import EventLog
from features.event_log.schema import ITEM_EVENTS
from features.event_log.time_span import Body, find_body
from features.tables.bots import UNPROVEN
from features.tables.engine import PolarsEngine
from features.tables.visibility import find_repeats

RECENT_DAYS = 28
_FOREVER = 2**62  # microseconds
# Devices that proved nothing are in no table: anybody can name as many as they like (`features.tables.bots`).
UNPROVEN_DEVICE = pl.col("customer_id").is_null() & pl.col("client_id").str.starts_with(UNPROVEN).fill_null(False)
REVENUE = pl.when(pl.col("name") == "purchase").then(pl.col("quantity") * pl.col("price"))


class Facts:
    """The events of `log` before `as_of` (microseconds; default: all), as tables.

    `t` and times are in microseconds. An order without an order_id is its event.
    """

    def __init__(self, log: EventLog, as_of: int | None = None) -> None:
        self.log, self.as_of = log, as_of
        events = self.select(log.scan_all_times())
        self.events = events.with_columns(name=pl.col("name").cast(pl.String), t=pl.col("timestamp").dt.timestamp("us"))

    def select(self, events: pl.LazyFrame) -> pl.LazyFrame:
        """Select the events before `as_of` that are not set aside."""
        if self.log.span:
            events = events.filter(pl.col("timestamp").is_between(*self.log.span))
        return events if self.as_of is None else events.filter(pl.col("timestamp") < moment(self.as_of))

    @cached_property
    def hours(self) -> pl.DataFrame:
        """name, hour (since the epoch), events: by name and hour, in order of time."""
        keyed = self.events.group_by("name", hour=pl.col("t") // HOUR)
        return keyed.agg(events=pl.len()).sort("hour", "name").collect(engine="streaming")

    @cached_property
    def names(self) -> dict[str, int]:
        """Event name → rows, the most frequent first."""
        counts = (
            self.hours.group_by("name").agg(pl.col("events").sum()).sort("events", "name", descending=[True, False])
        )
        return dict(counts.iter_rows())

    @cached_property
    def days(self) -> pl.DataFrame:
        """day (since the epoch), events, in order of time."""
        return self.hours.group_by(day=pl.col("hour") // (DAY // HOUR)).agg(pl.col("events").sum()).sort("day")

    @property
    def rows(self) -> int:
        return sum(self.names.values())

    @cached_property
    def body(self) -> Body | None:
        """The days without the isolated ends; None where there are none."""
        return find_body(dict(self.days.iter_rows()))

    @cached_property
    def end(self) -> int:
        """The time after the last day that is not isolated: what counts as recent goes by it."""
        last = self.body.last if self.body else int(self.days["day"][-1]) if self.days.height else -1
        end = (last + 1) * DAY
        return end if self.as_of is None else min(end, self.as_of)

    @cached_property
    def items(self) -> pl.DataFrame:
        """item_id, events (that mean something only with an item), recent (of the last 28 days), sold (rows).

        Without those of `UNPROVEN_DEVICE`.
        """
        aggregated = self._with_item.group_by("item_id").agg(
            events=pl.len(), recent=self._recent.sum(), sold=(pl.col("name") == "purchase").sum()
        )
        return aggregated.sort("item_id").collect(engine="streaming")

    def customers_on(self, item_ids: pl.Series, recent: bool) -> pl.DataFrame:
        """Per customer with an event of `items` (`recent`: of the last 28 days): share, that with these items."""
        with_item = self._with_item.filter(pl.col("customer_id").is_not_null())
        shares = (with_item.filter(self._recent) if recent else with_item).group_by("customer_id")
        return shares.agg(share=pl.col("item_id").is_in(item_ids.implode()).mean()).collect(engine="streaming")

    @property
    def _with_item(self) -> pl.LazyFrame:
        with_item = pl.col("name").is_in(ITEM_EVENTS) & pl.col("item_id").is_not_null()
        return self.events.filter(with_item, ~UNPROVEN_DEVICE)

    @property
    def _recent(self) -> pl.Expr:
        return pl.col("t") >= self.end - RECENT_DAYS * DAY

    @cached_property
    def pairs(self) -> pl.DataFrame:
        """client_id and customer_id (null: unknown) as they occur together: events, item_events, revenue."""
        aggregated = self.events.group_by("client_id", "customer_id").agg(
            events=pl.len(), item_events=pl.col("name").is_in(ITEM_EVENTS).sum(), revenue=REVENUE.sum()
        )
        # Rows with neither are of many people, who refused consent.
        known = pl.any_horizontal(pl.col("client_id", "customer_id").is_not_null())
        return aggregated.filter(known).collect(engine="streaming")

    @cached_property
    def visitors(self) -> pl.DataFrame:
        """customer_id (null: unknown), client_id (null where there is a customer), events, item_events, orders.

        Without `UNPROVEN_DEVICE`.
        """
        ids = ("customer_id", "client_id")
        keyed = (
            self.pairs.filter(~UNPROVEN_DEVICE)
            .group_by("customer_id", client_id=pl.when(pl.col("customer_id").is_null()).then("client_id"))
            .agg(pl.col("events", "item_events").sum())
        )
        counts = self.orders.group_by(ids).agg(orders=pl.len())
        joined = keyed.join(counts, on=ids, how="left", nulls_equal=True).with_columns(pl.col("orders").fill_null(0))
        return joined.sort("events", *ids, descending=[True, False, False])

    @cached_property
    def clients(self) -> pl.DataFrame:
        """client_id, customers (that it was used by), events, revenue."""
        used = self.pairs.filter(pl.col("client_id").is_not_null()).group_by("client_id")
        return used.agg(pl.col("customer_id").count().alias("customers"), pl.col("events", "revenue").sum()).sort(
            "client_id"
        )

    @cached_property
    def orders(self) -> pl.DataFrame:
        """Purchases with consent: order, has_id, customer_id or else client_id, customers, lines, revenue, first, last.

        `customers` are all visitors that share the order, the ids are of one of them.
        """
        bought = self.events.filter(pl.col("name") == "purchase", ~REFUSED)
        visitor = pl.coalesce("customer_id", "client_id")
        aggregated = bought.group_by(
            order=pl.coalesce("order_id", "event_id"), has_id=pl.col("order_id").is_not_null()
        ).agg(
            customer_id=pl.col("customer_id").min(),
            client_id=pl.col("client_id").min(),
            customers=visitor.n_unique(),
            lines=pl.len(),
            revenue=(pl.col("quantity") * pl.col("price")).sum(),
            first=pl.col("t").min(),
            last=pl.col("t").max(),
        )
        one = pl.when(pl.col("customer_id").is_null()).then("client_id")
        return aggregated.with_columns(client_id=one).sort("order", "has_id").collect(engine="streaming")

    @cached_property
    def buyers(self) -> pl.DataFrame:
        """customer_id, orders, revenue: customers by their orders, the most first."""
        known = self.orders.filter(pl.col("customer_id").is_not_null())
        grouped = known.group_by("customer_id").agg(orders=pl.len(), revenue=pl.col("revenue").sum())
        return grouped.sort("orders", "customer_id", descending=[True, False])

    @cached_property
    def repeats(self) -> pl.DataFrame:
        """Rows of orders that came before, which the tables leave out (`features.tables.visibility.find_repeats`)."""
        engine = PolarsEngine()
        links = nw.from_native(self.log.links().lazy())
        as_of = _FOREVER if self.as_of is None else self.as_of
        return find_repeats(engine, nw.from_native(self.events), links, as_of).sort("order", "item_id", "t")

    @cached_property
    def money(self) -> pl.DataFrame:
        """Purchases and refunds with consent, by name, currency: lines, revenue, free (price 0), single (one piece)."""
        sold = self.events.filter(pl.col("name").is_in(["purchase", "refund"]), ~REFUSED)
        aggregated = sold.group_by("name", "currency").agg(
            lines=pl.len(),
            revenue=(pl.col("quantity") * pl.col("price")).sum(),
            free=(pl.col("price") == 0).sum(),
            single=(pl.col("quantity") == 1).sum(),
        )
        return aggregated.sort("name", "lines", "currency", descending=[False, True, False]).collect(engine="streaming")

    @property
    def revenue(self) -> float:
        """Of all purchases, refunds not subtracted."""
        return float(self.money.filter(pl.col("name") == "purchase")["revenue"].sum())

    @cached_property
    def prices(self) -> pl.DataFrame:
        """Per item sold: item_id, lines, median (price paid), least, most."""
        paid = self.events.filter(pl.col("name") == "purchase", pl.col("price") > 0).select("item_id", "price")
        price = pl.col("price")
        aggregated = paid.group_by("item_id").agg(
            lines=pl.len(), median=price.median(), least=price.min(), most=price.max()
        )
        return aggregated.sort("item_id").collect(engine="streaming")

    @cached_property
    def countries(self) -> dict[str, int]:
        """Country → events, the most frequent first."""
        rows = self.events.filter(pl.col("country").is_not_null()).group_by(pl.col("country").cast(pl.String))
        counts = rows.agg(events=pl.len()).collect(engine="streaming")
        return dict(counts.sort("events", "country", descending=[True, False]).iter_rows())

    @cached_property
    def consent(self) -> dict[bool | None, int]:
        """Consent (None: not said) → events."""
        counts = self.events.group_by("consent").agg(events=pl.len()).collect(engine="streaming")
        return dict(counts.iter_rows())

    @cached_property
    def catalog(self) -> pl.DataFrame:
        """The catalog, one row per item."""
        return self.log.catalog()

    @cached_property
    def shop_catalog(self) -> pl.DataFrame:
        """The items of the catalog that the shop handed over; those known from events alone are not in it."""
        return self.catalog.filter(pl.col("updated_at").is_null())

    @property
    def span_days(self) -> int:
        """Days from the first to the last event, both counted."""
        return int(self.days["day"][-1] - self.days["day"][0]) + 1 if self.days.height else 0
