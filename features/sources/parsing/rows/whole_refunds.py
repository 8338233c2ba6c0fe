"""Refunds of whole orders: a refund that names its order but no products takes back what that order's purchase held.

GA4 and Segment allow it. The purchase may lie anywhere in the input, so such refunds are held back until the rest is
read; then the purchases they need are looked for in a second pass. An input without such refunds is read once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

from features.event_log.schema import ROW

ITEM_COLUMNS = ("item_id", "quantity", "price", "currency")
Purchases = Callable[
    [pl.Series], Iterable[pl.DataFrame]
]  # order_ids → rows, events × items, among them their purchases


@dataclass(frozen=True)
class _Held:
    rows: pl.DataFrame
    lines: pl.DataFrame
    source: str


@dataclass
class WholeRefunds:
    """Rows held back; `take` them batch by batch, then `resolve` them."""

    held: list[_Held] = field(default_factory=list)
    found: int = 0  # refunds whose order was in the input
    lost: int = 0

    def take(self, rows: pl.DataFrame, lines: pl.DataFrame, source: str) -> pl.DataFrame:
        """Hold back the refunds of whole orders in `rows`, events × items of `lines`; return the other rows."""
        whole = is_whole_refund(rows)
        if not whole.any():
            return rows
        held = rows.filter(whole)
        self.held.append(_Held(held, lines.join(held.select(ROW), on=ROW, how="semi", maintain_order="left"), source))
        return rows.filter(~whole)

    def resolve(self, purchases: Purchases) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, str]]:
        """Yield (rows, lines, source) of what was held back; a refund has a row for each item of its order.

        One whose order is not found keeps its row without an item.
        """
        if not self.held:
            return
        wanted = pl.concat([h.rows["order_id"] for h in self.held]).unique()
        parts = [select_purchases(rows, wanted) for rows in purchases(wanted)]
        orders = _first_events(pl.concat(parts)) if parts else None
        for part in self.held:
            rows = part.rows if orders is None else fill_items(part.rows, orders)
            lines = rows.filter(pl.col("item_id").is_not_null())[ROW].n_unique()
            self.found += lines
            self.lost += part.rows.height - lines
            yield rows, part.lines, part.source

    def notes(self) -> tuple[str, ...]:
        """What became of them, for the person who runs the command."""
        notes = []
        if self.found:
            notes.append(
                "1 refund or cancellation names an order but no products: it takes back the whole order"
                if self.found == 1
                else f"{self.found:,} refunds or cancellations name an order but no products: they take back the "
                "whole order"
            )
        if self.lost:
            rest = "is in this input: rejected as missing_item_id; ingest them together with the purchases"
            notes.append(
                f"1 refund or cancellation names no products, and no purchase of its order {rest}"
                if self.lost == 1
                else f"{self.lost:,} refunds or cancellations name no products, and no purchase of their order {rest}"
            )
        return tuple(notes)


def resolve_within(rows: pl.DataFrame) -> pl.DataFrame:
    """Give refunds of whole orders in `rows` the items of their purchases, where these are in `rows` too."""
    whole = is_whole_refund(rows)
    if not whole.any():
        return rows
    refunds = rows.filter(whole)
    orders = _first_events(select_purchases(rows, refunds["order_id"].unique()))
    return pl.concat([rows.filter(~whole), fill_items(refunds, orders)]).sort(ROW, maintain_order=True)


def is_whole_refund(rows: pl.DataFrame) -> pl.Series:
    """Whether each row is a refund of an order without an item."""
    whole = (pl.col("name") == "refund") & pl.col("item_id").is_null() & pl.col("order_id").is_not_null()
    return rows.select(whole.fill_null(False).alias("whole")).to_series()


def select_purchases(rows: pl.DataFrame, order_ids: pl.Series) -> pl.DataFrame:
    """Select the lines of purchases with one of `order_ids`."""
    sold = (pl.col("name") == "purchase") & pl.col("order_id").is_in(order_ids.implode())
    usable = pl.col("item_id").is_not_null() & (pl.col("quantity") > 0) & (pl.col("price") >= 0)
    return rows.filter(sold & usable).select("order_id", "timestamp", "event_id", *ITEM_COLUMNS)


def fill_items(refunds: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """Give each of `refunds` the items of its order, one row each; `orders` has order_id and the `ITEM_COLUMNS`."""
    filled = refunds.drop(ITEM_COLUMNS).join(orders, on="order_id", how="left", maintain_order="left")
    return filled.select(refunds.columns)


def _first_events(purchases: pl.DataFrame) -> pl.DataFrame:
    """Of purchases of one order, sent again by a reload of the page, the lines of the earliest, one row per item."""
    earliest = purchases.sort("timestamp", "event_id").unique("order_id", keep="first", maintain_order=True)
    first = purchases.join(earliest.select("order_id", "event_id"), on=["order_id", "event_id"], how="semi")
    first = first.sort("order_id", "item_id", "price", "quantity")
    value = (pl.col("price") * pl.col("quantity")).sum() / pl.col("quantity").sum()
    return first.group_by("order_id", "item_id", maintain_order=True).agg(
        pl.col("quantity").sum(),
        pl.when(pl.col("price").min() == pl.col("price").max()).then(pl.col("price").first()).otherwise(value),
        pl.col("currency").first(),
    )
