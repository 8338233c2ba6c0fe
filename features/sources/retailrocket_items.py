"""Retailrocket's item properties and category tree: prices over time, and the catalog."""

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, ROW, TIMESTAMP, Rule
from features.sources.parsing.catalog import event_catalog
from features.sources.parsing.cells import coerce, timestamps
from features.sources.parsing.files import readers
from features.sources.parsing.rows.validate import damage_rules, raw_copier, validate_rows

PRICE = "790"
ATTRIBUTES = ("6", "112", "202", "364", "678", "776")  # hashed words that many items have
_CATALOG_PROPERTIES = ("categoryid", "available", PRICE)
_PRICE = r"^n(\d+(?:\.\d+)?)$"  # numbers are written n15360.000

_NO_EVENTS = pl.DataFrame(schema=EVENT_SCHEMA)


class ItemProperties:
    """Collects the item files in memory that grows with items and their prices, not with the file."""

    def __init__(self) -> None:
        self._parents: dict[str, str | None] = {}
        self._prices: list[pl.DataFrame] = []
        self._latest: dict[str, pl.DataFrame] = {}
        self._rows = self._ignored = 0

    def add_tree(self, batch: pl.DataFrame, offset: int, source: str) -> ParsedBatch:
        """Add rows of the tree. Rows without a category are rejected; of a category given twice the last row counts."""
        rows = batch.select(coerce.to_text("categoryid"), coerce.to_text("parentid"))
        missing = Rule("missing_category", pl.col("categoryid").is_null())
        valid, rejected = self._validate(rows, batch, offset, source, missing)
        self._parents |= dict(valid.select("categoryid", "parentid").iter_rows())
        return ParsedBatch(rows_read=rejected.height, events=_NO_EVENTS, rejected=rejected)

    def add_properties(self, batch: pl.DataFrame, offset: int, source: str) -> ParsedBatch:
        """Add rows of the properties. Rows of the properties in use are rejected where they cannot be read."""
        in_use = pl.col("property").is_in([*_CATALOG_PROPERTIES, *ATTRIBUTES])
        rows = batch.select(
            timestamps.parse(batch["timestamp"]).alias("timestamp"),
            *(coerce.to_text(c) for c in ("itemid", "property", "value")),
        )
        price = pl.col("property") == PRICE
        bad = (price & ~pl.col("value").str.contains(_PRICE)) | (
            (pl.col("property") == "available") & ~pl.col("value").is_in(["0", "1"])
        )
        rules = (
            Rule("bad_timestamp", pl.col("timestamp").is_null()),
            Rule("missing_item_id", pl.col("itemid").is_null()),
            Rule("missing_property", pl.col("property").is_null()),
            Rule("bad_value", in_use & (pl.col("value").is_null() | bad.fill_null(True))),
        )
        valid, rejected = self._validate(rows, batch, offset, source, *rules)
        self._rows += batch.height
        valid = valid.select("timestamp", "property", "value", item_id="itemid")
        for name, part in valid.filter(in_use).partition_by("property", as_dict=True, include_key=False).items():
            self._add(str(name[0]), part)
        self._ignored += valid.height - valid.select(in_use.sum()).item()
        return ParsedBatch(rows_read=rejected.height, events=_NO_EVENTS, rejected=rejected)

    def _add(self, name: str, part: pl.DataFrame) -> None:
        if name == PRICE:
            price = pl.col("value").str.extract(_PRICE).cast(pl.Float64)
            self._prices.append(part.select("item_id", "timestamp", price=price))
        before = [self._latest[name]] if name in self._latest else []
        now = event_catalog.select_latest(pl.concat([*before, part.select("item_id", "timestamp", "value")]), ["value"])
        self._latest[name] = now.select("item_id", "value", timestamp="updated_at").select(
            "item_id", "timestamp", "value"
        )

    def sort_prices(self) -> None:
        """Sort the prices by time, once all properties are added."""
        empty = pl.DataFrame(schema={"item_id": pl.String(), "timestamp": TIMESTAMP, "price": pl.Float64()})
        prices = pl.concat(self._prices or [empty])
        # Of two prices at one time the greater counts, whatever the order of the files.
        self._prices = [
            prices.sort("timestamp", "price").unique(["item_id", "timestamp"], keep="last").sort("timestamp")
        ]

    def prices_at(self, rows: pl.DataFrame) -> pl.Series:
        """The price of each row's item at its time: null before the first known price."""
        (prices,) = self._prices
        moments = rows.select("item_id", "timestamp").with_row_index("_n").drop_nulls()
        prices_then = moments.sort("timestamp").join_asof(
            prices, on="timestamp", by="item_id", strategy="backward", check_sortedness=False
        )
        numbers = pl.DataFrame({"_n": pl.int_range(rows.height, dtype=pl.UInt32, eager=True)})
        return numbers.join(prices_then.select("_n", "price"), on="_n", how="left", maintain_order="left")["price"]

    def rows_from_events(self, events: pl.DataFrame) -> pl.DataFrame:
        """Catalog rows from events alone; availability only of items whose properties do not have it."""
        rows = event_catalog.from_events(events.select("item_id", "timestamp"), groups=())
        if "available" not in self._latest:
            return rows
        has_property = pl.col("item_id").is_in(self._latest["available"]["item_id"].implode())
        return rows.with_columns(available=pl.when(~has_property).then("available"))

    def build_catalog(self) -> pl.DataFrame:
        """Build catalog rows of the latest properties of every item, in `CATALOG_SCHEMA`."""
        parts = [pl.DataFrame(schema=CATALOG_SCHEMA)]
        latest = {name: rows.rename({"timestamp": "updated_at"}) for name, rows in self._latest.items()}
        value = pl.col("value")
        if "categoryid" in latest:
            numbers = latest["categoryid"]["value"].unique().to_list()
            paths = pl.Series([self._path(n) for n in numbers], dtype=pl.String)
            path = value.replace_strict(pl.Series(numbers, dtype=pl.String), paths, return_dtype=pl.String)
            parts.append(latest["categoryid"].with_columns(category=path))
        if "available" in latest:
            parts.append(latest["available"].with_columns(available=value == "1"))
        if PRICE in latest:
            parts.append(latest[PRICE].with_columns(price=value.str.extract(_PRICE).cast(pl.Float64)))
        if (attributes := self._attributes()) is not None:
            parts.append(attributes)
        return event_catalog.merge_parts(parts)

    def _attributes(self) -> pl.DataFrame | None:
        parts = [rows.with_columns(name=pl.lit(n)) for n, rows in self._latest.items() if n in ATTRIBUTES]
        if not parts:
            return None
        text = pl.struct("value").struct.json_encode().str.slice(len('{"value":')).str.head(-1)
        pair = pl.concat_str(pl.lit('"'), "name", pl.lit('":'), text)
        return (
            pl.concat(parts)
            .sort("item_id", "name")
            .group_by("item_id")
            .agg(
                updated_at=pl.col("timestamp").max(),
                attributes=pl.concat_str(pl.lit("{"), pair.str.join(","), pl.lit("}")),
            )
        )

    def _path(self, category: str) -> str:
        path, parent = [category], self._parents.get(category)
        while parent is not None and parent not in path:  # a circle ends where it began
            path.append(parent)
            parent = self._parents.get(parent)
        return "/".join(reversed(path))

    def notes(self) -> tuple[str, ...]:
        if not self._rows:
            return ("no item properties were given: events have no price, and sales without one are rejected",)
        return (
            f"{self._rows:,} item properties were read for the catalog, which are no events; "
            f"{self._ignored:,} of them are of kinds that are not kept",
        )

    def _validate(
        self, rows: pl.DataFrame, batch: pl.DataFrame, offset: int, source: str, *rules: Rule
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        rows = rows.with_columns(*(batch[c] for c in readers.ADDED if c in batch.columns))
        return validate_rows(
            rows.with_row_index(ROW, offset=offset), source, raw_copier(batch, offset), (*damage_rules(batch), *rules)
        )
