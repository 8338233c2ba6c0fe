"""Source `retailrocket`: Retailrocket's recommender system data set from Kaggle; give all of its files at once.

    events.csv                                timestamp, visitorid, event, itemid, transactionid
    item_properties_part1.csv, …_part2.csv    timestamp, itemid, property, value
    category_tree.csv                         categoryid, parentid

They are recognized by their header. Times are milliseconds.

- `visitorid` is a browser that never logs in: the client.
- Events carry no price. They get the one then valid: the item's latest property 790 at or before the
  event, never a later one. A sale before the first known price is rejected.
- The twenty million properties are read as a stream. `categoryid`, `available`, the price and the latest
  value of the `ATTRIBUTES` are used; the rest, texts hashed word by word, is ignored.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, ROW, TIDY_RULES, Rule, conform
from features.sources.parsing.cells import coerce, timestamps
from features.sources.parsing.files import file_sets, readers
from features.sources.parsing.rows import event_ids
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows
from features.sources.retailrocket_items import ATTRIBUTES as ATTRIBUTES
from features.sources.retailrocket_items import ItemProperties
from features.sources.source import Source

NAMES = {"view": "view_item", "addtocart": "add_to_cart", "transaction": "purchase"}
HEADERS = {
    "events": ("timestamp", "visitorid", "event", "itemid", "transactionid"),
    "properties": ("timestamp", "itemid", "property", "value"),
    "tree": ("categoryid", "parentid"),
}


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[ParsedBatch]:
    """Yield one `ParsedBatch` per batch of at most `rows` rows; the last has the catalog.

    Raises `InputError` for a file that cannot be read or has another header, and where there is no events file.
    """
    files: dict[str, list[Path]] = {kind: [] for kind in HEADERS}
    for path in paths:
        files[file_sets.detect_kind(path, HEADERS, "Retailrocket's")].append(path)
    if not files["events"]:
        raise InputError("none of the files is Retailrocket's events.csv; name it beside the others")
    items = ItemProperties()
    for path in files["tree"]:
        for offset, batch in readers.read_batches(path, rows):
            yield items.add_tree(batch, offset, path.name)
    for path in files["properties"]:
        for offset, batch in readers.read_batches(path, rows):
            yield items.add_properties(batch, offset, path.name)
    items.sort_prices()
    for path in files["events"]:
        for offset, batch in readers.read_batches(path, rows):
            yield _parse(batch, offset, path.name, items)
    yield ParsedBatch(
        rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), catalog=items.build_catalog(), notes=items.notes()
    )


def _parse(batch: pl.DataFrame, offset: int, source: str, items: ItemProperties) -> ParsedBatch:
    kind = coerce.to_ids(batch["event"])
    rows = pl.DataFrame([
        kind.replace(NAMES).alias("name"),
        timestamps.parse(batch["timestamp"]).alias("timestamp"),
        *(coerce.to_ids(batch[c]).alias(ours) for c, ours in
          [("visitorid", "client_id"), ("itemid", "item_id"), ("transactionid", "order_id")]),
    ])  # fmt: skip
    rows = rows.with_row_index(ROW, offset=offset).with_columns(
        batch[c] for c in readers.ADDED if c in batch.columns
    )  # fmt: skip
    rows = rows.with_columns(
        items.prices_at(rows),
        quantity=pl.lit(1.0),
        # The lines of a transaction are one event.
        order=pl.when(pl.col("name") == "purchase").then("order_id"),
    )
    alone = pl.col("order").is_null()
    rows = rows.with_columns(
        event_ids.hash_rows(
            rows.select(
                "name", "order", *(pl.when(alone).then(c).alias(c) for c in ("timestamp", "client_id", "item_id"))
            ),
            ["name", "order", "timestamp", "client_id", "item_id"],
        )
    )
    extra = [c for c in (ROW, *readers.ADDED) if c in rows.columns]
    rows = conform(rows, EVENT_SCHEMA).with_columns(rows[c] for c in extra)
    unknown = Rule("unknown_event", pl.lit(~kind.is_in(list(NAMES)) & kind.is_not_null()))
    valid, rejected = validate_rows(
        rows, source, raw_copier(batch, offset), (*damage_rules(batch), unknown, *TIDY_RULES)
    )
    events = valid.select(*EVENT_SCHEMA)
    return ParsedBatch(
        rows_read=batch.height,
        events=events,
        rejected=rejected,
        catalog=items.rows_from_events(events),
    )


SOURCE = Source(
    "retailrocket", "Retailrocket's recommender system data set, all files at once", lambda paths, _: read(paths)
)
