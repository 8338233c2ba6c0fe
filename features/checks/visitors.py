"""Checks of visitors: whether there are any, and whether one of them is many or none."""

import narwhals as nw
import polars as pl

from features.checks.facts import REVENUE, Facts
from features.checks.finding import Finding, count, percent, quote
from features.common.clock import DAY, HOUR
from features.tables import bots
from features.tables.engine import Lazy, PolarsEngine
from features.tables.identity import build_profiles

FEW_VISITORS, FEW_ORDERS, FEW_EVENTS = 20, 20, 1_000
NEARLY_ALL, MUCH = 0.8, 0.2
SHARED_BY = 5  # customers on one device: more than a household
SAMPLED_ROWS = 20_000_000  # of a larger log a part of the visitors is looked at
LOOKED = ("select_item", "view_item", "add_to_wishlist", "add_to_cart")
ENOUGH = 100  # events or orders from which on a share says something


def check_sizes(facts: Facts) -> list[Finding]:
    """Whether there are customers, orders and events enough to learn from."""
    visitors = facts.visitors.filter(pl.col("item_events") > 0)
    orders, events = int(visitors["orders"].sum()), int(visitors["item_events"].sum())
    findings = []
    if visitors.height < FEW_VISITORS:
        findings.append(
            Finding(
                "few_visitors",
                "stop",
                f"Only {count(visitors.height, 'visitor')} touched an item; below {FEW_VISITORS} there is nothing to "
                "compare a visitor with.",
                "bring more history, or check that customer_id and client_id are the columns that tell people apart",
                numbers={"visitors": visitors.height},
            )
        )
    if orders < FEW_ORDERS and events < FEW_EVENTS:
        findings.append(
            Finding(
                "few_orders",
                "stop",
                f"There {'is' if orders == 1 else 'are'} only {count(orders, 'order')} and {count(events, 'event')} "
                f"with an item; with fewer than {FEW_ORDERS} orders and {FEW_EVENTS:,} such events every result is "
                "chance.",
                "bring more history",
                numbers={"orders": orders, "events": events},
            )
        )
    return findings


def check_one_visitor(facts: Facts) -> list[Finding]:
    """Whether one visitor has a share of events or orders that no person has."""
    findings = []
    for column, noun in (("item_events", "event"), ("orders", "order")):
        total = int(facts.visitors[column].sum())
        if total < ENOUGH:
            continue
        visitor = facts.visitors.sort(column, descending=True).row(0, named=True)
        share = visitor[column] / total
        if share < MUCH or (column == "item_events" and _is_bot(facts, visitor["client_id"], visitor["customer_id"])):
            continue  # a bot is in no table, and found by another check
        of_what = " with an item" if noun == "event" else ""
        kind = "customer" if visitor["customer_id"] is not None else "client"
        findings.append(
            Finding(
                f"one_visitor_{noun}s",
                "stop" if share >= NEARLY_ALL else "warn",
                f"One {kind} has {percent(share)} of the {count(total, noun)}{of_what}.",
                f"if that {kind} is nobody (a guest account, a till, a proxy), name the word in the mapping: "
                f"`placeholders: {{{kind}_id: [WORD]}}`, and ingest again",
                f"{kind}_id {quote(visitor[f'{kind}_id'])}",
                {"share": round(share, 4), "total": total},
            )
        )
    return findings


def _is_bot(facts: Facts, client: str | None, customer: str | None) -> bool:
    theirs = pl.col("customer_id") == customer if client is None else pl.col("client_id") == client
    detected = bots.find_bots(PolarsEngine(), nw.from_native(facts.events.filter(theirs)))
    return bool(detected.whole or detected.in_bursts)


def check_bots(facts: Facts) -> list[Finding]:
    """Visitors that no table counts because they are too fast to be people, and what goes with them."""
    events = nw.from_native(facts.events)
    detected = bots.find_bots(PolarsEngine(), events)
    return [*_check_bots(facts, events, detected), *_check_flooded(facts, events, detected)]


