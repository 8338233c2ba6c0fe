"""Orders: purchases as order lines and orders, and refunds; RFM, behaviour, items and histories build on them."""

import narwhals as nw

from features.tables.engine import Lazy, exact_sum


def add_guests(events: Lazy) -> Lazy:
    """Select purchases and refunds; a guest's get a customer id made of the client's, and `account` is null."""
    money = events.filter(nw.col("name").is_in(["purchase", "refund"]))
    guest = nw.concat_str(nw.lit("client:"), nw.col("client_id"))
    return money.with_columns(account=nw.col("customer_id"), customer_id=nw.coalesce("customer_id", guest))


def without_guests(rows: Lazy) -> Lazy:
    """Select those of `build_lines` or `build_refunds` that are a customer's."""
    return rows.filter(~nw.col("guest"))


def build_lines(events: Lazy) -> Lazy:
    """Build one row per customer × order × item bought: customer_id, guest, order, item_id, t (first), quantity, value.

    `events` is `add_guests`. `value` is quantity × price; `rows` counts the events' rows.
    """
    return _by_line(events.filter(nw.col("name") == "purchase"))


def build_orders(order_lines: Lazy) -> Lazy:
    """Build one row per customer × order: t, value, quantity, items (distinct), back (0 = the latest order)."""
    per_order = order_lines.group_by("customer_id", "order").agg(
        t=nw.col("t").min(),
        value=exact_sum(nw.col("value")),
        quantity=exact_sum(nw.col("quantity")),
        items=nw.len(),
    )
    # Numbered by a running count: rank over an order does not exist on every engine. The order's key
    # decides between two orders of one instant, so the number does not depend on the order of rows.
    one = nw.lit(1).cast(nw.Int64)
    return (
        per_order.with_columns(_one=one)
        .with_columns(
            _nth=nw.col("_one").cum_sum().over("customer_id", order_by=["t", "order"]),
            _of=nw.col("_one").sum().over("customer_id"),
        )
        .with_columns(back=nw.col("_of") - nw.col("_nth"))
        .drop("_one", "_nth", "_of")
    )


def build_refunds(events: Lazy) -> Lazy:
    """Build one row per customer × order × item refunded: columns as `build_lines`."""
    return _by_line(events.filter(nw.col("name") == "refund"))


def _by_line(rows: Lazy) -> Lazy:
    return (
        rows.with_columns(guest=nw.col("account").is_null())
        .group_by("customer_id", "guest", "order", "item_id")
        .agg(
            t=nw.col("t").min(),
            quantity=exact_sum(nw.col("quantity")),
            value=exact_sum(nw.col("quantity") * nw.col("price")),
            rows=nw.len(),
        )
    )
