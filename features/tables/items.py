"""Items: popularity over windows, trend, age, price and repeat purchases of each item, as of one instant.

A buyer is a customer, or a client that buys without an account.
"""

import narwhals as nw
import polars as pl

from features.common.clock import DAY, moment
from features.tables.columns import Column, Field, describe_window, names, select
from features.tables.engine import Lazy, count_where, days_before, exact_sum, ratio, within

WINDOWS_DAYS = (1, 3, 7, 28)
BUYER_WINDOWS_DAYS = (*WINDOWS_DAYS, 90)
LAST_YEAR_DAYS = (364, 336)  # whole weeks back, so that weekdays match
PRICE_TIERS = 5
ABSURD = 20.0  # times the usual price, or this part of it: no price that an item has from one day to the next

COLUMNS = (
    *(
        Column(f"buyers_{d}d", "customers", f"distinct buyers in {describe_window(d)}", f"{d} days")
        for d in BUYER_WINDOWS_DAYS
    ),
    Column("buyers", "customers", "distinct buyers ever"),
    Column("buyers_last_year", "customers", "distinct buyers in the four weeks from 364 days ago", "364-336 days ago"),
    Column("trend", "ratio", "buyers in the last 7 days against a quarter of the last 28, smoothed by one", "28 days"),
    Column(
        "trend_90d", "ratio", "buyers in the last 28 days against a third of the last 90, smoothed by one", "90 days"
    ),
    *(Column(f"views_{d}d", "events", f"views in {describe_window(d)}", f"{d} days") for d in WINDOWS_DAYS),
    *(
        Column(f"carts_{d}d", "events", f"times put in a cart in {describe_window(d)}", f"{d} days")
        for d in WINDOWS_DAYS
    ),
    Column(
        "view_trend", "ratio", "views in the last 7 days against a quarter of the last 28, smoothed by one", "28 days"
    ),
    Column(
        "click_rate",
        "0-1",
        "clicks / times shown in a list in the last 28 days, smoothed; null if never shown",
        "28 days",
    ),
    Column("cart_rate", "0-1", "carts / views in the last 28 days, smoothed; null without any view", "28 days"),
    Column(
        "cart_buy_rate", "0-1", "order lines / carts in the last 28 days, smoothed; null without any cart", "28 days"
    ),
    Column("buy_rate", "0-1", "order lines / views in the last 28 days, smoothed; null without any view", "28 days"),
    Column("removal_share", "0-1", "times taken out of a cart / put in one, smoothed; null without any cart"),
    Column("age_days", "days", "since the item's first event"),
    Column("sold_last_days", "days", "since it was last bought"),
    Column("seen_last_days", "days", "since its last event: long for what is out of stock"),
    Column("active_days_28d", "days", "days of the last 28 with an event: few for what is out of stock", "28 days"),
    Column("price", "currency", "price of the latest event that carries one"),
    Column("price_mean", "currency", "mean price of a unit sold"),
    Column("price_change", "ratio", "price / price_mean"),
    Column("usual_price", "currency", "median over days of the day's highest price"),
    Column("discount", "0-1", "how far the price is under the usual price; 0 if it is not"),
    Column("price_percentile", "0-1", "mid-rank of the price among the items of its category"),
    Column("price_tier", "1-5", "fifth of its category the price falls in, 5 = dearest"),
    Column("repeat_share", "0-1", "share of its buyers with a second order of it, smoothed"),
    Column("repeat_gap_days", "days", "median over repeat buyers of their mean gap between orders of it"),
    Column("quantity_per_order", "units", "mean units an order line"),
    Column("basket_items", "items", "mean distinct items in the orders it is in"),
    Column("refund_share", "0-1", "units given back / units sold, smoothed"),
)

FIELDS = (
    Field("title", "string", "of the catalog"),
    Field("category", "string", "path in the catalog, levels separated by /"),
    Field("brand", "string", "of the catalog"),
    Field("available", "bool", "whether the catalog has it on sale now: it knows no past"),
    Field("list_price", "float", "of the catalog"),
    Field("currency", "string", "of the catalog's price"),
    Field("attributes", "string", "of the catalog, a JSON object"),
)


