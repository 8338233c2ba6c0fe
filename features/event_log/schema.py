"""The event log's schemas, and the rules that a row must keep to be let in.

One row per event × item. A row that breaks a rule is not dropped: it is handed back with the reason, its source and
its row number, and ends in the log's `rejected.parquet`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import polars as pl

EventName = Literal[
    "view_item_list",
    "select_item",
    "view_item",
    "search",
    "add_to_wishlist",
    "add_to_cart",
    "remove_from_cart",
    "view_cart",
    "begin_checkout",
    "purchase",
    "refund",
    "login",
    "preferences",
]
EVENT_NAMES: tuple[EventName, ...] = get_args(EventName)

# Events that mean nothing without an item. The others (search, login, view_cart …) may have none.
ITEM_EVENTS: tuple[EventName, ...] = (
    "select_item",
    "view_item",
    "add_to_wishlist",
    "add_to_cart",
    "remove_from_cart",
    "purchase",
    "refund",
)

TIMESTAMP = pl.Datetime("us", "UTC")

EVENT_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "name": pl.Categorical(),
    "timestamp": TIMESTAMP,
    "received_at": TIMESTAMP,
    "customer_id": pl.String(),
    "client_id": pl.String(),
    "session_id": pl.String(),
    "item_id": pl.String(),
    "quantity": pl.Float64(),
    "price": pl.Float64(),
    "currency": pl.String(),
    "order_id": pl.String(),
    "query": pl.String(),
    "list_id": pl.String(),
    "position": pl.Int32(),
    "recommendation_id": pl.String(),
    "source": pl.Categorical(),
    "device": pl.Categorical(),
    "country": pl.Categorical(),
    "consent": pl.Boolean(),
    "question": pl.String(),  # of `preferences`: what the visitor was asked
    "answer": pl.String(),  # JSON array of texts, see stated_answers.py; null: withdrawn
}
# Columns that logs and stores of before lack: they are null there.
LATER_COLUMNS = ("question", "answer")

CATALOG_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "category": pl.String(),
    "brand": pl.String(),
    "price": pl.Float64(),
    "currency": pl.String(),
    "available": pl.Boolean(),
    "first_seen": TIMESTAMP,
    "attributes": pl.String(),  # JSON object
    "updated_at": TIMESTAMP,  # time of the event that the row is from; null: a catalog's row, which outranks events
}
# Columns that a catalog has only where some item has a value in them.
EMBEDDING = "embedding"
CATALOG_OPTIONAL: dict[str, pl.DataType] = {
    EMBEDDING: pl.List(pl.Float32()),  # vector of the shop's own text or image model, of one length in a catalog
}

# Evidence beside logins that links a client to a customer: which id occurred when with which hashed e-mail or card.
# At least one of the two ids is set; a client and a customer with one token are linked.
LINK_SCHEMA: dict[str, pl.DataType] = {
    "at": TIMESTAMP,
    "kind": pl.String(),  # LinkKind
    "token": pl.String(),  # salted hash of the address or payment token; null for merge and unlink
    "client_id": pl.String(),
    "customer_id": pl.String(),
}
LinkKind = Literal["email", "payment", "merge", "unlink"]

REJECTED_SCHEMA: dict[str, pl.DataType] = {
    "source": pl.String(),  # file name
    "row": pl.Int64(),  # 0-based data row in that file
    "reason": pl.String(),
    "raw": pl.String(),  # the source row as a JSON object
}

# Reserved column names under which a source hands its row numbers and raw rows to `validate`.
ROW, RAW = "_row", "_raw"

# Reserved column of `ParsedBatch.events`, int32: the number of the row's file within the command, in a row that is a
# line of an order and has no event id of its own; null in the others. The log merges such rows (see combine.py).
FILE = "_file"

# Column of the partitions beside those of `EVENT_SCHEMA`, int32: which readings gave the row (see readings.py).
ORIGIN = "_origin"
STORED_SCHEMA: dict[str, pl.DataType] = EVENT_SCHEMA | {ORIGIN: pl.Int32()}
STAGED_SCHEMA: dict[str, pl.DataType] = STORED_SCHEMA | {FILE: pl.Int32()}


@dataclass(frozen=True)
class Rule:
    """A reason and the expression that is true where a row breaks it."""

    reason: str
    broken: pl.Expr


def _blank(column: str) -> pl.Expr:
    return pl.col(column).is_null() | (pl.col(column).cast(pl.String).str.strip_chars() == "")


def _negative(column: str) -> pl.Expr:
    # NaN and infinities compare false with every bound, so they need a test of their own.
    return pl.col(column).is_not_null() & ~(pl.col(column).is_finite() & (pl.col(column) >= 0))


# Clocks that were never set, and units read wrongly, lie outside.
EARLIEST, LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
BAD_TIMESTAMP = Rule("bad_timestamp", ~pl.col("timestamp").is_between(EARLIEST, LATEST).fill_null(False))


# Beyond what any currency needs; sums of such numbers would not fit the integers they are taken over.
ABSURD_AMOUNT = Rule(
    "absurd_amount",
    (pl.col("price") > 1e12) | (pl.col("quantity").abs() > 1e9) | ((pl.col("price") * pl.col("quantity")).abs() > 1e15),
)


def _rules(blank: Callable[[str], pl.Expr]) -> tuple[Rule, ...]:
    return (
        Rule("missing_event_id", blank("event_id")),
        Rule("missing_name", blank("name")),
        BAD_TIMESTAMP,
        # Of who refused consent no id is kept: such events are counted alone.
        Rule("no_customer_or_client", blank("customer_id") & blank("client_id") & pl.col("consent").ne_missing(False)),
        Rule("missing_item_id", pl.col("name").cast(pl.String).is_in(ITEM_EVENTS) & blank("item_id")),
        Rule("negative_price", _negative("price")),
        Rule("bad_quantity", _negative("quantity") | (pl.col("quantity") == 0)),
        ABSURD_AMOUNT,
        Rule(
            "missing_quantity_or_price",
            pl.col("name").cast(pl.String).is_in(["purchase", "refund"])
            & (pl.col("quantity").is_null() | pl.col("price").is_null()),
        ),
    )


RULES = _rules(_blank)
# The same for rows in which blank texts are null already: saves a pass over every text.
TIDY_RULES = _rules(lambda column: pl.col(column).is_null())


def conform(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Cast `frame` to exactly the columns of `schema`, in order; columns that it lacks are null."""
    if dict(frame.schema) == schema and list(frame.columns) == list(schema):
        return frame
    return frame.select(
        (pl.col(c) if c in frame.columns else pl.lit(None)).cast(dtype).alias(c) for c, dtype in schema.items()
    )


