"""Behaviour of customers: event counts, sessions, baskets and gaps between orders, as of one instant."""

import narwhals as nw

from features.common.clock import DAY, HOUR
from features.tables.columns import Column, describe_window, select
from features.tables.engine import Lazy, count_where, days_before, exact_sum, from_fixed, ratio, to_fixed, within

WINDOWS_DAYS = (1, 3, 7, 30, 90)

# Kind → the event it counts, and a description. Orders are counted once, not per item.
KINDS = {
    "views": ("view_item", "items viewed"),
    "shown": ("view_item_list", "items shown in a list"),
    "selects": ("select_item", "items clicked in a list"),
    "searches": ("search", "searches"),
    "wishes": ("add_to_wishlist", "items put on the wish list"),
    "carts": ("add_to_cart", "items put in the cart"),
    "removals": ("remove_from_cart", "items taken out of the cart"),
    "cart_views": ("view_cart", "looks at the cart"),
    "checkouts": ("begin_checkout", "items or carts taken to the checkout"),
    "refunds": ("refund", "items given back"),
    "logins": ("login", "logins"),
}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_PARTS = ("night", "morning", "afternoon", "evening")  # six hours each from midnight UTC

COLUMNS = (
    *(
        Column(f"{kind}_{d}d", "events", f"{words} in {describe_window(d)}", f"{d} days")
        for kind, (_, words) in KINDS.items()
        for d in WINDOWS_DAYS
    ),
    *(Column(f"orders_{d}d", "orders", f"orders in {describe_window(d)}", f"{d} days") for d in WINDOWS_DAYS),
    *(Column(f"last_{kind}_days", "days", f"since the last: {words}") for kind, (_, words) in KINDS.items()),
    Column("active_days_ago", "days", "since the last event of any kind"),
    Column("known_days", "days", "since the first event of any kind"),
    Column("trend_7d", "ratio", "events in the last 7 days against 7/30 of the last 30, smoothed by one", "30 days"),
    Column("trend_30d", "ratio", "events in the last 30 days against 30/90 of the last 90, smoothed", "90 days"),
    Column("sessions", "sessions", "distinct sessions"),
    Column("sessions_30d", "sessions", "sessions begun in the last 30 days", "30 days"),
    Column("session_seconds", "seconds", "mean time from the first to the last event of a session"),
    Column("session_events", "events", "mean events a session"),
    Column("session_views", "events", "mean items viewed a session"),
    Column("dwell_seconds", "seconds", "mean time from one event of a session to the next"),
    Column("bounce_share", "0-1", "share of sessions with a single event"),
    Column("view_to_cart", "0-1", "carts / views, smoothed by one in 20"),
    Column("cart_to_order", "0-1", "order lines / carts, smoothed by one in 3"),
    Column("view_to_order", "0-1", "order lines / views, smoothed by one in 50"),
    Column("cart_abandonment", "0-1", "share of sessions with a cart that end without an order; null without such"),
    Column("searches_per_session", "events", "mean searches a session"),
    *(Column(f"{part}_share", "0-1", f"share of events in the {part} (UTC, six hours)") for part in DAY_PARTS),
    *(Column(f"{day}_share", "0-1", f"share of events on a {day.capitalize()} (UTC)") for day in WEEKDAYS),
    Column("basket_items", "items", "mean distinct items an order"),
    Column("basket_quantity", "units", "mean units an order"),
    Column("basket_value", "currency", "mean value of an order, before refunds"),
    Column("price_paid", "currency", "mean price of a unit bought"),
    Column("distinct_items", "items", "different items ever bought"),
    Column("repeat_share", "0-1", "share of order lines that had been bought before"),
    Column("last_gap_days", "days", "between the last two orders; null with fewer than two"),
    Column("order_gap_days", "days", "mean gap between orders; null with fewer than two"),
    Column("order_gap_spread", "ratio", "deviation / mean of the gaps: 0 is clockwork; null with fewer than three"),
    Column("gap_ratio", "ratio", "recency / order_gap_days: above 1 is overdue"),
    Column("refund_share", "0-1", "value refunded / value bought"),
    Column("discount_share", "0-1", "share of units bought more than 5% under the item's usual price"),
    Column("discount_depth", "0-1", "mean discount on the item's usual price, over units bought"),
)  # fmt: skip


