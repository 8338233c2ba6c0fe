"""Checks of joins: whether events and catalog speak of the same items, and what of the catalog can be shown."""

import polars as pl

from features.checks.facts import RECENT_DAYS, Facts
from features.checks.finding import Finding, Severity, count, percent, quote

FEW_ROWS = 20  # with fewer recent rows than this all of the log counts
FEW_CUSTOMERS = 20  # with fewer than this their events say nothing for themselves
BROKEN, POOR, GOOD = 0.2, 0.8, 0.98  # shares of item events whose item the catalog has
HARDLY_ANY_AVAILABLE = 0.05
ID_ADVICE = (
    "write the item ids of events and catalog alike (leading zeros, capitals, SKU or product number), with a mapping "
    "that names the other column, and ingest both again"
)


def check_join(facts: Facts) -> list[Finding]:
    """Which share of what is viewed and sold the catalog has, and may be shown."""
    catalog, items = facts.shop_catalog, facts.items
    if catalog.is_empty() or items.is_empty():
        return []
    recent = int(items["recent"].sum()) >= FEW_ROWS
    weights, when = ("recent", f"in the last {RECENT_DAYS} days") if recent else ("events", "in the log")
    joined = items.filter(pl.col(weights) > 0).join(
        catalog.select("item_id", available=pl.col("available").fill_null(True), listed=True), on="item_id", how="left"
    )
    listed, available = pl.col("listed").fill_null(False), pl.col("available").fill_null(False)
    total, known, displayed = joined.select(
        pl.col(weights).sum().alias("total"),
        pl.col(weights).filter(listed).sum().alias("known"),
        pl.col(weights).filter(available).sum().alias("shown"),
    ).row(0)
    findings = []
    share = known / total
    if share < GOOD:
        missing = joined.filter(~listed).sort(weights, "item_id", descending=[True, False])
        broken = share < BROKEN and not _customers_reach(facts, catalog["item_id"], recent, BROKEN)
        severity: Severity = "stop" if broken else "warn" if share < POOR else "info"
        findings.append(
            Finding(
                "catalog_join",
                severity,
                f"The catalog has the item of {percent(share)} of the {count(total, 'event')} with an item {when}; "
                f"{count(missing.height, 'item')} that customers touched {'is' if missing.height == 1 else 'are'} "
                f"not in it and can never be shown.",
                ID_ADVICE
                if share < POOR
                else "hand over the catalog with these items, or leave them if they are no longer sold",
                f"events have {quote(missing['item_id'][0])}, the catalog has {quote(catalog['item_id'][0])}",
                {"share": round(share, 4), "events": total, "items_missing": missing.height},
            )
        )
    on_sale = int(catalog["available"].fill_null(True).sum())
    to_show = catalog.filter(pl.col("available").fill_null(True))["item_id"]
    hardly_any = share >= BROKEN and displayed / total < HARDLY_ANY_AVAILABLE
    if hardly_any and not _customers_reach(facts, to_show, recent, HARDLY_ANY_AVAILABLE):
        findings.append(
            Finding(
                "nothing_available",
                "stop",
                f"Only {percent(displayed / total)} of the {count(total, 'event')} with an item {when} are of an "
                f"available item: {on_sale:,} of the catalog's {catalog.height:,} items are.",
                "correct the column `available` of the catalog: true, or `in stock`, for what may be shown",
                numbers={"share": round(displayed / total, 4), "available_items": on_sale, "items": catalog.height},
            )
        )
    return findings


def _customers_reach(facts: Facts, item_ids: pl.Series, recent: bool, least: float) -> bool:
    """Whether of what a customer touches these items are `least` on average, with customers enough to say so.

    Anybody can send events of any items without a customer, or many as one: they must not stop a training.
    """
    customers = facts.customers_on(item_ids, recent)
    return customers.height >= FEW_CUSTOMERS and float(customers["share"].mean() or 0) >= least  # type: ignore[arg-type]


def check_coverage(facts: Facts) -> list[Finding]:
    """What is known of the items: titles, categories, prices; which part is available, and which nobody touched."""
    catalog, items = facts.catalog, facts.items
    if catalog.is_empty() or items.is_empty():
        return []
    handed = not facts.shop_catalog.is_empty()
    touched = items.select("item_id", "events").join(catalog, on="item_id", how="left")
    total = int(touched["events"].sum())
    findings = []
    for column, plural, loss in (
        ("title", "titles", "pages and reports show ids"),
        ("category", "categories", "new items and newcomers are served worse"),
        ("price", "prices", "revenue and price levels are not learnt"),
    ):
        rows = touched.filter(pl.col(column).is_null()).sort("events", "item_id", descending=[True, False])
        if rows.is_empty():
            continue
        share = int(rows["events"].sum()) / total
        if share < 1 - GOOD:
            continue
        findings.append(
            Finding(
                f"{column}_missing",
                "warn" if handed and share >= 1 - POOR else "info",
                f"{count(rows.height, 'item')} of {touched.height:,} ({percent(share)} of events) "
                f"{'has' if rows.height == 1 else 'have'} no {column}: {loss}.",
                f"hand over a catalog with {plural}: `catalog: FILE` in the mapping",
                f"item {quote(rows['item_id'][0])}",
                {"share": round(share, 4), "items": rows.height},
            )
        )
    if handed:
        shop = facts.shop_catalog
        off = int((~shop["available"].fill_null(True)).sum())
        idle = shop.join(items.select("item_id"), on="item_id", how="anti").height
        findings.append(
            Finding(
                "catalog",
                "info",
                f"The catalog has {count(shop.height, 'item')}: {percent(off / shop.height)} are not available, "
                f"{percent(idle / shop.height)} were never touched.",
                "",
                numbers={
                    "items": shop.height,
                    "unavailable_share": round(off / shop.height, 4),
                    "untouched_share": round(idle / shop.height, 4),
                },
            )
        )
    else:
        findings.append(
            Finding(
                "no_catalog",
                "info",
                f"No catalog was handed over: {count(catalog.height, 'item')} are known from events alone and all "
                "count as available.",
                "hand over the catalog: `catalog: FILE` in the mapping",
                numbers={"items": catalog.height},
            )
        )
    return findings
