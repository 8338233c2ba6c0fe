"""Source `ga4`: Google Analytics 4's BigQuery export (`analytics_….events_…`), extracted as JSON lines.

One line is one event; its `items` become one row each. BigQuery writes whole numbers as strings.

- `user_pseudo_id` is the client, `user_id` the customer, `ga_session_id` counts the client's visits.
- GA4 has no event ids. The id is a hash of what distinguishes events: name, time, user, the place in the
  upload (`event_bundle_sequence_id`, `batch_…`), transaction and items. A line exported twice is one event.
- consent is refused where analytics_storage or ads_storage is "No", given where analytics_storage is "Yes".
- An item without item_id is known by its item_name, which a note says.
- An item without quantity is one piece. The price is `items.price`: in GA4, after discounts.
- A refund without items takes back the whole order where its purchase is in the input too.
- Events without a name in the log (page_view, scroll, session_start …) are counted as `not_a_shop_event`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_NAMES, EVENT_SCHEMA, ROW
from features.sources.parsing.cells import timestamps
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.events import json_events
from features.sources.parsing.events.json_events import FOREIGN, IdCleaner, non_empty, to_number
from features.sources.parsing.files import readers
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.whole_refunds import WholeRefunds
from features.sources.parsing.text_files import json_lines
from features.sources.source import Source

NAMES = {name: name for name in EVENT_NAMES} | {"view_search_results": "search"}
CATEGORIES = ("item_category", "item_category2", "item_category3", "item_category4", "item_category5")
_NAME = pl.col("event_name").str.strip_chars()
_PLACE = ("event_bundle_sequence_id", "batch_page_id", "batch_ordering_id", "batch_event_index")


def _record(*leaves: str, **records: pl.DataType) -> pl.Struct:
    return pl.Struct({**dict.fromkeys(leaves, pl.String()), **records})


_ITEM = _record(
    "item_id", "item_name", "item_brand", *CATEGORIES, "price", "quantity", "item_list_id", "item_list_name",
    "item_list_index", "index",
)  # fmt: skip
_VALUE = _record("string_value", "int_value", "float_value", "double_value")
_CAMPAIGN = _record("source")
SCHEMA: json_lines.Schema = {
    **dict.fromkeys(("event_name", "event_timestamp", "user_id", "user_pseudo_id", *_PLACE), pl.String()),
    "event_params": pl.List(_record("key", value=_VALUE)),
    "ecommerce": _record("transaction_id"),
    "items": pl.List(_ITEM),
    "privacy_info": _record("analytics_storage", "ads_storage"),
    "device": _record("category"),
    "geo": _record("country"),
    "traffic_source": _record("source"),
    "collected_traffic_source": _record("manual_source"),
    "session_traffic_source_last_click": _record(
        manual_campaign=_CAMPAIGN, cross_channel_campaign=_CAMPAIGN, google_ads_campaign=_record("campaign_name")
    ),
}


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` lines.

    Raises `InputError` for a file that is not JSON lines or not of GA4: none of its first lines has event_name and
    event_timestamp.
    """
    whole, cleaner = WholeRefunds(), IdCleaner()
    for path in paths:
        columns = readers.read_column_names(path, {"event_name", "event_timestamp"})
        if missing := [c for c in ("event_name", "event_timestamp") if c not in columns]:
            raise ColumnsError(
                f"{path} is not GA4's export: no line has {' or '.join(missing)}. Extract the table events_… as "
                "newline-delimited JSON",
                columns,
            )
        for lines in _read_lines(path, rows):
            # Most events are foreign: the nested columns are parsed for the others only.
            events = _explode_items(_read_events(lines.filter(pl.col(FOREIGN).is_null()), cleaner), cleaner)
            yield _assemble(lines, whole.take(events, lines, path.name), path.name)
    again = IdCleaner()  # what it counts is counted already
    purchases = (lines.filter(_NAME == "purchase") for path in paths for lines in _read_lines(path, rows))
    for events, lines, source in whole.resolve(
        lambda _: (_explode_items(_read_events(part, again), again) for part in purchases)
    ):
        yield _assemble(lines, events, source)
    if notes := (*whole.notes(), *cleaner.notes()):
        yield ParsedBatch(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), notes=notes)


