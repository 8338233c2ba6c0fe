"""What a customer does: visits, baskets, habits, as of one instant."""

import narwhals as nw

from features.clock import DAY
from features.columns import Column, select
from features.engine import Lazy, days_before, tally, total

WINDOWS_DAYS = (7, 28, 90)

COLUMNS = (
    *(Column(f"views_{d}d", "events", f"items viewed in the last {d} days") for d in WINDOWS_DAYS),
    *(Column(f"carts_{d}d", "events", f"items put in the cart in the last {d} days") for d in WINDOWS_DAYS),
    *(Column(f"orders_{d}d", "orders", f"orders in the last {d} days") for d in WINDOWS_DAYS),
    Column("sessions", "sessions", "distinct sessions"),
    Column("active_days_ago", "days", "since the last event of any kind"),
    Column("known_days", "days", "since the first event of any kind"),
    Column("basket_items", "items", "mean distinct items an order"),
    Column("basket_quantity", "units", "mean units an order"),
    Column("price_paid", "currency", "mean price of a unit bought"),
    Column("distinct_items", "items", "different items ever bought"),
    Column("repeat_share", "0-1", "share of order lines that had been bought before"),
    Column("order_gap_days", "days", "mean gap between orders; null with fewer than two"),
    Column("gap_ratio", "ratio", "recency / order_gap_days: above 1 is overdue"),
    Column("refund_share", "0-1", "value refunded / value bought"),
)


def behaviour(events: Lazy, lines: Lazy, orders: Lazy, refunds: Lazy, as_of: int) -> Lazy:
    """One row per customer with any event before `as_of`: `COLUMNS`."""
    seen = events.filter(~nw.col("customer_id").is_null())
    activity = seen.group_by("customer_id").agg(
        *(
            tally((nw.col("name") == name) & (nw.col("t") >= as_of - d * DAY)).alias(f"{short}_{d}d")
            for short, name in (("views", "view_item"), ("carts", "add_to_cart"))
            for d in WINDOWS_DAYS
        ),
        sessions=nw.col("session_id").n_unique() - nw.col("session_id").is_null().any().cast(nw.Int64),
        last_seen=nw.col("t").max(),
        first_seen=nw.col("t").min(),
    )
    bought = lines.group_by("customer_id").agg(
        distinct_items=nw.col("item_id").n_unique(),
        n_lines=nw.len(),
        units=total(nw.col("quantity")),
        value=total(nw.col("value")),
    )
    ordered = orders.group_by("customer_id").agg(
        *(tally(nw.col("t") >= as_of - d * DAY).alias(f"orders_{d}d") for d in WINDOWS_DAYS),
        n_orders=nw.len(),
        first=nw.col("t").min(),
        last=nw.col("t").max(),
    )
    returned = refunds.group_by("customer_id").agg(returned=total(nw.col("value")))
    table = (
        activity.join(bought, on="customer_id", how="left")
        .join(ordered, on="customer_id", how="left")
        .join(returned, on="customer_id", how="left")
        .with_columns(
            *(nw.col(f"orders_{d}d").fill_null(0) for d in WINDOWS_DAYS),
            nw.col("distinct_items").fill_null(0),
            active_days_ago=days_before(as_of, nw.col("last_seen")),
            known_days=days_before(as_of, nw.col("first_seen")),
            basket_items=nw.col("n_lines") / nw.col("n_orders"),
            basket_quantity=nw.col("units") / nw.col("n_orders"),
            price_paid=nw.col("value") / nw.col("units"),
            repeat_share=1 - nw.col("distinct_items") / nw.col("n_lines"),
            order_gap_days=nw.when(nw.col("n_orders") > 1).then(
                (nw.col("last") - nw.col("first")) / ((nw.col("n_orders") - 1) * DAY)
            ),
            refund_share=nw.when(nw.col("value") > 0).then(nw.col("returned").fill_null(0.0) / nw.col("value")),
        )
        .with_columns(
            gap_ratio=nw.when(nw.col("order_gap_days") > 0).then(
                days_before(as_of, nw.col("last")) / nw.col("order_gap_days")
            )
        )
    )
    return select(table, ["customer_id"], COLUMNS)