def build_usual_prices(events: Lazy) -> Lazy:
    """Build one row per item that ever had a price: usual_price, and priced (µs), the last time it had one.

    An absurd one, which anybody can make up with a page's events, gives way to the median of what was paid.
    """
    daily = (
        _priced(events)
        .with_columns(_day=nw.col("t") // DAY)
        .group_by("item_id", "_day")
        .agg(priced=nw.col("t").max(), high=nw.col("price").max())
    )
    usual = daily.group_by("item_id").agg(_usual=nw.col("high").median(), priced=nw.col("priced").max())
    bought = _priced(events).filter(nw.col("name") == "purchase").group_by("item_id")
    usual = usual.join(bought.agg(_paid=nw.col("price").median()), on="item_id", how="left")
    absurd = _is_absurd(nw.col("_usual"), nw.col("_paid")).fill_null(False)
    return usual.select(
        "item_id",
        usual_price=nw.when(absurd).then(nw.col("_paid")).otherwise(nw.col("_usual")),
        priced=nw.col("priced"),
    )


def _priced(events: Lazy) -> Lazy:
    return events.filter(~nw.col("item_id").is_null(), ~nw.col("price").is_null(), nw.col("name") != "refund")


def _is_absurd(price: nw.Expr, usual: nw.Expr) -> nw.Expr:
    """True for a price that no item has whose price is as usual as that."""
    far = (price > usual * ABSURD) | ((price > 0) & (price < usual / ABSURD))
    return far & (usual > 0)


def _latest(events: Lazy, usual: Lazy) -> Lazy:
    """Add to `usual` the price of the last instant with one, of several the highest: needs no ordered aggregate.

    An absurd one is a typo or a lie of a single event, and the usual price stands for it.
    """
    last_priced = usual.select("item_id", t=nw.col("priced"))
    latest = _priced(events).select("item_id", "t", "price").join(last_priced, on=["item_id", "t"], how="inner")
    prices = usual.join(latest.group_by("item_id").agg(price=nw.col("price").max()), on="item_id", how="inner")
    absurd = _is_absurd(nw.col("price"), nw.col("usual_price"))
    return prices.with_columns(price=nw.when(absurd).then(nw.col("usual_price")).otherwise(nw.col("price")))


def build_items(
    events: Lazy, lines: Lazy, orders: Lazy, pairs: Lazy, refunds: Lazy, usual: Lazy, catalog: Lazy, as_of: int
) -> Lazy:
    """Build one row per item with any event before `as_of`: `COLUMNS`.

    `pairs` is `history.aggregate_purchases`, `usual` is `build_usual_prices`; `catalog` has item_id, category.
    """
    table = _activity(events, as_of)
    parts = (
        _ranked(_latest(events, usual), catalog),
        _buyers(pairs, as_of),
        _sold(lines, orders),
        _season(lines, as_of),
    )
    for other in (*parts, refunds.group_by("item_id").agg(returned=exact_sum(nw.col("quantity")))):
        table = table.join(other, on="item_id", how="left")
    counts = (*(f"buyers_{d}d" for d in BUYER_WINDOWS_DAYS), "buyers", "buyers_last_year", "repeaters")
    table = table.with_columns(
        *(nw.col(c).fill_null(0) for c in counts),
        nw.col("units").fill_null(0.0),
        age_days=days_before(as_of, nw.col("first")),
        seen_last_days=days_before(as_of, nw.col("seen")),
        sold_last_days=days_before(as_of, nw.col("last")),
        price_mean=ratio(nw.col("value"), nw.col("units")),
    ).with_columns(
        trend=(nw.col("buyers_7d") + 1) / (nw.col("buyers_28d") / 4 + 1),
        trend_90d=(nw.col("buyers_28d") + 1) / (nw.col("buyers_90d") * (28 / 90) + 1),
        view_trend=(nw.col("views_7d") + 1) / (nw.col("views_28d") / 4 + 1),
        # Smoothed towards rates usual in online shops: one click in 20 impressions, one cart in 20 views, one sale in
        # 3 carts and in 50 views, one removal in 10 carts.
        click_rate=_smoothed("clicks_28d", 1, "shown_28d", 20, "shown"),
        cart_rate=_smoothed("carts_28d", 1, "views_28d", 20, "views"),
        cart_buy_rate=_smoothed("sales_28d", 1, "carts_28d", 3, "carts"),
        buy_rate=_smoothed("sales_28d", 1, "views_28d", 50, "views"),
        removal_share=_smoothed("removals", 1, "carts", 10, "carts"),
        price_change=ratio(nw.col("price"), nw.col("price_mean")),
        repeat_share=(nw.col("repeaters") + 1) / (nw.col("buyers") + 10),
        quantity_per_order=nw.col("units") / nw.col("n_lines"),
        basket_items=nw.col("items_beside") / nw.col("n_lines"),
        refund_share=nw.col("returned").fill_null(0.0) / (nw.col("units") + 10),
    )
    return select(table, ["item_id"], COLUMNS)


def build_items_without_events(catalog: pl.DataFrame, item_table: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """Build rows as those of `item_table` for catalog items on sale before `as_of` that no event is about.

    Counts are zero and shares are what smoothing starts from. Only rows of a catalog with a `first_seen` count: rows
    derived from events, prices too, are of the future here, and so may be an item without `first_seen`.
    """
    defaults = {
        c.name: pl.lit(0.0) for c in COLUMNS if c.unit in ("customers", "events") or c.name == "active_days_28d"
    }
    defaults |= {name: pl.lit(1.0) for name in ("trend", "trend_90d", "view_trend")}
    defaults |= {"repeat_share": pl.lit(0.1), "refund_share": pl.lit(0.0)}
    defaults["age_days"] = (pl.lit(as_of) - pl.col("first_seen").dt.timestamp("us")) / DAY
    from_catalog = pl.col("updated_at").is_null() & (pl.col("first_seen") < moment(as_of))
    rows = catalog.filter(from_catalog).join(item_table, on="item_id", how="anti")
    values = (defaults.get(name, pl.lit(None)).cast(item_table.schema[name]).alias(name) for name in names(COLUMNS))
    return rows.select("item_id", *values)


def _smoothed(part: str, plus: int, whole: str, of: int, ever: str) -> nw.Expr:
    """(part + plus) / (whole + of), null where `ever` never happened."""
    return nw.when(nw.col(ever) > 0).then((nw.col(part) + plus) / (nw.col(whole) + of))


def _activity(events: Lazy, as_of: int) -> Lazy:
    of_items = events.filter(~nw.col("item_id").is_null())

    def count(name: str, days: int | None = None) -> nw.Expr:
        matches = nw.col("name") == name
        return count_where(matches if days is None else matches & within(as_of, days))

    ever = of_items.group_by("item_id").agg(
        views=count("view_item"),
        carts=count("add_to_cart"),
        shown=count("view_item_list"),
        removals=count("remove_from_cart"),
        first=nw.col("t").min(),
        seen=nw.col("t").max(),
    )
    recent = of_items.filter(within(as_of, 28)).with_columns(_day=(as_of - 1 - nw.col("t")) // DAY)
    counts = recent.group_by("item_id").agg(
        *(count("view_item", d).alias(f"views_{d}d") for d in WINDOWS_DAYS),
        *(count("add_to_cart", d).alias(f"carts_{d}d") for d in WINDOWS_DAYS),
        sales_28d=count("purchase"),
        clicks_28d=count("select_item"),
        shown_28d=count("view_item_list"),
        active_days_28d=nw.col("_day").n_unique(),
    )
    filled = [f"{kind}_{d}d" for kind in ("views", "carts") for d in WINDOWS_DAYS]
    filled += ["sales_28d", "clicks_28d", "shown_28d", "active_days_28d"]
    return ever.join(counts, on="item_id", how="left").with_columns(*(nw.col(c).fill_null(0) for c in filled))


def _ranked(prices: Lazy, catalog: Lazy) -> Lazy:
    """Rank prices within the category: a mid-rank by running counts, as ranks are not the same on every engine."""
    in_category = prices.join(catalog.select("item_id", "category"), on="item_id", how="left")
    categories = in_category.with_columns(category=nw.col("category").fill_null(""), _one=nw.lit(1).cast(nw.Int64))
    positions = categories.with_columns(
        _place=nw.col("_one").cum_sum().over("category", order_by=["price", "item_id"]),
        _of=nw.col("_one").sum().over("category"),
    )
    middle = nw.col("_place").min().over("category", "price") + nw.col("_place").max().over("category", "price") - 1
    ranked = positions.with_columns(price_percentile=middle.cast(nw.Float64) / (2 * nw.col("_of")))
    fifth = (nw.col("price_percentile") * PRICE_TIERS).floor() + 1
    return ranked.select(
        "item_id",
        "price",
        "usual_price",
        "price_percentile",
        price_tier=nw.when(fifth > PRICE_TIERS).then(float(PRICE_TIERS)).otherwise(fifth),
        discount=nw.when(nw.col("price") < nw.col("usual_price"))
        .then(1 - nw.col("price") / nw.col("usual_price"))
        .otherwise(0.0),
    )


def _buyers(pairs: Lazy, as_of: int) -> Lazy:
    # A pair's last order falls in a window exactly if the customer is a buyer in it: no distinct counts.
    return pairs.group_by("item_id").agg(
        *(count_where(nw.col("last") >= as_of - d * DAY).alias(f"buyers_{d}d") for d in BUYER_WINDOWS_DAYS),
        buyers=nw.len(),
        repeaters=count_where(nw.col("orders") > 1),
        last=nw.col("last").max(),
        repeat_gap_days=nw.when(nw.col("orders") > 1)
        .then((nw.col("last") - nw.col("first")).cast(nw.Float64) / ((nw.col("orders") - 1) * DAY))
        .median(),
    )


def _sold(lines: Lazy, orders: Lazy) -> Lazy:
    return (
        lines.join(orders.select("customer_id", "order", "items"), on=["customer_id", "order"], how="inner")
        .group_by("item_id")
        .agg(
            n_lines=nw.len(),
            units=exact_sum(nw.col("quantity")),
            value=exact_sum(nw.col("value")),
            items_beside=nw.col("items").sum(),
        )
    )


def _season(lines: Lazy, as_of: int) -> Lazy:
    start, end = (as_of - d * DAY for d in LAST_YEAR_DAYS)
    return (
        lines.filter(nw.col("t") >= start, nw.col("t") < end)
        .group_by("item_id")
        .agg(buyers_last_year=nw.col("customer_id").n_unique())
    )
