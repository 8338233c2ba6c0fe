"""Repeated orders: the same order line reported more than once, as by a page reload, or by a tracker and an export.

Of the purchases of a visitor with one order number and item the earliest counts, and no other within `WINDOW_DAYS`
from it. Refunds are repeats if the quantity is the same, too, and if no more pieces were bought: an order may be given
back piece by piece, so equal refunds count until they take back all that the order's purchase held by then. Rows
without an order number are orders of their own. Only what happened before an instant decides what counts as of it.

In some logs each line of an order has an event_id of its own. Rows of one order, item and instant are then several
lines, which all count. An order is such a one if it has several items at that instant and as many events as rows; an
order of one item does not show it, so the other orders of the log decide.
"""

import narwhals as nw
import polars as pl

from features.common.clock import DAY
from features.common.ids import PAGE_EVENT
from features.tables.engine import Engine, Lazy, PolarsEngine

_WORKING = ("_pieces", "_one", "_first", "_period", "_nth", "_start", "_repeated", "_bought", "_returned")
WINDOW_DAYS = 7  # as the event store, which remembers an order for as long

_LINE = ("name", "customer_id", "order", "item_id")
_ENOUGH = 1 + 1e-9  # quantities may be weights: 0.1 + 0.2 kg are no more than 0.3 kg
_TIE_BREAK = ("t", "price", "quantity", "client_id", "account", "session_id", "source", "device", "country")


def find_orders_by_line(engine: Engine, rows: Lazy) -> Lazy:
    """Find the orders whose lines have event ids of their own: order, t, by_line (true).

    `rows`: order (its number), t, event_id and item_id of purchases and refunds. What pages sent through the server has
    one event an order, and does not decide what the others are: a customer could else send what others' orders count.
    """
    orders = engine.materialize(
        rows.filter(~nw.col("event_id").str.contains(PAGE_EVENT))
        .group_by("order", "t")
        .agg(rows=nw.len(), events=nw.col("event_id").n_unique(), items=nw.col("item_id").n_unique())
    )
    each = nw.col("rows") == nw.col("events")
    several = orders.filter(nw.col("items") > 1)
    (shares,) = engine.collect([several.select(share=each.cast(nw.Float64).mean())])
    mostly = (shares["share"].item() or 0.0) > 0.5
    by_line = each if mostly else each & (nw.col("items") > 1)
    return orders.filter(by_line, nw.col("rows") > 1).select("order", "t", by_line=nw.lit(True))


def split_repeats(money: Lazy, lines: Lazy, orders_by_line: Lazy) -> tuple[Lazy, Lazy]:
    """Split `money` (`orders.add_guests`) into the rows that count and the repeats.

    Only those whose name, customer_id, order and item_id are in `lines` are compared, refunds with their purchases.
    """
    of_refunds = lines.filter(nw.col("name") == "refund").with_columns(name=nw.lit("purchase"))
    compared = nw.concat([rows.select(*_LINE) for rows in (lines, of_refunds)]).unique(subset=list(_LINE))
    several = compared.with_columns(_several=nw.lit(True))
    marked = (
        money.with_columns(name=nw.col("name").cast(nw.String))
        .join(several, on=list(_LINE), how="left")
        .with_columns(_several=nw.col("_several").fill_null(False) & nw.col("numbered"))
    )
    compared = marked.filter(nw.col("_several")).join(orders_by_line, on=["order", "t"], how="left")
    compared = mark_repeats(compared.with_columns(nw.col("by_line").fill_null(False)), _LINE, _TIE_BREAK, "by_line")
    once = compared.filter(~nw.col("repeated"))
    columns = [*marked.collect_schema().names()]
    return (
        nw.concat([marked.filter(~nw.col("_several")).select(columns), once.select(columns)]),
        compared.filter(nw.col("repeated")),
    )


def mark_repeats(rows: Lazy, line: tuple[str, ...], tie_break: tuple[str, ...], by_line: str | None = None) -> Lazy:
    """Add `repeated`, and `after` (microseconds since the first of the week), to purchases and refunds with a number.

    `line` are the columns that a line of an order has in common with its repeats, `name` among them; `tie_break` puts
    rows of one line in order, `t` first. Where the column `by_line` is true, rows of one instant do not repeat each
    other. A refund that repeats another still counts as long as the purchases among `rows` that came before it held as
    many pieces as all refunds of the line up to it.
    """
    pieces = nw.when(nw.col("name") == "refund").then(nw.col("quantity")).otherwise(nw.lit(0.0))
    key = (*line, "_pieces")
    marked = (
        rows.with_columns(_pieces=pieces, _one=nw.lit(1).cast(nw.Int64))
        .with_columns(_first=nw.col("t").min().over(*key))
        .with_columns(_period=(nw.col("t") - nw.col("_first")) // (WINDOW_DAYS * DAY))
        .with_columns(
            _nth=nw.col("_one").cum_sum().over(*key, "_period", order_by=list(tie_break)),
            _start=nw.col("t").min().over(*key, "_period"),
        )
    )
    repeated = nw.col("_nth") > 1
    if by_line is not None:
        repeated = repeated & ~(nw.col(by_line) & (nw.col("t") == nw.col("_start")))
    marked = marked.with_columns(_repeated=repeated, after=nw.col("t") - nw.col("_start"))
    bought = nw.when((nw.col("name") == "purchase") & ~nw.col("_repeated")).then(nw.col("quantity"))
    of_order = [column for column in line if column != "name"]
    by_time = ["t", "name", *tie_break[1:]]  # a purchase comes before a refund of the same instant
    marked = marked.with_columns(_bought=bought.otherwise(nw.lit(0.0))).with_columns(
        _bought=nw.col("_bought").cum_sum().over(*of_order, order_by=by_time),
        _returned=nw.col("_pieces").cum_sum().over(*of_order, order_by=by_time),
    )
    fits = (nw.col("name") == "refund") & (nw.col("_returned") <= nw.col("_bought") * nw.lit(_ENOUGH))
    marked = marked.with_columns(repeated=nw.col("_repeated") & ~fits.fill_null(False))
    return marked.drop(*_WORKING)


def drop_repeats(rows: pl.DataFrame) -> pl.DataFrame:
    """Drop the repeats from purchases and refunds in memory.

    Columns: name, customer_id, order_id, item_id, event_id, t, quantity, price, and others.
    """
    line = ("name", "customer_id", "order_id", "item_id")
    numbered = rows.with_row_index("_row").filter(pl.col("order_id").is_not_null())
    several = numbered.filter(pl.struct(line).is_duplicated().any().over(line[1:]))  # refunds with their purchases
    if several.is_empty():
        return rows
    by_line = find_orders_by_line(PolarsEngine(), nw.from_native(numbered.rename({"order_id": "order"}).lazy()))
    several = several.join(
        by_line.to_native().collect(), left_on=["order_id", "t"], right_on=["order", "t"], how="left"
    )
    lazy = nw.from_native(several.with_columns(pl.col("by_line").fill_null(False)).lazy())
    marked = mark_repeats(lazy, line, ("t", "price", "quantity", "_row"), "by_line")
    repeated = marked.filter(nw.col("repeated")).select("_row").to_native().collect()
    return rows.with_row_index("_row").join(repeated, on="_row", how="anti", maintain_order="left").drop("_row")