def _check_bots(facts: Facts, events: Lazy, detected: bots.Bots) -> list[Finding]:
    if not detected.whole:
        return []
    rows, revenue = _measure(events, detected.match_bots())
    share, of_revenue = rows / facts.rows, revenue / facts.revenue if facts.revenue > 0 else 0.0
    clients = sorted(detected.clients + detected.shared_clients)
    n = detected.whole
    return [
        Finding(
            "bots",
            "warn" if of_revenue > 0.01 or share > 0.5 else "info",
            f"{count(n, 'visitor')} with more than {bots.PER_HOUR} page events in an hour or {bots.PER_DAY:,} in "
            f"a day {'is a bot' if n == 1 else 'are bots'}, and left out of all tables: "
            f"{count(rows, 'event')} ({percent(share)}), {percent(of_revenue)} of revenue.",
            "bots that buy are people behind one id: check the client_id" if of_revenue > 0.01 else "",
            f"client_id {quote(clients[0])}" if clients else f"customer_id {quote(min(detected.customers))}",
            {"bots": n, "share": round(share, 4), "share_of_revenue": round(of_revenue, 4)},
        )
    ]


def _check_flooded(facts: Facts, events: Lazy, detected: bots.Bots) -> list[Finding]:
    """Customers with orders, and their devices, in whose name somebody sends more than a person does."""
    n = detected.in_bursts
    if not n:
        return []
    rows, _ = _measure(events, detected.match_bursts() & ~detected.match_bots())
    share = rows / facts.rows
    devices = sorted({*detected.client_bursts.ids, *detected.shared_bursts.ids})
    customers = int(facts.buyers.height)
    return [
        Finding(
            "flooded_customers",
            "warn" if n > 0.01 * max(customers, 1) or share > 0.05 else "info",
            f"{count(n, 'visitor')} who {'is' if n == 1 else 'are'} or {'belongs' if n == 1 else 'belong'} to a "
            f"customer with orders {'has' if n == 1 else 'have'} hours too fast for a person: "
            f"{count(rows, 'event')} ({percent(share)}) of these hours are left out, their orders and other hours "
            "count.",
            "an employee, a program with a customer's login, or somebody who sends events in customers' names: look "
            "where these events come from; events of pages should carry visitor tokens (docs/storefront.md)",
            f"client_id {quote(devices[0])}" if devices else f"customer_id {quote(detected.customer_bursts.ids[0])}",
            {"visitors": n, "events": rows, "share": round(share, 4)},
        )
    ]


def _measure(events: Lazy, match: nw.Expr) -> tuple[int, float]:
    """Count the events that match, and sum up their revenue."""
    theirs = events.filter(match).to_native().select(events=pl.len(), revenue=REVENUE.sum())
    rows, revenue = theirs.collect(engine="streaming").row(0)
    return int(rows), float(revenue or 0.0)


def check_shared_devices(facts: Facts) -> list[Finding]:
    """Clients that several customers use: kiosks, tills, proxies, and words that stand for no device."""
    shared = facts.clients.filter(pl.col("customers") >= SHARED_BY)
    if shared.is_empty():
        return []
    events, revenue = int(shared["events"].sum()), float(shared["revenue"].sum())
    share, of_revenue = events / facts.rows, revenue / facts.revenue if facts.revenue > 0 else 0.0
    most = shared.sort("customers", "client_id", descending=[True, False]).row(0, named=True)
    return [
        Finding(
            "shared_devices",
            "warn" if share > 0.01 or of_revenue > 0.01 else "info",
            f"{count(shared.height, 'client_id')} {'was' if shared.height == 1 else 'were'} used by {SHARED_BY} "
            f"customers or more each: {count(events, 'event')} ({percent(share)}), {percent(of_revenue)} of revenue.",
            "a till or a proxy is no visitor: name its id in the mapping, `placeholders: {client_id: [ID]}`",
            f"client_id {quote(most['client_id'])}: {most['customers']:,} customers",
            {"clients": shared.height, "share": round(share, 4), "share_of_revenue": round(of_revenue, 4)},
        )
    ]