def build_behaviour(
    events: Lazy, sessions: Lazy, lines: Lazy, orders: Lazy, refunds: Lazy, prices: Lazy, as_of: int
) -> Lazy:
    """Build one row per customer with any event before `as_of`: `COLUMNS`. `prices` has item_id, usual_price."""
    table = _activity(events, as_of)
    for part in (
        _kinds(events, as_of),
        _visits(sessions, as_of),
        _baskets(lines),
        _ordering(orders, as_of),
        refunds.group_by("customer_id").agg(returned=exact_sum(nw.col("value"))),
        _discounts(lines, prices),
    ):
        table = table.join(part, on="customer_id", how="left")
    counts = [f"orders_{d}d" for d in WINDOWS_DAYS]
    return select(
        table.with_columns(
            *(nw.col(c).fill_null(0) for c in (*counts, "n_lines", "distinct_items", "sessions", "sessions_30d")),
        ).with_columns(
            active_days_ago=days_before(as_of, nw.col("last_seen")),
            known_days=days_before(as_of, nw.col("first_seen")),
            trend_7d=(nw.col("events_7d") + 1) / (nw.col("events_30d") * (7 / 30) + 1),
            trend_30d=(nw.col("events_30d") + 1) / (nw.col("events_90d") / 3 + 1),
            view_to_cart=(nw.col("carts") + 1) / (nw.col("views") + 20),
            cart_to_order=(nw.col("n_lines") + 1) / (nw.col("carts") + 3),
            view_to_order=(nw.col("n_lines") + 1) / (nw.col("views") + 50),
            refund_share=ratio(nw.col("returned").fill_null(0.0), nw.col("value")),
        ),
        ["customer_id"],
        COLUMNS,
    )  # fmt: skip


