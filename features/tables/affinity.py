"""Affinity: how a customer's interactions spread over categories, brands, price tiers and discount depths.

Every view, cart and order of an item counts for the item's category, brand and price tier, weighted by `TYPE_WEIGHT`
and halved every `HALF_LIFE_DAYS`; discounts count by units bought. A customer's shares within a facet add up to one.
"""

import narwhals as nw

from features.tables.columns import Column, select
from features.tables.engine import Lazy, count_where, from_fixed, ratio, to_fixed
from features.tables.history import HALF_LIFE_DAYS, TOUCHES, TYPE_WEIGHT

LEVELS = 3  # of the category path
FACETS = (*(f"category_{n}" for n in range(1, LEVELS + 1)), "brand", "price_tier", "discount")
DISCOUNTS = {"light": 0.05, "deep": 0.2, "clearance": 0.4}  # at least so much under the usual price

COLUMNS = (
    Column("categories", "categories", "different top-level categories touched"),
    Column("brands", "brands", "different brands touched"),
    Column("category_concentration", "0-1", "sum of squared shares over top-level categories: 1 is a single one"),
    Column("brand_concentration", "0-1", "sum of squared shares over brands: 1 is a single one"),
    Column("price_percentile", "0-1", "mean place of what is touched in its category's prices, 1 = dearest"),
    Column("explore_share", "0-1", "different items / views, carts and sales of items: 1 is something new each time"),
)
SHARE = Column(
    "share", "0-1", f"share of the facet's weight that falls on the value, halved every {HALF_LIFE_DAYS:g} days"
)


def weigh_touches(touches: Lazy, item_table: Lazy, catalog: Lazy) -> Lazy:
    """Build one row per customer × item touched: weight, touches, category, brand, price_tier, price_percentile.

    `touches` is `history.aggregate_touches`; `item_table` has item_id, price_tier, price_percentile; `catalog` item_id,
    category, brand.
    """
    # In tenths, which are whole numbers: engines round halves differently.
    tenths = {kind: round(10 * TYPE_WEIGHT[name]) for kind, name in TOUCHES.items()}
    weight = nw.sum_horizontal(*(nw.col(kind) * tenths[kind] for kind in TOUCHES))
    return (
        touches.select("customer_id", "item_id", "touches", weight=weight)
        .join(item_table.select("item_id", "price_tier", "price_percentile"), on="item_id", how="left")
        .join(catalog.select("item_id", "category", "brand"), on="item_id", how="left")
    )


def build_shares(table: Lazy, lines: Lazy, prices: Lazy) -> Lazy:
    """Build one row per customer × facet × value: `SHARE`.

    `table` is `weigh_touches`; `prices` has item_id, usual_price.
    """

    def sum_weights(facet: str) -> Lazy:
        with_facet = table.filter(~nw.col(facet).is_null())
        return with_facet.group_by("customer_id", facet).agg(weight=nw.col("weight").sum())

    paths = sum_weights("category")
    facets = [*(_level(paths, depth) for depth in range(1, LEVELS + 1))]
    facets.append(sum_weights("brand").select("customer_id", "weight", facet=nw.lit("brand"), value=nw.col("brand")))
    tier = nw.col("price_tier").cast(nw.Int64).cast(nw.String)
    facets.append(sum_weights("price_tier").select("customer_id", "weight", facet=nw.lit("price_tier"), value=tier))
    facets.append(_discounts(lines, prices))
    return (
        nw.concat(facets)
        .filter(nw.col("weight") > 0)
        .with_columns(_of=nw.col("weight").sum().over("customer_id", "facet"))
        .select("customer_id", "facet", "value", share=ratio(nw.col("weight"), nw.col("_of")))
    )


def _level(paths: Lazy, depth: int) -> Lazy:
    """Weights by the first `depth` components of the category path; paths that are shorter have none."""
    component = nw.col("category").str.split("/")
    deep = paths.filter(component.list.len() >= depth)
    value = nw.concat_str(*(component.list.get(n) for n in range(depth)), separator="/")
    return (
        deep.with_columns(value=value)
        .group_by("customer_id", "value")
        .agg(weight=nw.col("weight").sum())
        .select("customer_id", "weight", facet=nw.lit(f"category_{depth}"), value=nw.col("value"))
    )


def _discounts(lines: Lazy, prices: Lazy) -> Lazy:
    """Units bought by how far they were under the item's usual price."""
    discounts = (
        lines.join(prices.select("item_id", "usual_price"), on="item_id", how="inner")
        .filter(nw.col("quantity") > 0, nw.col("usual_price") > 0)
        .with_columns(_off=1 - nw.col("value") / (nw.col("quantity") * nw.col("usual_price")))
    )
    band = nw.lit("none")
    for name, low in DISCOUNTS.items():
        band = nw.when(nw.col("_off") >= low).then(nw.lit(name)).otherwise(band)
    return (
        discounts.with_columns(value=band, _units=(nw.col("quantity") * 1000).round().cast(nw.Int64))
        .group_by("customer_id", "value")
        .agg(weight=nw.col("_units").sum())
        .select("customer_id", "weight", facet=nw.lit("discount"), value=nw.col("value"))
    )


def build_affinity(table: Lazy, shares: Lazy) -> Lazy:
    """Build one row per customer with an interaction: `COLUMNS`. `table` is `weigh_touches`."""

    def concentration(facet: str) -> nw.Expr:
        return nw.when(nw.col("facet") == facet).then(nw.col("_square")).sum()

    spread = (
        shares.with_columns(_square=to_fixed(nw.col("share") * nw.col("share")))
        .group_by("customer_id")
        .agg(
            categories=count_where(nw.col("facet") == "category_1"),
            brands=count_where(nw.col("facet") == "brand"),
            of_categories=concentration("category_1"),
            of_brands=concentration("brand"),
        )
    )
    tendency = (
        table.with_columns(
            _dear=to_fixed(from_fixed(nw.col("weight")) * nw.col("price_percentile")),
            _placed=nw.when(~nw.col("price_percentile").is_null()).then(nw.col("weight")),
        )
        .group_by("customer_id")
        .agg(
            dear=nw.col("_dear").sum(), placed=nw.col("_placed").sum(), touches=nw.col("touches").sum(), items=nw.len()
        )
    )
    customers = tendency.join(spread, on="customer_id", how="left").with_columns(
        nw.col("categories").fill_null(0),
        nw.col("brands").fill_null(0),
        category_concentration=nw.when(nw.col("categories") > 0).then(from_fixed(nw.col("of_categories"))),
        brand_concentration=nw.when(nw.col("brands") > 0).then(from_fixed(nw.col("of_brands"))),
        price_percentile=ratio(nw.col("dear"), nw.col("placed")),
        explore_share=ratio(nw.col("items"), nw.col("touches")),
    )
    return select(customers, ["customer_id"], COLUMNS)