def check_consent(facts: Facts) -> list[Finding]:
    """Which share of events is kept out of all models for want of consent."""
    refused, unsaid = facts.consent.get(False, 0), facts.consent.get(None, 0)
    if unsaid == facts.rows or not facts.rows:
        return []
    return [
        Finding(
            "consent",
            "warn" if refused > facts.rows / 2 else "info",
            f"Without consent are {percent(refused / facts.rows)} of events, kept out of every model; for "
            f"{percent(unsaid / facts.rows)} it is not said, which counts as consent.",
            "check that the column `consent` means what it says" if refused > facts.rows / 2 else "",
            numbers={"refused": round(refused / facts.rows, 4), "not_said": round(unsaid / facts.rows, 4)},
        )
    ]


def check_anonymous(facts: Facts) -> list[Finding]:
    """Which share of events is of no known customer."""
    anonymous = int(facts.visitors.filter(pl.col("customer_id").is_null())["events"].sum())
    if not anonymous:
        return []
    share = anonymous / facts.rows
    none = anonymous == facts.rows
    return [
        Finding(
            "anonymous",
            "warn" if none else "info",
            f"Of a device without customer_id are {percent(share)} of events."
            + (" There are no customers to know." if none else ""),
            "name the column of the customer in the mapping, and send `login` events" if none else "",
            numbers={"share": round(share, 4)},
        )
    ]


def check_funnel(facts: Facts) -> list[Finding]:
    """Whether those who buy an item looked at it before, where views are tracked."""
    views, sold = facts.names.get("view_item", 0), facts.names.get("purchase", 0)
    if not sold:
        return []
    if not views:
        return [
            Finding(
                "no_views",
                "info",
                "There are no views: what somebody looks at in a visit cannot be learnt from orders alone.",
                "ingest the shop's tracking too, or send events over HTTP",
            )
        ]
    begin = int(facts.hours.filter(pl.col("name") == "view_item")["hour"][0]) * HOUR
    part = max(1, facts.rows // SAMPLED_ROWS)
    profiles = build_profiles(
        nw.from_native(facts.pairs.lazy().drop_nulls(["client_id", "customer_id"])),
        PolarsEngine().with_micros(nw.from_native(facts.log.links().lazy()), "at", "t"),
        int(facts.end) + DAY,
    ).to_native()
    owner = pl.coalesce("customer_id", "owner", "client_id")
    touched = (
        facts.events.filter(pl.col("name").is_in((*LOOKED, "purchase")), pl.col("item_id").is_not_null())
        .select("client_id", "customer_id", "item_id", "t", "name")
        .join(profiles.rename({"customer_id": "owner"}), on="client_id", how="left")
        .select("item_id", "t", "name", visitor=owner.hash())
        .filter(pl.col("visitor") % part == 0)
    )
    bought = pl.col("name") == "purchase"
    pairs = touched.group_by("visitor", "item_id").agg(
        looked=pl.col("t").filter(~bought).min(), bought=pl.col("t").filter(bought & (pl.col("t") > begin + DAY)).max()
    )
    counted = pairs.filter(pl.col("bought").is_not_null()).select(
        pairs=pl.len(), unseen=(pl.col("looked").is_null() | (pl.col("looked") > pl.col("bought"))).sum()
    )
    n, unseen = counted.collect(engine="streaming").row(0)
    if n < ENOUGH:
        return []
    share = unseen / n
    return [
        Finding(
            "purchases_without_views",
            "warn" if share > 0.5 or sold > views else "info",
            f"Of {count(n, 'pair')} of buyer and item {percent(share)} came without an earlier view, click or cart "
            f"of that buyer ({views:,} views, {sold:,} purchased lines).",
            "check that views and orders name the same items, and that logins link devices to customers"
            if share > 0.5 or sold > views
            else "",
            numbers={"share": round(share, 4), "pairs": n, "views": views, "purchases": sold},
        )
    ]