def _activity(events: Lazy, as_of: int) -> Lazy:
    """First and last event, and how they spread over the day and the week."""
    known = events.filter(~nw.col("customer_id").is_null())
    marked = known.with_columns(
        _part=nw.col("t") % DAY // (6 * HOUR),
        _weekday=(nw.col("t") // DAY + 3) % 7,  # the epoch began on a Thursday
    )
    parts = [count_where(nw.col("_part") == n).alias(f"{part}_share") for n, part in enumerate(DAY_PARTS)]
    days = [count_where(nw.col("_weekday") == n).alias(f"{day}_share") for n, day in enumerate(WEEKDAYS)]
    counts = marked.group_by("customer_id").agg(
        *parts, *days, n_events=nw.len(), last_seen=nw.col("t").max(), first_seen=nw.col("t").min()
    )
    shares = [f"{name}_share" for name in (*DAY_PARTS, *WEEKDAYS)]
    return counts.with_columns(*(ratio(nw.col(share), nw.col("n_events")).alias(share) for share in shares))


def _kinds(events: Lazy, as_of: int) -> Lazy:
    """Counts per kind and window, and the days since the last of each kind."""
    # A row per kind first, a column per kind and window then: 66 columns are sums over a table many times smaller.
    long = (
        events.filter(~nw.col("customer_id").is_null())
        .group_by("customer_id", "name")
        .agg(
            *(count_where(within(as_of, d)).alias(f"{d}d") for d in WINDOWS_DAYS), ever=nw.len(), last=nw.col("t").max()
        )
    )

    def of(name: str, column: str) -> nw.Expr:
        return (nw.col(column) * (nw.col("name") == name).cast(nw.Int64)).sum()

    wide = long.group_by("customer_id").agg(
        *(of(name, f"{d}d").alias(f"{kind}_{d}d") for kind, (name, _) in KINDS.items() for d in WINDOWS_DAYS),
        *(nw.col(f"{d}d").sum().alias(f"events_{d}d") for d in (7, 30, 90)),
        *(
            nw.when(nw.col("name") == name).then(nw.col("last")).max().alias(f"last_{kind}_days")
            for kind, (name, _) in KINDS.items()
        ),
        views=of("view_item", "ever"),
        carts=of("add_to_cart", "ever"),
    )
    return wide.with_columns(
        *(days_before(as_of, nw.col(f"last_{kind}_days")).alias(f"last_{kind}_days") for kind in KINDS)
    )


def _visits(sessions: Lazy, as_of: int) -> Lazy:
    carted, bought = nw.col("carts") > 0, nw.col("sales") > 0
    sums = sessions.group_by("customer_id").agg(
        sessions=nw.len(),
        sessions_30d=count_where(nw.col("start") >= as_of - 30 * DAY),
        seconds=exact_sum(nw.col("seconds")),
        n=nw.col("events").sum(),
        session_views=nw.col("views").sum(),
        bounces=count_where(nw.col("events") == 1),
        carted=count_where(carted),
        abandoned=count_where(carted & ~bought),
        searched=nw.col("searches").sum(),
    )
    visits = nw.col("sessions")
    return sums.select(
        "customer_id",
        "sessions",
        "sessions_30d",
        session_seconds=ratio(nw.col("seconds"), visits),
        session_events=ratio(nw.col("n"), visits),
        session_views=ratio(nw.col("session_views"), visits),
        dwell_seconds=ratio(nw.col("seconds"), nw.col("n") - visits),
        bounce_share=ratio(nw.col("bounces"), visits),
        cart_abandonment=ratio(nw.col("abandoned"), nw.col("carted")),
        searches_per_session=ratio(nw.col("searched"), visits),
    )


def _baskets(lines: Lazy) -> Lazy:
    return (
        lines.group_by("customer_id")
        .agg(
            distinct_items=nw.col("item_id").n_unique(),
            n_lines=nw.len(),
            units=exact_sum(nw.col("quantity")),
            value=exact_sum(nw.col("value")),
        )
        .with_columns(
            price_paid=ratio(nw.col("value"), nw.col("units")),
            repeat_share=1 - ratio(nw.col("distinct_items"), nw.col("n_lines")),
        )
    )


def _ordering(orders: Lazy, as_of: int) -> Lazy:
    gaps = orders.with_columns(
        gap=(nw.col("t") - nw.col("t").shift(1).over("customer_id", order_by=["t", "order"])).cast(nw.Float64) / DAY
    )
    sums = gaps.group_by("customer_id").agg(
        *(count_where(within(as_of, d)).alias(f"orders_{d}d") for d in WINDOWS_DAYS),
        n=nw.len(),
        first=nw.col("t").min(),
        last=nw.col("t").max(),
        items=nw.col("items").sum(),
        quantity=exact_sum(nw.col("quantity")),
        worth=exact_sum(nw.col("value")),
        squares=to_fixed(nw.col("gap") * nw.col("gap")).sum(),
        last_gap_days=nw.when(nw.col("back") == 0).then(nw.col("gap")).max(),
    )
    n = nw.col("n")
    return sums.with_columns(
        basket_items=ratio(nw.col("items"), n),
        basket_quantity=ratio(nw.col("quantity"), n),
        basket_value=ratio(nw.col("worth"), n),
        order_gap_days=nw.when(n > 1).then((nw.col("last") - nw.col("first")).cast(nw.Float64) / ((n - 1) * DAY)),
    ).select(
        "customer_id",
        *(f"orders_{d}d" for d in WINDOWS_DAYS),
        "basket_items",
        "basket_quantity",
        "basket_value",
        "last_gap_days",
        "order_gap_days",
        order_gap_spread=nw.when(n > 2, nw.col("order_gap_days") > 0).then(
            _spread(from_fixed(nw.col("squares")) / (n - 1), nw.col("order_gap_days"))
        ),
        gap_ratio=ratio(days_before(as_of, nw.col("last")), nw.col("order_gap_days")),
    )


def _spread(mean_square: nw.Expr, mean: nw.Expr) -> nw.Expr:
    variance = mean_square - mean * mean
    return nw.when(variance > 0).then(variance).otherwise(0.0).sqrt() / mean


def _discounts(lines: Lazy, prices: Lazy) -> Lazy:
    priced = (
        lines.join(prices, on="item_id", how="inner")
        .filter(nw.col("quantity") > 0, nw.col("usual_price") > 0)
        .with_columns(_off=1 - nw.col("value") / (nw.col("quantity") * nw.col("usual_price")))
    )
    off = nw.when(nw.col("_off") > 0).then(nw.col("_off")).otherwise(0.0)
    cheap = (nw.col("_off") > 0.05).cast(nw.Float64)
    sums = priced.group_by("customer_id").agg(
        units_priced=exact_sum(nw.col("quantity")),
        units_cheap=exact_sum(nw.col("quantity") * cheap),
        saved=exact_sum(nw.col("quantity") * off),
    )
    return sums.select(
        "customer_id",
        discount_share=ratio(nw.col("units_cheap"), nw.col("units_priced")),
        discount_depth=ratio(nw.col("saved"), nw.col("units_priced")),
    )
