"""Checks of visitors: whether there are any, and whether one of them is many or none."""

import polars as pl

from features.checks.facts import Facts
from features.checks.finding import Finding, count, percent, quote

FEW_VISITORS, FEW_ORDERS, FEW_EVENTS = 20, 20, 1_000
NEARLY_ALL, MUCH = 0.8, 0.2
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
                f"with an item; with fewer than {FEW_ORDERS} orders and {FEW_EVENTS:,} such events every result is chance.",
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
        if share < MUCH:
            continue
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
