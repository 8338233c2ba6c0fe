"""What a shop knows of an item: popularity over windows, trend, age, price, how it is bought again."""

import narwhals as nw

from features.clock import DAY
from features.columns import Column, select
from features.engine import Lazy, days_before, tally, total

BUYER_WINDOWS_DAYS = (1, 3, 7, 28, 90)
LAST_YEAR_DAYS = (364, 336)  # whole weeks back, so that weekdays match

COLUMNS = (
    *(Column(f"buyers_{d}d", "customers", f"distinct buyers in the last {d} days") for d in BUYER_WINDOWS_DAYS),
    Column("buyers", "customers", "distinct buyers ever"),
    Column("buyers_last_year", "customers", "distinct buyers in the four weeks from 364 days ago"),
    Column("trend", "ratio", "buyers in the last 7 days against a quarter of the last 28, smoothed by one"),
    Column("trend_90d", "ratio", "buyers in the last 28 days against a third of the last 90, smoothed by one"),
    Column("views_7d", "events", "views in the last 7 days"),
    Column("views_28d", "events", "views in the last 28 days"),
    Column("carts_28d", "events", "times put in a cart in the last 28 days"),
    Column("cart_rate", "0-1", "carts / views in the last 28 days, smoothed"),
    Column("buy_rate", "0-1", "order lines / views in the last 28 days, smoothed; null without any view"),
    Column("age_days", "days", "since the item's first event"),
    Column("sold_last_days", "days", "since it was last bought"),
    Column("price", "currency", "price of the latest event that carries one"),
    Column("price_mean", "currency", "mean price of a unit sold"),
    Column("price_change", "ratio", "price / price_mean"),
    Column("repeat_share", "0-1", "share of its buyers with a second order of it, smoothed"),
    Column("repeat_gap_days", "days", "median over repeat buyers of their mean gap between orders of it"),
    Column("quantity_per_order", "units", "mean units an order line"),
    Column("basket_items", "items", "mean distinct items in the orders it is in"),
    Column("refund_share", "0-1", "units given back / units sold, smoothed"),
)


def items(events: Lazy, lines: Lazy, orders: Lazy, pairs: Lazy, refunds: Lazy, as_of: int) -> Lazy:
    """One row per item with any event before `as_of`: `COLUMNS`."""
    of_items = events.filter(~nw.col("item_id").is_null())

    def recent(name: str, days: int) -> nw.Expr:
        return tally((nw.col("name") == name) & (nw.col("t") >= as_of - days * DAY))

    activity = of_items.group_by("item_id").agg(
        first=nw.col("t").min(),
        views_7d=recent("view_item", 7),
        views_28d=recent("view_item", 28),
        carts_28d=recent("add_to_cart", 28),
        sales_28d=recent("purchase", 28),
        views=tally(nw.col("name") == "view_item"),
    )
    # The latest price without an ordered aggregate: keep the rows of the last instant, take the highest.
    priced = of_items.filter(~nw.col("price").is_null(), nw.col("name") != "refund").select("item_id", "t", "price")
    latest = (
        priced.with_columns(_last=nw.col("t").max().over("item_id"))
        .filter(nw.col("t") == nw.col("_last"))
        .group_by("item_id")
        .agg(price=nw.col("price").max())
    )
    # A pair's last order falls in a window exactly if the customer is a buyer in it: no distinct counts.
    buyers = pairs.group_by("item_id").agg(
        *(tally(nw.col("last") >= as_of - d * DAY).alias(f"buyers_{d}d") for d in BUYER_WINDOWS_DAYS),
        buyers=nw.len(),
        repeaters=tally(nw.col("orders") > 1),
        last=nw.col("last").max(),
        repeat_gap_days=nw.when(nw.col("orders") > 1)
        .then((nw.col("last") - nw.col("first")).cast(nw.Float64) / ((nw.col("orders") - 1) * DAY))
        .median(),
    )
    start, end = (as_of - d * DAY for d in LAST_YEAR_DAYS)
    sold = (
        lines.join(orders.select("customer_id", "order", nw.col("items")), on=["customer_id", "order"], how="inner")
        .group_by("item_id")
        .agg(
            n_lines=nw.len(),
            units=total(nw.col("quantity")),
            value=total(nw.col("value")),
            items_beside=nw.col("items").sum(),
        )
    )
    season = (
        lines.filter(nw.col("t") >= start, nw.col("t") < end)
        .group_by("item_id")
        .agg(buyers_last_year=nw.col("customer_id").n_unique())
    )
    returned = refunds.group_by("item_id").agg(returned=total(nw.col("quantity")))
    table = activity
    for other in (latest, buyers, sold, season, returned):
        table = table.join(other, on="item_id", how="left")
    counts = (*(f"buyers_{d}d" for d in BUYER_WINDOWS_DAYS), "buyers", "buyers_last_year", "repeaters")
    table = table.with_columns(
        *(nw.col(c).fill_null(0) for c in counts),
        nw.col("units").fill_null(0.0),
        age_days=days_before(as_of, nw.col("first")),
        sold_last_days=days_before(as_of, nw.col("last")),
        price_mean=nw.when(nw.col("units") > 0).then(nw.col("value") / nw.col("units")),
    ).with_columns(
        trend=(nw.col("buyers_7d") + 1) / (nw.col("buyers_28d") / 4 + 1),
        trend_90d=(nw.col("buyers_28d") + 1) / (nw.col("buyers_90d") * (28 / 90) + 1),
        # Smoothed towards rates usual in online shops: one cart in 20 views, one sale in 50.
        cart_rate=nw.when(nw.col("views") > 0).then((nw.col("carts_28d") + 1) / (nw.col("views_28d") + 20)),
        buy_rate=nw.when(nw.col("views") > 0).then((nw.col("sales_28d") + 1) / (nw.col("views_28d") + 50)),
        price_change=nw.when(nw.col("price_mean") > 0).then(nw.col("price") / nw.col("price_mean")),
        repeat_share=(nw.col("repeaters") + 1) / (nw.col("buyers") + 10),
        quantity_per_order=nw.col("units") / nw.col("n_lines"),
        basket_items=nw.col("items_beside") / nw.col("n_lines"),
        refund_share=nw.col("returned").fill_null(0.0) / (nw.col("units") + 10),
    )
    return select(table, ["item_id"], COLUMNS)
