"""Checks of anomalies: what somebody may have sent on purpose, and what of it counts.

Absurd order values, bursts of events by a few devices, runs of order numbers of one visitor, devices that proved
nothing, and devices in whose name many customers come at once.
"""

from datetime import timedelta

import polars as pl

from features.checks.facts import UNPROVEN_DEVICE, Facts
from features.checks.finding import HAVE, Finding, count, part, percent, quote
from features.checks.times import EPOCH
from features.common.clock import DAY, HOUR, iso
from features.common.robust import fit_bounds
from features.tables import bots

MUCH = 0.2
MANY_PAGES = 100  # of a device in a day: more than people look at
FEW_PAGES = 500  # of all such devices in a day: fewer change no popularity
UNUSUAL_DAY = 1.5  # times the median day
RUN = 20  # orders of one visitor whose numbers follow each other
MANY_CUSTOMERS = 10  # that come on one device in one day
MANY_UNPROVEN = 0.05
MUCH_REVENUE = 0.01


def check_order_values(facts: Facts) -> list[Finding]:
    """Orders and refunds whose amount is beyond any bound of the others: how many, whose, when, of which share."""
    bounds = fit_bounds(facts.orders["revenue"].fill_null(0.0).to_numpy())
    if bounds is None:
        return []
    findings = []
    absurd = facts.orders.filter(pl.col("revenue") > bounds.high).sort("revenue", "order", descending=[True, False])
    usual = float(facts.orders["revenue"].median() or 0)  # type: ignore[arg-type]
    if absurd.height:
        share = float(absurd["revenue"].sum()) / facts.revenue if facts.revenue > 0 else 0.0
        who = absurd.select(pl.coalesce("customer_id", "client_id")).to_series().n_unique()
        when = _span(int(absurd["first"].min()), int(absurd["last"].max()))  # type: ignore[arg-type]
        worst = absurd.row(0, named=True)
        findings.append(
            Finding(
                "absurd_orders",
                "warn" if share >= MUCH_REVENUE else "info",
                f"{part(absurd.height, facts.orders.height, 'order', HAVE)} a value of more than {bounds.high:,.2f}, "
                f"where {usual:,.2f} is usual: of {count(who, 'visitor')}, {when}, {percent(share)} of revenue. "
                "Expected values hold each to about that; sums of revenue have them whole.",
                "look at them at their source: typing errors, amounts in another unit, or orders that nobody placed? "
                "Take the false ones out and ingest anew",
                f"order {quote(worst['order'])} of {quote(worst['customer_id'] or worst['client_id'] or '')}: "
                f"{worst['revenue']:,.2f}",
                {
                    "orders": absurd.height,
                    "visitors": who,
                    "share_of_revenue": round(share, 4),
                    "bound": round(bounds.high, 2),
                },
            )
        )
    value = pl.col("quantity") * pl.col("price")
    refunds = facts.events.filter(pl.col("name") == "refund", value > bounds.high)
    back = refunds.select("order_id", "customer_id", "client_id", "t", value=value).collect(engine="streaming")
    if back.height:
        worst = back.sort("value", "t", descending=[True, False]).row(0, named=True)
        when = _span(int(back["t"].min()), int(back["t"].max()))  # type: ignore[arg-type]
        findings.append(
            Finding(
                "absurd_refunds",
                "warn",
                f"{count(back.height, 'refunded line')} {'is' if back.height == 1 else 'are'} of more than "
                f"{bounds.high:,.2f}, where {usual:,.2f} is usual for an order: {when}.",
                "look at them at their source: a refund of more than an order takes the order away",
                f"order {quote(worst['order_id'] or '')} of {quote(worst['customer_id'] or worst['client_id'] or '')}: "
                f"{worst['value']:,.2f}",
                {"lines": back.height, "bound": round(bounds.high, 2)},
            )
        )
    return findings


