"""Left out: the events of a log that count in no table, by reason, and the devices that many customers share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from features.common.counts import count

_MOST_NAMES = 5  # unknown names that a line names


@dataclass(frozen=True)
class LeftOut:
    """What the tables of one instant leave out: rows of the log before that instant; `set_aside` is of the whole log.

    A row is counted once, under the first reason that holds: set aside by time, no consent, unknown name, bot (or
    burst, or unproven device), repeated order. `value` is quantity × price of purchases, in the log's currency. Shared
    devices are not left out: their customers count, but what happens on them without a customer joins nobody's profile.
    Nor are bounded orders, which count in expected values as the most that an order may.
    """

    events: int = 0  # all rows before the instant, those left out too
    set_aside: int = 0  # at isolated ends of time; not among `events`
    without_consent: int = 0
    unknown_names: Mapping[str, int] = field(default_factory=dict)  # most frequent first
    bots: int = 0  # visitors
    bot_events: int = 0
    bot_orders: int = 0
    bot_value: float = 0.0
    bursts: int = 0  # customers, and devices of people, of whom some hours are left out
    burst_events: int = 0
    unproven_devices: int = 0
    unproven_events: int = 0
    repeated_orders: int = 0  # rows of purchases and refunds that came before
    value: float = 0.0  # of the orders that count
    shared_devices: int = 0
    shared_customers: int = 0  # on shared devices
    shared_events: int = 0
    largest_device: tuple[str, int, int] | None = None  # client_id, customers, events
    bounded_orders: int = 0
    bounded_value: float = 0.0  # what they add up to
    order_bound: float | None = None  # what they count as, each

    @property
    def bot_value_share(self) -> float:
        """Share of the bots' orders in the value of all orders, 0 without any."""
        total = self.value + self.bot_value
        return self.bot_value / total if total > 0 else 0.0

    @property
    def unknown(self) -> int:
        """Rows with an unknown name."""
        return sum(self.unknown_names.values())

    @property
    def total(self) -> int:
        """Rows left out, whatever the reason."""
        visitors = self.bot_events + self.burst_events + self.unproven_events
        return self.set_aside + self.without_consent + self.unknown + visitors + self.repeated_orders

    def with_set_aside(self, rows: int) -> "LeftOut":
        """Add the rows that the log itself sets aside by time."""
        return replace(self, set_aside=rows)

    def with_bounded(self, orders: int, value: float, bound: float) -> "LeftOut":
        """Add the orders that count less than they say in expected values."""
        return replace(self, bounded_orders=orders, bounded_value=value, order_bound=bound) if orders else self

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "events": self.events,
            "set_aside": self.set_aside,
            "without_consent": self.without_consent,
            "unknown_names": dict(self.unknown_names),
            "bots": {
                "visitors": self.bots,
                "events": self.bot_events,
                "orders": self.bot_orders,
                "value": self.bot_value,
                "value_share": self.bot_value_share,
            },
            "bursts": {"visitors": self.bursts, "events": self.burst_events},
            "unproven_devices": {"devices": self.unproven_devices, "events": self.unproven_events},
            "repeated_orders": self.repeated_orders,
            "bounded_orders": {
                "orders": self.bounded_orders,
                "value": self.bounded_value,
                "bound": self.order_bound,
            },
            "shared_devices": {
                "devices": self.shared_devices,
                "customers": self.shared_customers,
                "events": self.shared_events,
                "largest": None
                if self.largest_device is None
                else dict(zip(("client_id", "customers", "events"), self.largest_device, strict=True)),
            },
        }

    def describe(self) -> list[str]:
        """Say it in lines for the terminal: one a reason, or one that says that nothing is left out."""
        lines = []
        if self.set_aside:
            lines.append(
                f"{count(self.set_aside, 'event')} far from all others in time (to take them in: --all-times of "
                "`usual ingest`)"
            )
        if self.without_consent:
            lines.append(f"{count(self.without_consent, 'event')} without consent")
        if self.unknown_names:
            names = [f"{name} ({n:,})" for name, n in self.unknown_names.items()]
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            lines.append(f"{count(self.unknown, 'event')} with unknown names: {', '.join(names[:_MOST_NAMES])}{more}")
        if self.bots:
            line = f"{count(self.bots, 'bot')} with {count(self.bot_events, 'event')}"
            if self.bot_orders:
                line += (
                    f", among them {count(self.bot_orders, 'order')} worth {self.bot_value:,.2f} "
                    f"({self.bot_value_share:.1%} of what was bought)"
                )
            lines.append(line)
        if self.bursts:
            who = count(self.bursts, "customer or device", "customers or devices")
            lines.append(
                f"{count(self.burst_events, 'event')} of {who} in hours with too many for a person; their orders and "
                "other hours count"
            )
        if self.unproven_devices:
            lines.append(
                f"{count(self.unproven_devices, 'device')} that did not prove "
                f"{'itself' if self.unproven_devices == 1 else 'themselves'}, with "
                f"{count(self.unproven_events, 'event')} (to count them: signed client ids, docs/storefront.md, or "
                "USUAL_CLIENT_IDS=any)"
            )
        if self.repeated_orders:
            lines.append(f"{count(self.repeated_orders, 'line')} of orders that came before, as after a page reload")
        lines = [f"left out: {line}" for line in lines] or ["left out: nothing"]
        if self.bounded_orders and self.order_bound is not None:
            lines.append(
                f"{count(self.bounded_orders, 'order')} worth {self.bounded_value:,.2f} in all, each far above the "
                f"others, {'counts' if self.bounded_orders == 1 else 'count'} as {self.order_bound:,.2f} in expected "
                "values: `usual check` names them"
            )
        if self.shared_devices:
            largest = ""
            if self.largest_device is not None:
                client, customers, _ = self.largest_device
                largest = f" (the largest is {client!r} with {customers:,} customers)"
            lines.append(
                f"{count(self.shared_devices, 'device')} shared by {count(self.shared_customers, 'customer')}, with "
                f"{count(self.shared_events, 'event')}{largest}: what happens there without a customer joins nobody's "
                "profile"
            )
        return lines


