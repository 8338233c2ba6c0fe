"""Retailrocket's recommender system data set, as Kaggle publishes it: give all of its files at once.

    events.csv                                timestamp, visitorid, event, itemid, transactionid
    item_properties_part1.csv, …_part2.csv    timestamp, itemid, property, value
    category_tree.csv                         categoryid, parentid

They are told apart by their header. Times are milliseconds.

- `visitorid` is a browser that never says who it is: the client.
- Events carry no price. They get the one in force: the item's latest property 790 at or before the
  event, never a later one. A sale before the first known price is rejected.
- The twenty million properties are read as a stream. Kept are `categoryid`, `available`, the price and
  the latest value of the `ATTRIBUTES`; the rest, texts hashed word by word, is passed over.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.ingest import Parsed
from features.event_log.schema import EVENT_SCHEMA, ROW, TIDY_RULES, Rule, conform
from features.sources.parsing import coerce, event_ids, readers, timestamps
from features.sources.parsing.validate import damage, raw_of, screened
from features.sources.retailrocket_items import ATTRIBUTES as ATTRIBUTES
from features.sources.retailrocket_items import Items

NAMES = {"view": "view_item", "addtocart": "add_to_cart", "transaction": "purchase"}
HEADERS = {
    "events": ("timestamp", "visitorid", "event", "itemid", "transactionid"),
    "properties": ("timestamp", "itemid", "property", "value"),
    "tree": ("categoryid", "parentid"),
}


def read(paths: Sequence[Path], rows: int = readers.BATCH) -> Iterator[Parsed]:
    """`Parsed` of at most `rows` rows each; the catalog comes in the last. Raises `InputError` for a file
    that cannot be read or has another header, and where there is no events file."""
    files: dict[str, list[Path]] = {kind: [] for kind in HEADERS}
    for path in paths:
        files[_kind(path)].append(path)
    if not files["events"]:
        raise InputError("none of the files is Retailrocket's events.csv; name it beside the others")
    items = Items()
    for path in files["tree"]:
        for offset, batch in readers.batches(path, rows):
            yield items.take_tree(batch, offset, path.name)
    for path in files["properties"]:
        for offset, batch in readers.batches(path, rows):
            yield items.take_properties(batch, offset, path.name)
    items.settle()
    for path in files["events"]:
        for offset, batch in readers.batches(path, rows):
            yield _parse(batch, offset, path.name, items)
    yield Parsed(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA), catalog=items.catalog(), notes=items.notes())


def _kind(path: Path) -> str:
    found = readers.columns(path)
    for kind, header in HEADERS.items():
        if set(header) <= set(found):
            return kind
    raise InputError(
        f"{path} is none of Retailrocket's files: its columns are {', '.join(found) or 'none'}; expected "
        + "; or ".join(", ".join(header) for header in HEADERS.values())
    )


def _parse(batch: pl.DataFrame, offset: int, source: str, items: Items) -> Parsed:
    what = coerce.identifiers(batch["event"])
    rows = pl.DataFrame([
        what.replace(NAMES).alias("name"),
        timestamps.parse(batch["timestamp"]).alias("timestamp"),
        *(coerce.identifiers(batch[c]).alias(ours) for c, ours in
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
        event_ids.ids(
            rows.select(
                "name", "order", *(pl.when(alone).then(c).alias(c) for c in ("timestamp", "client_id", "item_id"))
            ),
            ["name", "order", "timestamp", "client_id", "item_id"],
        )
    )
    extra = [c for c in (ROW, *readers.ADDED) if c in rows.columns]
    rows = conform(rows, EVENT_SCHEMA).with_columns(rows[c] for c in extra)
    unknown = Rule("unknown_event", pl.lit(~what.is_in(list(NAMES)) & what.is_not_null()))
    kept, rejected = screened(rows, source, raw_of(batch, offset), (*damage(batch), unknown, *TIDY_RULES))
    events = kept.select(*EVENT_SCHEMA)
    return Parsed(
        rows_read=batch.height,
        events=events,
        rejected=rejected,
        catalog=items.first_seen(events),
    )
