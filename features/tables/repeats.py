"""Repeated orders: the same order line reported more than once, as by a page reload, or by a tracker and an export.

Of the purchases of a visitor with one order number and item the earliest counts, and no other within `WINDOW_DAYS`
from it. Refunds are repeats if the quantity is the same, too: an order may be given back piece by piece. Rows without
an order number are orders of their own. Whether a row counts depends on earlier rows only.
"""

import narwhals as nw
import polars as pl

from features.common.clock import DAY
from features.tables.engine import Lazy

WINDOW_DAYS = 7  # as the event store, which remembers an order for as long

_LINE = ("name", "customer_id", "order", "item_id")
_TIE_BREAK = ("t", "price", "quantity", "client_id", "account", "session_id", "source", "device", "country")


def split_repeats(money: Lazy, lines: Lazy) -> tuple[Lazy, Lazy]:
    """Split `money` (`orders.add_guests`) into the rows that count and the repeats.

    Only those whose name, customer_id, order and item_id are in `lines` (each once) are compared.
    """
    several = lines.select(*_LINE).with_columns(_several=nw.lit(True))
    marked = (
        money.with_columns(name=nw.col("name").cast(nw.String))
        .join(several, on=list(_LINE), how="left")
        .with_columns(_several=nw.col("_several").fill_null(False) & nw.col("numbered"))
    )
    compared = mark_repeats(marked.filter(nw.col("_several")), _LINE, _TIE_BREAK)
    once = compared.filter(~nw.col("repeated")).drop("repeated")
    return nw.concat([marked.filter(~nw.col("_several")), once]), compared.filter(nw.col("repeated"))


def mark_repeats(rows: Lazy, line: tuple[str, ...], tie_break: tuple[str, ...]) -> Lazy:
    """Add `repeated` to purchases and refunds with an order number.

    `line` are the columns that a line of an order has in common with its repeats, `name` among them; `tie_break` puts
    rows of one line in order, `t` first.
    """
    pieces = nw.when(nw.col("name") == "refund").then(nw.col("quantity")).otherwise(nw.lit(0.0))
    key = (*line, "_pieces")
    return (
        rows.with_columns(_pieces=pieces, _one=nw.lit(1).cast(nw.Int64))
        .with_columns(_first=nw.col("t").min().over(*key))
        .with_columns(_period=(nw.col("t") - nw.col("_first")) // (WINDOW_DAYS * DAY))
        .with_columns(_nth=nw.col("_one").cum_sum().over(*key, "_period", order_by=list(tie_break)))
        .with_columns(repeated=nw.col("_nth") > 1)
        .drop("_pieces", "_one", "_first", "_period", "_nth")
    )


def drop_repeats(purchases_and_refunds: pl.DataFrame) -> pl.DataFrame:
    """Drop the repeats from rows in memory: name, customer_id, order_id, item_id, t, quantity, price, and others."""
    line = ("name", "customer_id", "order_id", "item_id")
    rows = purchases_and_refunds.with_row_index("_row")
    several = rows.filter(pl.col("order_id").is_not_null()).filter(pl.struct(line).is_duplicated())
    if several.is_empty():
        return purchases_and_refunds
    marked = mark_repeats(nw.from_native(several.lazy()), line, ("t", "price", "quantity", "_row"))
    repeated = marked.filter(nw.col("repeated")).select("_row").to_native().collect()
    return rows.join(repeated, on="_row", how="anti", maintain_order="left").drop("_row")