def summarize(
    counts: pl.DataFrame, known: Sequence[str], bots: pl.DataFrame, devices: pl.DataFrame, customers: int
) -> LeftOut:
    """Summarise what `features.tables.visibility` counts.

    `counts`: name, consented, events; `known` are the names that count. `bots` and `devices` as in `Tables`;
    `customers` on these devices.
    """
    consented = counts.filter("consented")
    unknown = consented.filter(~pl.col("name").is_in(known)).sort(-pl.col("events"), "name")
    by_reason = {
        reason: (rows.height, int(rows["events"].sum()))
        for reason in ("bot", "burst", "unproven")
        for rows in (bots.filter(pl.col("reason") == reason),)
    }
    left_whole = bots.filter(pl.col("reason") == "bot")
    first = devices.sort(-pl.col("customers"), -pl.col("events"), "client_id").head(1)
    return LeftOut(
        events=int(counts["events"].sum()),
        without_consent=int(counts.filter(~pl.col("consented"))["events"].sum()),
        unknown_names=dict(unknown.select("name", "events").rows()),
        bots=by_reason["bot"][0],
        bot_events=by_reason["bot"][1],
        bot_orders=int(left_whole["orders"].sum()),
        bot_value=float(left_whole["value"].sum()),
        bursts=by_reason["burst"][0],
        burst_events=by_reason["burst"][1],
        unproven_devices=by_reason["unproven"][0],
        unproven_events=by_reason["unproven"][1],
        shared_devices=devices.height,
        shared_customers=customers,
        shared_events=int(devices["events"].sum()),
        largest_device=first.select("client_id", "customers", "events").row(0) if first.height else None,
    )
