"""Checks of money: currencies, prices that are off by a factor, orders that are most of the revenue, quantities."""

import polars as pl

from features.checks.facts import Facts
from features.checks.finding import HAVE, Finding, count, part, percent, quote

ENOUGH_LINES = 200
OUTLIER = 20.0  # times, or a twentieth of, the median price of the item
FEW_PRICES = 5  # an item sold less often has no median to compare with
HUNDRED = (90.0, 110.0)


def check_currencies(facts: Facts) -> list[Finding]:
    """Whether money is of one currency, and says so."""
    sold = facts.money.filter(pl.col("name") == "purchase")
    total = int(sold["lines"].sum())
    if not total:
        return []
    findings = []
    named = sold.filter(pl.col("currency").is_not_null())
    listed = ", ".join(f"{c} {percent(n / total)}" for c, n in named.select("currency", "lines").iter_rows())
    if named.height > 1:
        findings.append(
            Finding(
                "several_currencies",
                "stop",
                f"Purchases are in {count(named.height, 'currency', 'currencies')} ({listed}), "
                "and amounts are added up as they are.",
                "convert them in the mapping: `currency: EUR` and `rates: {USD: 0.92}`, and ingest into a new log",
                listed,
                {"currencies": named.height},
            )
        )
    missing = total - int(named["lines"].sum())
    if missing:
        findings.append(
            Finding(
                "currency_missing",
                "warn" if named.height else "info",
                f"{count(missing, 'purchased line')} of {total:,} ({percent(missing / total)}) "
                f"{'does' if missing == 1 else 'do'} not say the currency.",
                "say it in the mapping: `currency: EUR`",
                numbers={"share": round(missing / total, 4), "lines": missing},
            )
        )
    catalog = facts.catalog.filter(pl.col("currency").is_not_null())["currency"].unique()
    foreign = sorted(set(catalog) - set(named["currency"]))
    if named.height and foreign:
        findings.append(
            Finding(
                "catalog_currency",
                "warn",
                f"The catalog has prices in {', '.join(foreign)}, customers paid in {', '.join(named['currency'])}.",
                "hand over the catalog in the currency of the orders",
                numbers={"currencies": len(foreign)},
            )
        )
    return findings


def check_prices(facts: Facts) -> list[Finding]:
    """Prices far off the median of their item, such as cents among units; free items; one order that is the revenue."""
    findings = []
    usual = facts.prices.filter(pl.col("lines") >= FEW_PRICES)
    wide = usual.filter((pl.col("most") > OUTLIER * pl.col("median")) | (pl.col("least") * OUTLIER < pl.col("median")))
    if wide.height:
        ratio = pl.col("price") / pl.col("median")
        sold = facts.events.filter(pl.col("name") == "purchase", pl.col("price") > 0)
        rows = sold.select("item_id", "price", "quantity").join(wide.lazy(), on="item_id")
        off = (
            rows.with_columns(ratio=ratio).filter((ratio > OUTLIER) | (ratio * OUTLIER < 1)).collect(engine="streaming")
        )
        lines, money = off.height, float((off["price"] * off["quantity"]).sum())
        cents = off.filter(pl.col("ratio").is_between(*HUNDRED) | (1 / pl.col("ratio")).is_between(*HUNDRED)).height
        share, of_revenue = lines / int(facts.prices["lines"].sum()), money / facts.revenue
        is_cents = cents >= 5 and cents > 0.5 * lines
        example = off.sort(pl.col("ratio").log().abs(), "item_id", descending=[True, False]).row(0, named=True)
        findings.append(
            Finding(
                "price_outliers",
                "warn" if is_cents or share > 0.001 or of_revenue > 0.01 else "info",
                f"{count(lines, 'purchased line')} ({percent(share)}, {percent(of_revenue)} of revenue) "
                f"{'is' if lines == 1 else 'are'} at {OUTLIER:.0f} times the item's usual price or more, or a "
                f"{OUTLIER:.0f}th of it or less"
                + (f"; {cents:,} of them at about 100 times: cents among whole units." if is_cents else "."),
                "divide amounts in cents before ingesting" if is_cents else "look at these rows at their source",
                f"item {quote(example['item_id'])}: {example['price']:,.2f}, usually {example['median']:,.2f}",
                {"share": round(share, 6), "lines": lines, "share_of_revenue": round(of_revenue, 4)},
            )
        )
    bought = facts.money.filter(pl.col("name") == "purchase")
    total, free = int(bought["lines"].sum()), int(bought["free"].sum())
    if free:
        findings.append(
            Finding(
                "free_items",
                "warn" if free > 0.05 * total else "info",
                f"{part(free, total, 'purchased line', HAVE)} the price 0.",
                "check that they are gifts, not children of a configurable product or prices that are missing",
                numbers={"share": round(free / total, 4), "lines": free},
            )
        )
    if facts.orders.height >= ENOUGH_LINES and facts.revenue > 0:
        largest = facts.orders.sort("revenue", "order", descending=[True, False]).row(0, named=True)
        share = largest["revenue"] / facts.revenue
        if share > 0.05:
            findings.append(
                Finding(
                    "largest_order",
                    "warn",
                    f"One order of {facts.orders.height:,} has {percent(share)} of all revenue.",
                    "look at it at its source: a test order, or a price or quantity in another unit?",
                    f"order {quote(largest['order'])}: {largest['revenue']:,.2f} in {count(largest['lines'], 'line')}",
                    {"share_of_revenue": round(share, 4)},
                )
            )
    return findings


def check_catalog_prices(facts: Facts) -> list[Finding]:
    """Whether the catalog's prices are of another unit than those that are paid."""
    listed = facts.shop_catalog.filter(pl.col("price") > 0).select("item_id", listed="price")
    both = facts.prices.join(listed, on="item_id").with_columns(ratio=pl.col("listed") / pl.col("median"))
    if both.height < 10:
        return []
    middle = float(both["ratio"].median() or 1)  # type: ignore[arg-type]
    if 1 / 3 < middle < 3:
        return []
    example = both.sort("lines", "item_id", descending=[True, False]).row(0, named=True)
    unit = " (cents among whole units)" if 90 < middle < 110 or 90 < 1 / middle < 110 else ""
    return [
        Finding(
            "catalog_prices",
            "warn",
            f"The catalog's price is {middle:,.3g} times what customers pay{unit}, by the median of "
            f"{both.height:,} items.",
            "hand over the catalog in the unit and currency of the orders",
            f"item {quote(example['item_id'])}: {example['listed']:,.2f} in the catalog, {example['median']:,.2f} paid",
            {"ratio": round(middle, 4), "items": both.height},
        )
    ]


def check_quantities(facts: Facts) -> list[Finding]:
    """Whether every purchase is of one piece, as where the quantity was not exported."""
    bought = facts.money.filter(pl.col("name") == "purchase")
    total = int(bought["lines"].sum())
    if total < ENOUGH_LINES or int(bought["single"].sum()) < total:
        return []
    return [
        Finding(
            "quantity_always_one",
            "info",
            f"All {total:,} purchased lines are of one piece.",
            "check that the mapping names the column of the quantity, unless it is so",
            numbers={"lines": total},
        )
    ]
