"""Checks of orders: order ids, lines, repeats, buyers who never return, and refunds."""

import polars as pl

from features.checks.facts import Facts
from features.checks.finding import HAVE, Finding, count, part, percent, quote
from features.common.clock import DAY, HOUR

ENOUGH_BUYERS = 200
ONE_TIME = 0.98  # of buyers: more than in shops of mattresses
LONG_LINES = 500
REPEAT_DAYS = 7
MANY_REPEATED = 0.005
MANY_EQUAL = 0.25  # of lines: as many as there are where half of the orders came twice


def check_buyers(facts: Facts) -> list[Finding]:
    """How many orders customers have; whether a customer id is rather the id of an order."""
    orders, buyers = facts.orders, facts.buyers
    if orders.is_empty():
        return [
            Finding(
                "no_orders",
                "warn",
                f"There is no order among {count(facts.rows, 'event')}: no segments, lifetime values or repeat "
                "purchases.",
                "ingest the shop's orders too; name their event `purchase`",
            )
        ]
    findings = []
    if buyers.height:
        once = int((buyers["orders"] == 1).sum())
        share = once / buyers.height
        suspicious = buyers.height >= ENOUGH_BUYERS and facts.span_days >= 180 and share >= ONE_TIME
        findings.append(
            Finding(
                "orders_per_customer",
                "warn" if suspicious else "info",
                f"{count(buyers.height, 'customer')} placed {count(int(buyers['orders'].sum()), 'order')}; "
                f"{percent(share)} of them ordered once.",
                "check that customer_id is one id a person, not one an order or a visit; a hashed e-mail address "
                "(`email:` in the mapping) finds guests who came back"
                if suspicious
                else "",
                numbers={
                    "customers": buyers.height,
                    "orders": int(buyers["orders"].sum()),
                    "one_time_share": round(share, 4),
                },
            )
        )
    unknown = orders.filter(pl.col("customer_id").is_null())
    if unknown.height:
        share = unknown.height / orders.height
        findings.append(
            Finding(
                "orders_without_customer",
                "warn" if share > 0.5 else "info",
                f"{part(unknown.height, orders.height, 'order', HAVE)} no customer_id.",
                "name the column of the customer, or `email:` for guests, in the mapping",
                f"order {quote(unknown['order'][0])}" if unknown["has_id"][0] else "",
                {"share": round(share, 4), "orders": unknown.height},
            )
        )
    return findings


def check_order_ids(facts: Facts) -> list[Finding]:
    """Orders without an id, ids shared by several customers or spread over days, and orders of very many lines."""
    orders = facts.orders
    if orders.is_empty():
        return []
    findings = []
    without = int((~orders["has_id"]).sum())
    if without:
        share = without / orders.height
        findings.append(
            Finding(
                "orders_without_id",
                "warn" if 0.01 < share < 0.99 else "info",
                f"{part(without, orders.height, 'order', HAVE)} no order_id: a basket is "
                "what one customer bought at one instant.",
                "name the column of the order number in the mapping, so that repeats and refunds find their order",
                numbers={"share": round(share, 4), "orders": without},
            )
        )
    named = orders.filter("has_id")
    shared = named.filter(pl.col("customers") > 1).sort("customers", "order", descending=[True, False])
    if shared.height:
        share = shared.height / named.height
        findings.append(
            Finding(
                "shared_order_ids",
                "warn" if share >= 0.001 else "info",
                f"{part(shared.height, named.height, 'order id')} shared by several visitors.",
                "check that it is the number of an order; where several shops count from 1, join their name to it: "
                '`order_id: "{store}-{Name}"`',
                f"{quote(shared['order'][0])}: {shared['customers'][0]:,} visitors",
                {"share": round(share, 4), "order_ids": shared.height},
            )
        )
    spread = named.filter(pl.col("last") - pl.col("first") > REPEAT_DAYS * DAY)
    if spread.height:
        share = spread.height / named.height
        longest = spread.sort(pl.col("last") - pl.col("first"), descending=True).row(0, named=True)
        findings.append(
            Finding(
                "spread_orders",
                "warn" if share >= 0.01 else "info",
                f"{part(spread.height, named.height, 'order id', HAVE)} lines more than {REPEAT_DAYS} days apart.",
                "check that order numbers are not used again, and that the time is the order's",
                f"{quote(longest['order'])}: {(longest['last'] - longest['first']) / DAY:,.0f} days",
                {"share": round(share, 4), "order_ids": spread.height},
            )
        )
    long = named.filter(pl.col("lines") >= LONG_LINES).sort("lines", "order", descending=[True, False])
    if long.height:
        usual = float(named["lines"].median() or 0)  # type: ignore[arg-type]
        findings.append(
            Finding(
                "long_orders",
                "warn" if long["lines"][0] >= 10 * LONG_LINES or long.height > 0.01 * named.height else "info",
                f"{count(long.height, 'order')} {'has' if long.height == 1 else 'have'} {LONG_LINES:,} lines or more, "
                f"where {usual:,.0f} is usual.",
                "an id that stands for many orders (a till, an import) is a placeholder: name it in the mapping",
                f"{quote(long['order'][0])}: {long['lines'][0]:,} lines",
                {"orders": long.height, "most_lines": int(long["lines"][0])},
            )
        )
    return findings