def check_bursts(facts: Facts) -> list[Finding]:
    """Days on which a few devices, none of them a bot, have much of the shop's page events."""
    pages = facts.events.filter(pl.col("name").is_in(bots.PAGE_EVENTS))
    visitor = pl.coalesce("client_id", "customer_id")
    hours = pages.group_by(visitor=visitor, hour=pl.col("t") // HOUR).agg(events=pl.len())
    days = hours.group_by("visitor", day=pl.col("hour") // (DAY // HOUR)).agg(
        pl.col("events").sum(), busiest=pl.col("events").max()
    )
    slow = (pl.col("events") <= bots.PER_DAY) & (pl.col("busiest") <= bots.PER_HOUR)
    busy = slow & (pl.col("events") >= MANY_PAGES)
    by_day = (
        days.group_by("day")
        .agg(
            total=pl.col("events").filter(slow).sum(),
            busy=pl.col("events").filter(busy).sum(),
            devices=busy.sum(),
            example=pl.col("visitor").filter(busy).min(),
        )
        .sort("day")
        .collect(engine="streaming")
    )
    median = by_day["total"].median()
    much = (pl.col("busy") > MUCH * pl.col("total")) & (pl.col("busy") >= FEW_PAGES)
    bursts = by_day.filter(much, pl.col("total") > UNUSUAL_DAY * pl.lit(median)).sort(
        "busy", "day", descending=[True, False]
    )
    if bursts.is_empty() or by_day.height < 7:
        return []
    day = bursts.row(0, named=True)
    share = day["busy"] / day["total"]
    return [
        Finding(
            "event_bursts",
            "warn",
            f"On {count(bursts.height, 'day')} a few devices have much of the page events of a day that has more than "
            f"others: on {EPOCH + timedelta(days=day['day'])} {count(day['devices'], 'device')} "
            f"{'has' if day['devices'] == 1 else 'have'} {percent(share)} of {count(day['total'], 'event')}, none of "
            "them fast enough for a bot.",
            "look for what is new at that time: a crawler, a test, a campaign, or somebody who wants an item to look "
            "popular; name their ids in the mapping, `placeholders: {client_id: [ID]}`",
            f"client_id {quote(day['example'])}",
            {"days": bursts.height, "devices": day["devices"], "share": round(share, 4)},
        )
    ]


def check_order_numbers(facts: Facts) -> list[Finding]:
    """Visitors with orders whose numbers follow each other within the hour, as if somebody used them up."""
    named = facts.orders.filter("has_id").with_columns(
        visitor=pl.coalesce("customer_id", "client_id"),
        number=pl.col("order").str.extract(r"(\d{1,15})$").cast(pl.Int64),
        stem=pl.col("order").str.replace(r"\d{1,15}$", ""),
    )
    ordered = named.drop_nulls(["visitor", "number"]).sort("visitor", "stem", "number")
    rows = ordered.with_columns(
        step=pl.col("number") - pl.col("number").shift(1).over("visitor", "stem"),
        after=(pl.col("first") - pl.col("first").shift(1).over("visitor", "stem")).abs(),
    )
    runs = (
        rows.filter(pl.col("step") == 1, pl.col("after") <= HOUR)
        .group_by("visitor")
        .agg(orders=pl.len() + 1, first=pl.col("order").first(), last=pl.col("order").last(), t=pl.col("first").min())
        .filter(pl.col("orders") >= RUN)
        .sort("orders", "visitor", descending=[True, False])
    )
    if runs.is_empty():
        return []
    longest = runs.row(0, named=True)
    total = int(runs["orders"].sum())
    return [
        Finding(
            "order_number_runs",
            "warn",
            f"{count(runs.height, 'visitor')} {'has' if runs.height == 1 else 'have'} {count(total, 'order')} whose "
            "numbers follow each other within the hour: no other customer ordered in between.",
            "check that somebody placed them: an import or a test, or numbers used up so that the shop's own orders "
            "seem to be repeats; send orders from the shop's server",
            f"{quote(longest['visitor'])}: {count(longest['orders'], 'order')} up to {quote(longest['last'])}, "
            f"from {iso(longest['t'])[:10]}",
            {"visitors": runs.height, "orders": total},
        )
    ]


def check_unproven(facts: Facts) -> list[Finding]:
    """Which share of events is of devices that proved nothing to the server, and counts in no table."""
    unproven = facts.pairs.filter(UNPROVEN_DEVICE)
    if unproven.is_empty():
        return []
    events = int(unproven["events"].sum())
    share = events / facts.rows
    return [
        Finding(
            "unproven_devices",
            "warn" if share >= MANY_UNPROVEN else "info",
            f"{part(events, facts.rows, 'event')} of {count(unproven.height, 'device')} that proved nothing to the "
            "server, and left out of all tables.",
            "let pages use signed client ids (docs/storefront.md), or set USUAL_CLIENT_IDS=any if the shop's own are "
            "long and random",
            f"client_id {quote(unproven['client_id'].min())}",
            {"share": round(share, 4), "events": events, "devices": unproven.height},
        )
    ]


def check_claimed_customers(facts: Facts) -> list[Finding]:
    """Devices in whose name many customers come first on one day, none of whom orders there or is seen elsewhere."""
    money = pl.col("name").is_in(["purchase", "refund"])
    known = facts.events.filter(pl.col("customer_id").is_not_null())
    seen = known.group_by("customer_id", "client_id").agg(first=pl.col("t").min(), orders=money.sum(), events=pl.len())
    pairs = seen.collect(engine="streaming").with_columns(
        devices=pl.len().over("customer_id"), bought=pl.col("orders").sum().over("customer_id")
    )
    claimed = (
        pairs.filter(pl.col("client_id").is_not_null(), pl.col("orders") == 0)
        .group_by("client_id", day=pl.col("first") // DAY)
        .agg(
            customers=pl.len(),
            only=((pl.col("devices") == 1) & (pl.col("bought") == 0)).sum(),
            events=pl.col("events").sum(),
        )
        .filter(pl.col("customers") >= MANY_CUSTOMERS)
        .sort("customers", "client_id", "day", descending=[True, False, False])
    )
    if claimed.is_empty():
        return []
    worst = claimed.row(0, named=True)
    customers, only = int(claimed["customers"].sum()), int(claimed["only"].sum())
    return [
        Finding(
            "claimed_customers",
            "warn",
            f"On {count(claimed['client_id'].n_unique(), 'device')} {MANY_CUSTOMERS} customers or more came for the "
            f"first time on one day and ordered nothing there: {count(customers, 'customer')}, of whom {only:,} "
            f"{'was' if only == 1 else 'were'} never seen elsewhere.",
            "a till or a test, or somebody who names customers in a page: sign visitor tokens (docs/storefront.md), "
            "and name the device in the mapping, `placeholders: {client_id: [ID]}`",
            f"client_id {quote(worst['client_id'])}: {count(worst['customers'], 'customer')} on "
            f"{EPOCH + timedelta(days=worst['day'])}",
            {"devices": claimed["client_id"].n_unique(), "customers": customers, "only_there": only},
        )
    ]


def _span(first: int, last: int) -> str:
    begin, end = iso(first)[:10], iso(last)[:10]
    return f"on {begin}" if begin == end else f"from {begin} to {end}"
