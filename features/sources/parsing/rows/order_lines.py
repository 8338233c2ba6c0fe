"""Order lines: purchase and refund rows of a table as the lines of orders, with the person and event they belong to."""

import polars as pl

from features.event_log.schema import EVENT_SCHEMA, FILE, ROW
from features.sources.parsing.cells.pii import EMAIL_CUSTOMER
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.fill_and_join import fill_from_above

SALES = ("purchase", "refund")
EMAIL = "_email"  # column beside the log's: salted hashes of addresses
AT = "_at"  # column of rows from which refunds may be derived: their place in the batch
_PERSON = ["customer_id", "client_id"]
HASHED_COLUMNS = [c for c in EVENT_SCHEMA if c not in ("event_id", "received_at")]
# What the lines of one order, or of one basket without an order id, have in common.
LINE_COLUMNS = ["name", "timestamp", "customer_id", "client_id", "session_id", "order_id"]


class PeopleAbove:
    """Gives an order's line without a customer that of a line above; lines of an order are neighbours.

    Goes through a table batch by batch: the result does not depend on their size.
    """

    def __init__(self) -> None:
        self._above: pl.DataFrame | None = None  # order and person of the last row

    def remember(self, rows: pl.DataFrame) -> None:
        """Go past `rows`, of which each has its person."""
        self._above = rows.tail(1).select("order_id", *_PERSON, *([EMAIL] if EMAIL in rows.columns else []))

    def fill(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Fill customer_id and client_id where both are null, or else the e-mail's hash; also count the rows."""
        columns = [*_PERSON, *([EMAIL] if EMAIL in rows.columns else [])]
        if rows["order_id"].null_count() == rows.height:
            self._above = None
            return rows, 0
        part = rows.select("order_id", *columns)
        above = self._above
        table = part if above is None else pl.concat([above, part], how="diagonal")
        order = table["order_id"]
        starts = order.ne_missing(order.shift(1)) | order.is_null()
        starts = starts.set(pl.arange(0, starts.len(), eager=True) == 0, True)
        filled = _gather_above(table, _PERSON, starts)
        if EMAIL in columns:
            filled = filled.hstack(_gather_above(table, [EMAIL], starts))
        self._above = pl.DataFrame([order]).hstack(filled).tail(1)
        if above is not None:
            filled = filled.slice(1)
        nobody = _is_nobody(part)
        gained = nobody & (_is_known(filled, columns) & ~_is_known(part, columns) | _is_known(filled, _PERSON))
        if not gained.any():
            return rows, 0
        return rows.with_columns(rows[c].zip_with(~nobody, filled[c]) for c in columns), int(gained.sum())


def _gather_above(table: pl.DataFrame, columns: list[str], starts: pl.Series) -> pl.DataFrame:
    """The cells of each row, or of the last row above in its group that has any."""
    index = pl.Series(range(table.height), dtype=pl.UInt32).set(~_is_known(table, columns), None)
    source = fill_from_above(index, starts)
    return pl.DataFrame([table[c].gather(source) for c in columns])


def _is_known(rows: pl.DataFrame, columns: list[str]) -> pl.Series:
    return rows.select(pl.any_horizontal(pl.col(columns).is_not_null())).to_series()


def _is_nobody(rows: pl.DataFrame) -> pl.Series:
    return rows["customer_id"].is_null() & rows["client_id"].is_null()


def is_sale(rows: pl.DataFrame) -> pl.Series:
    """Whether each row is a purchase or a refund."""
    return rows["name"].cast(pl.String).is_in(SALES).fill_null(False)


def name_guests(rows: pl.DataFrame, sales: pl.Series) -> tuple[pl.DataFrame, int]:
    """Make the lines of an order without a person those of a guest of its own; also count the rows."""
    guest = sales & _is_nobody(rows) & rows["order_id"].is_not_null()
    if not guest.any():
        return rows, 0
    names = "order:" + rows["order_id"].cast(pl.String)
    return rows.with_columns(rows["client_id"].zip_with(~guest, names)), int(guest.sum())


def take_returns(rows: pl.DataFrame, sales: pl.Series) -> tuple[pl.DataFrame, int]:
    """Read purchases and refunds of a negative quantity or price as refunds of absolute ones; also count them."""
    returned = sales & ((rows["quantity"] < 0) | (rows["price"] < 0)).fill_null(False)
    if not returned.any():
        return rows, 0
    names = rows["name"].cast(pl.String).set(returned, "refund").cast(EVENT_SCHEMA["name"])
    amounts = [rows[c].zip_with(~returned, rows[c].abs()) for c in ("quantity", "price")]
    return rows.with_columns(names, *amounts), int(returned.sum())


def name_by_email(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Make rows that name nobody, but an e-mail address, those of its hash; also count them.

    Who refused consent is not recognized by an address.
    """
    if EMAIL not in rows.columns:
        return rows, 0
    by_email = _is_nobody(rows) & rows[EMAIL].is_not_null() & rows["consent"].ne_missing(False)
    if not by_email.any():
        return rows, 0
    return rows.with_columns(rows["customer_id"].zip_with(~by_email, EMAIL_CUSTOMER + rows[EMAIL])), int(by_email.sum())


def derive_refunds(valid: pl.DataFrame, own_ids: bool, file: int) -> pl.DataFrame:
    """The refunds of the purchases that `valid` marks as `_refunded`, with the row that each comes from as `ROW`."""
    rows = valid.filter(pl.col("_refunded") & (pl.col("name") == "purchase"))
    present = [c for c in ("timestamp", "quantity", "price") if f"_refund_{c}" in rows.columns]
    rows = rows.with_columns(
        pl.lit("refund").cast(EVENT_SCHEMA["name"]).alias("name"),
        *(pl.coalesce(f"_refund_{c}", c).alias(c) for c in present),
    )
    if own_ids:
        rows = rows.with_columns(event_id=pl.col("event_id") + ":refund")
    else:
        rows = add_event_ids(rows, is_sale(rows), file)
    return rows.with_columns(pl.col(AT).alias(ROW))


class LateRefunds:
    """Refunds derived from an order's status, of a table that may have a row of its own for what was returned.

    They are held until all rows are read: those of an order and item that were returned in a row count once.
    """

    def __init__(self) -> None:
        self._refunds: list[pl.DataFrame] = []
        self._returned: list[pl.DataFrame] = []

    def add(self, valid: pl.DataFrame, refunds: pl.DataFrame) -> None:
        """Hold `refunds`, derived from rows of `valid`, among which there may be returns."""
        returned = valid.filter(pl.col("name") == "refund").select("order_id", "item_id")
        self._returned.append(returned.cast(pl.String).drop_nulls().unique())
        self._refunds.append(refunds)

    def take(self) -> pl.DataFrame:
        """Hand out, once, the refunds of what was not returned in a row."""
        if not self._refunds:
            return pl.DataFrame()
        key = ["order_id", "item_id"]
        refunds = pl.concat(self._refunds, how="diagonal_relaxed").with_columns(pl.col(key).cast(pl.String))
        refunds = refunds.join(pl.concat(self._returned), on=key, how="anti", maintain_order="left")
        self._refunds, self._returned = [], []
        return refunds


def add_event_ids(rows: pl.DataFrame, sales: pl.Series, file: int) -> pl.DataFrame:
    """Give rows their event id: lines of an order share one. Lines have the number of their `file` in `FILE`."""
    lines = sales.sum()
    if lines == rows.height:
        hashed = event_ids.hash_rows(rows, LINE_COLUMNS)
    elif not lines:
        hashed = event_ids.hash_rows(rows, HASHED_COLUMNS)
    else:
        hashed = event_ids.hash_rows(rows, HASHED_COLUMNS)
        at = sales.arg_true()
        hashed = hashed.scatter(at, event_ids.hash_rows(rows[at], LINE_COLUMNS))
    number = pl.when(sales).then(pl.lit(file, pl.Int32)).alias(FILE)
    return rows.with_columns(hashed.alias("event_id"), number)