def validate(frame: pl.DataFrame, source: str, rules: Sequence[Rule] = RULES) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that keep every rule and those that do not.

    `frame` has the columns the rules read, plus `_row` (0-based source row) and, where the caller does not fill it in
    afterwards, `_raw` (the source row as JSON). A row that breaks several rules is filed under the first. Returns
    (valid, rejected), the second in `REJECTED_SCHEMA`.
    """
    if RAW not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(RAW))
    reason = pl.coalesce([pl.when(r.broken).then(pl.lit(r.reason)) for r in rules])
    marked = frame.with_columns(_reason=reason)
    bad = marked.filter(pl.col("_reason").is_not_null())
    rejected = bad.select(
        source=pl.lit(source), row=pl.col(ROW).cast(pl.Int64), reason=pl.col("_reason"), raw=pl.col(RAW)
    )
    return marked.filter(pl.col("_reason").is_null()).drop("_reason"), conform(rejected, REJECTED_SCHEMA)


def deduplicate_links(links: pl.DataFrame) -> pl.DataFrame:
    """Keep one row per kind, token, client and customer, with the earliest `at`; sorted by time.

    A link without client and without customer leads nowhere and is dropped.
    """
    key = ["kind", "token", "client_id", "customer_id"]
    identified = links.filter(pl.col("client_id").is_not_null() | pl.col("customer_id").is_not_null())
    first = identified.group_by(key).agg(pl.col("at").min())
    return conform(first.sort("at", *key, nulls_last=True), LINK_SCHEMA)


def sort_by_time(events: pl.DataFrame) -> pl.DataFrame:
    """Sort by timestamp, event_id and item_id: only rows of one instant need their ids compared."""
    by = ["timestamp", "event_id", "item_id"]
    order = events["timestamp"].arg_sort()
    times = events["timestamp"].gather(order)
    tied = ((times == times.shift(1)) | (times == times.shift(-1))).fill_null(False).arg_true()
    if tied.len():
        rows = order.gather(tied)
        ids = events.select(by)[rows].with_columns(rows.alias("_row")).sort(by, nulls_last=True)
        order = order.scatter(tied, ids["_row"])
    return events if order.is_sorted() else events[order]
