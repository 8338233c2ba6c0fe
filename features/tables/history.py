"""Customer × item histories: counts, decayed counts and times of each pair's interactions, as of one instant.

The long table becomes a CSR matrix over the snapshot's customers and items: `Histories`.
"""

from dataclasses import dataclass

import narwhals as nw
import numpy as np

from features.common.arrays import Float32Array, Int32Array, Int64Array
from features.tables.columns import Column, names, select
from features.tables.engine import Lazy, days_before, exact_sum, from_fixed, to_fixed

HALF_LIFE_DAYS = 90.0
BASKET_DECAY = 0.7

# Weight of an event as evidence of preference, relative to a purchase.
TYPE_WEIGHT = {"view_item": 0.1, "add_to_cart": 0.4, "purchase": 1.0}
TOUCHES = {"views": "view_item", "carts": "add_to_cart", "sales": "purchase"}

COLUMNS = (
    Column("orders", "orders", "orders with the item"),
    Column("quantity", "units", "units bought, less units given back"),
    Column("bought_decayed", "orders", f"orders with the item, halved every {HALF_LIFE_DAYS:g} days"),
    Column("bought_by_basket", "orders", f"orders with the item, × {BASKET_DECAY} for each order since"),
    Column("bought_first_days", "days", "since the item was first bought"),
    Column("bought_last_days", "days", "since the item was last bought"),
    Column("baskets_back", "orders", "orders since the item was last bought; 0 = in the latest"),
    Column("views_decayed", "events", f"views of the item, halved every {HALF_LIFE_DAYS:g} days"),
    Column("viewed_last_days", "days", "since the item was last viewed"),
    Column("carts_decayed", "events", f"times put in the cart, halved every {HALF_LIFE_DAYS:g} days"),
)
COLUMN = {name: i for i, name in enumerate(names(COLUMNS))}


def _decayed(as_of: int, t: nw.Expr, half_life_days: float) -> nw.Expr:
    return (days_before(as_of, t) * (-np.log(2.0) / half_life_days)).exp()


def aggregate_purchases(lines: Lazy, orders: Lazy, as_of: int) -> Lazy:
    """Aggregate purchases to one row per customer × item: counts, decayed counts, first and last time."""
    purchases = lines.select("customer_id", "order", "item_id", "quantity").join(
        orders.select("customer_id", "order", "t", "back"), on=["customer_id", "order"], how="inner"
    )
    weights = purchases.with_columns(
        _time=to_fixed(_decayed(as_of, nw.col("t"), HALF_LIFE_DAYS)),
        _basket=to_fixed((nw.col("back").cast(nw.Float64) * np.log(BASKET_DECAY)).exp()),
    )
    return weights.group_by("customer_id", "item_id").agg(
        orders=nw.len(),
        units=exact_sum(nw.col("quantity")),
        bought_decayed=from_fixed(nw.col("_time").sum()),
        bought_by_basket=from_fixed(nw.col("_basket").sum()),
        first=nw.col("t").min(),
        last=nw.col("t").max(),
        baskets_back=nw.col("back").min(),
    )


def aggregate_touches(events: Lazy, as_of: int) -> Lazy:
    """Aggregate views, carts and purchases to one row per customer × item.

    Decayed counts of each (in the units of `to_fixed`), last view, and `touches`, the number of events.
    """
    interactions = events.filter(
        ~nw.col("customer_id").is_null(), ~nw.col("item_id").is_null(), nw.col("name").is_in([*TYPE_WEIGHT])
    ).with_columns(_weight=to_fixed(_decayed(as_of, nw.col("t"), HALF_LIFE_DAYS)))
    decayed = {
        kind: (nw.col("_weight") * (nw.col("name") == name).cast(nw.Int64)).sum() for kind, name in TOUCHES.items()
    }
    return interactions.group_by("customer_id", "item_id").agg(
        **decayed,
        viewed=nw.when(nw.col("name") == "view_item").then(nw.col("t")).max(),
        touches=nw.len(),
    )


def build_history(touches: Lazy, purchases: Lazy, refunds: Lazy, as_of: int) -> Lazy:
    """Build one row per customer × item bought, viewed or carted: `COLUMNS`."""
    returned = refunds.group_by("customer_id", "item_id").agg(returned=exact_sum(nw.col("quantity")))
    keys = ["customer_id", "item_id"]
    table = (
        touches.join(purchases, on=keys, how="left")
        .join(returned, on=keys, how="left")
        .with_columns(
            *(nw.col(c).fill_null(0) for c in ("orders", "bought_decayed", "bought_by_basket")),
            quantity=nw.col("units").fill_null(0.0) - nw.col("returned").fill_null(0.0),
            bought_first_days=days_before(as_of, nw.col("first")),
            bought_last_days=days_before(as_of, nw.col("last")),
            views_decayed=from_fixed(nw.col("views")),
            viewed_last_days=days_before(as_of, nw.col("viewed")),
            carts_decayed=from_fixed(nw.col("carts")),
        )
    )
    return select(table, keys, COLUMNS)


def build_anonymous(events: Lazy, as_of: int) -> Lazy:
    """Build one row per client × item of events without a customer: weight = sum of `TYPE_WEIGHT`, decayed."""
    weights = nw.lit(0.0)
    for name, weight in TYPE_WEIGHT.items():
        weights = nw.when(nw.col("name") == name).then(nw.lit(weight)).otherwise(weights)
    return (
        events.filter(
            nw.col("customer_id").is_null(),
            ~nw.col("item_id").is_null(),
            nw.col("name").is_in([*TYPE_WEIGHT]),
        )
        .group_by("client_id", "item_id")
        .agg(weight=exact_sum(weights * _decayed(as_of, nw.col("t"), HALF_LIFE_DAYS)).cast(nw.Float32))
    )


@dataclass(frozen=True)
class Histories:
    """Rows are the snapshot's customers, columns its items, both in the snapshot's order.

    `indptr` int64[customers + 1], `items` int32[pairs] rising within a row, `values`
    float32[pairs × len(COLUMNS)], NaN where a value is not defined.
    """

    indptr: Int64Array
    items: Int32Array
    values: Float32Array

    @classmethod
    def build(cls, rows: Int64Array, items: Int64Array, values: Float32Array, customers: int) -> "Histories":
        """Build from one entry per pair, sorted by row, then item."""
        indptr = np.zeros(customers + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=customers), out=indptr[1:])
        return cls(indptr, items.astype(np.int32), np.ascontiguousarray(values, dtype=np.float32))

    def column(self, name: str) -> Float32Array:
        """float32[pairs]: one column of `values`."""
        values: Float32Array = self.values[:, COLUMN[name]]
        return values

    def gather(self, customers: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Gather all pairs of some customers: (query int64[n], position int64[n]), query i being customers[i].

        A customer of -1 is unknown and has none.
        """
        known = customers >= 0
        row = np.where(known, customers, 0)
        sizes = self.indptr[row + known] - self.indptr[row]
        return np.arange(len(customers)).repeat(sizes), ranges(self.indptr[row], sizes)


def ranges(start: Int64Array | Int32Array, sizes: Int64Array | Int32Array) -> Int64Array:
    """Concatenate ranges: start[0], start[0] + 1, …, `sizes[0]` of them, and so on for each."""
    out: Int64Array = (start - (sizes.cumsum() - sizes)).repeat(sizes)
    out += np.arange(len(out))
    return out