def _read_lines(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    foreign = pl.when(~_NAME.is_in(list(NAMES))).then(_NAME).alias(FOREIGN)
    for offset, lines in json_events.read_events(path, SCHEMA, rows):
        yield lines.with_columns(foreign).with_row_index(ROW, offset=offset)


def _assemble(lines: pl.DataFrame, rows: pl.DataFrame, source: str) -> ParsedBatch:
    others = lines.filter(pl.col(FOREIGN).is_not_null()).select(ROW, FOREIGN)
    rows = pl.concat([rows, others], how="diagonal").sort(ROW, maintain_order=True)
    return json_events.assemble(rows, lines, source, json_events.amount_rules())


def _parameter(key: str, *kinds: str) -> pl.Expr:
    value = pl.element().struct.field("value")
    text = pl.coalesce(non_empty(value.struct.field(kind)) for kind in kinds or ("string_value", "int_value"))
    return (
        pl.col("event_params")
        .list.eval(text.filter(pl.element().struct.field("key") == key))
        .list.drop_nulls()
        .list.first()
    )


def _read_events(lines: pl.DataFrame, cleaner: IdCleaner) -> pl.DataFrame:
    click = pl.col("session_traffic_source_last_click").struct
    privacy = pl.col("privacy_info").struct
    analytics, ads = privacy.field("analytics_storage"), privacy.field("ads_storage")
    refused = (analytics == "No").fill_null(False) | (ads == "No").fill_null(False)
    events = lines.select(
        ROW,
        FOREIGN,
        "items",
        *_PLACE,
        name=pl.col("event_name").str.strip_chars().replace(NAMES),
        customer_id=non_empty("user_id"),
        client_id=non_empty("user_pseudo_id"),
        session_id=_parameter("ga_session_id"),
        currency=_parameter("currency"),
        order_id=pl.coalesce(
            non_empty(pl.col("ecommerce").struct.field("transaction_id")), _parameter("transaction_id")
        ),
        query=pl.coalesce(_parameter("search_term"), _parameter("query"), _parameter("q")),
        _list=pl.coalesce(_parameter("item_list_id"), _parameter("item_list_name")),
        source=pl.coalesce(
            non_empty(click.field("cross_channel_campaign").struct.field("source")),
            non_empty(click.field("manual_campaign").struct.field("source")),
            non_empty(pl.col("collected_traffic_source").struct.field("manual_source")),
            non_empty(pl.col("traffic_source").struct.field("source")),
        ),
        device=non_empty(pl.col("device").struct.field("category")),
        country=non_empty(pl.col("geo").struct.field("country")),
        consent=pl.when(refused).then(False).when(analytics == "Yes").then(True),
    ).with_columns(timestamps.parse(lines["event_timestamp"]).alias("timestamp"))
    return cleaner.clean(events).with_columns(session_id=pl.concat_str("client_id", "session_id", separator="."))


def _explode_items(events: pl.DataFrame, cleaner: IdCleaner) -> pl.DataFrame:
    item = pl.col("items").struct
    id_or_name = pl.coalesce(non_empty(pl.element().struct.field(c)) for c in ("item_id", "item_name"))
    item_ids = pl.col("items").list.eval(id_or_name).list.drop_nulls()
    events = events.with_columns(item_ids.list.join("\x1e").alias("_items"))
    hashed = ["name", "timestamp", "client_id", "customer_id", "session_id", *_PLACE, "order_id", "query", "_items"]
    events = events.with_columns(event_ids.hash_rows(events, hashed))
    rows = events.explode("items", empty_as_null=True).with_columns(
        item_id=non_empty(item.field("item_id")),
        title=non_empty(item.field("item_name")),
        brand=non_empty(item.field("item_brand")),
        category=pl.concat_str([non_empty(item.field(c)) for c in CATEGORIES], separator="/", ignore_nulls=True),
        list_id=pl.coalesce(non_empty(item.field("item_list_id")), non_empty(item.field("item_list_name")), "_list"),
        _quantity=non_empty(item.field("quantity")),
        _price=non_empty(item.field("price")),
        position=to_number(pl.coalesce(non_empty(item.field("item_list_index")), non_empty(item.field("index")))).cast(
            EVENT_SCHEMA["position"], strict=False
        ),
    )
    rows = json_events.read_amounts(rows.with_columns(cleaner.name_items(rows["item_id"], rows["title"])))
    one = pl.when(pl.col("item_id").is_not_null() & pl.col("_quantity").is_null()).then(1.0)
    return rows.with_columns(
        pl.when(pl.col("category") != "").then("category").alias("category"),
        quantity=pl.coalesce("quantity", one),
    ).drop("items", "_list", "_items", *_PLACE)


SOURCE = Source("ga4", "Google Analytics 4's BigQuery export, as JSON lines", lambda paths, _: read(paths))