def check_repeats(facts: Facts) -> list[Finding]:
    """Orders that came several times: page reloads, a tracker beside an export, one file in two time zones."""
    repeats = facts.repeats
    if repeats.is_empty():
        return []
    ids, named = repeats["order"].n_unique(), int(facts.orders["has_id"].sum())
    share = ids / named if named else 1.0
    later = repeats.filter(pl.col("after") > 0)["after"]
    offset = later.mode().sort() if later.len() else later
    shifted = int((later == offset[0]).sum()) if offset.len() else 0
    zone = (
        f"; {percent(shifted / repeats.height)} of them by exactly {offset[0] // HOUR} hours: was a "
        "file read in two time zones?"
        if shifted > 0.5 * repeats.height and shifted >= 10 and offset[0] % (HOUR // 2) == 0
        else "."
    )
    return [
        Finding(
            "repeated_orders",
            "warn" if share >= MANY_REPEATED or zone != "." else "info",
            f"{count(ids, 'order id')} of {named:,} ({percent(share)}) came again within {REPEAT_DAYS} days with the "
            f"same item and visitor, {count(repeats.height, 'line')} that no table counts{zone}",
            "nothing, if a page with a visitor token and the shop's server both send orders: they count once. Where "
            "the visitor or the item differs a repeat is not found: let one sender send the order number as the "
            "event's id to keep repeats out of the log",
            f"order {quote(repeats['order'][0])}, item {quote(repeats['item_id'][0])}",
            {"share": round(share, 4), "order_ids": ids, "lines": repeats.height},
        )
    ]


def check_equal_lines(facts: Facts) -> list[Finding]:
    """Lines of one order, item and instant that have event ids of their own, and all count."""
    sold = facts.events.filter(pl.col("name") == "purchase", pl.col("order_id").is_not_null())
    lines = sold.group_by("order_id", "item_id", "t", visitor=pl.coalesce("customer_id", "client_id")).agg(n=pl.len())
    equal = lines.filter(pl.col("n") > 1).sort("order_id", "item_id", "t", "visitor").collect(engine="streaming")
    again = facts.repeats.filter(pl.col("name") == "purchase", pl.col("after") == 0).height
    more = int((equal["n"] - 1).sum()) - again
    if more <= 0:
        return []
    total = int(facts.money.filter(pl.col("name") == "purchase")["lines"].sum())
    share = more / total
    return [
        Finding(
            "equal_lines",
            "warn" if share >= MANY_EQUAL else "info",
            f"{part(more, total, 'line', HAVE)} the order, item and time of another and an event_id of their own; all "
            "of them count, as lines of an order do in this log.",
            "if a file was read twice under other ids, ingest it once into a new log",
            f"order {quote(equal['order_id'][0])}, item {quote(equal['item_id'][0])}: {equal['n'][0]} lines",
            {"share": round(share, 4), "lines": more},
        )
    ]


def check_refunds(facts: Facts) -> list[Finding]:
    """Which share of what was sold came back."""
    refunds = facts.money.filter(pl.col("name") == "refund")
    if refunds.is_empty() or facts.revenue <= 0:
        return []
    value, lines = float(refunds["revenue"].sum()), int(refunds["lines"].sum())
    share = value / facts.revenue
    return [
        Finding(
            "refunds",
            "warn" if share > 0.5 else "info",
            f"{count(lines, 'refunded line')}, {percent(share)} of revenue.",
            "check that refunds are not exchanges or cancelled orders that were never paid" if share > 0.5 else "",
            numbers={"share_of_revenue": round(share, 4), "lines": lines},
        )
    ]
