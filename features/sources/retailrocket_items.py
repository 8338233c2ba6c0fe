"""What Retailrocket's properties and category tree say of each item, and when."""

import polars as pl

from features.event_log.ingest import Parsed
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, ROW, TIMESTAMP, Rule
from features.sources.parsing import catalogs, coerce, readers, timestamps
from features.sources.parsing.validate import damage, raw_of, screened

PRICE = "790"
ATTRIBUTES = ("6", "112", "202", "364", "678", "776")  # hashed words that many items have
_SAID = ("categoryid", "available", PRICE)
_PRICE = r"^n(\d+(?:\.\d+)?)$"  # numbers are written n15360.000

_NO_EVENTS = pl.DataFrame(schema=EVENT_SCHEMA)


class Items:
    """Gathers the item files in memory that grows with items and their prices, not with the file."""

    def __init__(self) -> None:
        self._parents: dict[str, str | None] = {}
        self._prices: list[pl.DataFrame] = []
        self._latest: dict[str, pl.DataFrame] = {}
        self._rows = self._passed_over = 0

    def take_tree(self, batch: pl.DataFrame, offset: int, source: str) -> Parsed:
        """Rows without a category are rejected; of one that is there twice the last counts."""
        rows = batch.select(coerce.text("categoryid"), coerce.text("parentid"))
        missing = Rule("missing_category", pl.col("categoryid").is_null())
        kept, rejected = self._screened(rows, batch, offset, source, missing)
        self._parents |= dict(kept.select("categoryid", "parentid").iter_rows())
        return Parsed(rows_read=rejected.height, events=_NO_EVENTS, rejected=rejected)

    def take_properties(self, batch: pl.DataFrame, offset: int, source: str) -> Parsed:
        """Rows of the properties that are kept, where they cannot be read, are rejected."""
        held = pl.col("property").is_in([*_SAID, *ATTRIBUTES])
        rows = batch.select(
            timestamps.parse(batch["timestamp"]).alias("timestamp"),
            *(coerce.text(c) for c in ("itemid", "property", "value")),
        )
        price = pl.col("property") == PRICE
        bad = (price & ~pl.col("value").str.contains(_PRICE)) | (
            (pl.col("property") == "available") & ~pl.col("value").is_in(["0", "1"])
        )
        rules = (
            Rule("bad_timestamp", pl.col("timestamp").is_null()),
            Rule("missing_item_id", pl.col("itemid").is_null()),
            Rule("missing_property", pl.col("property").is_null()),
            Rule("bad_value", held & (pl.col("value").is_null() | bad.fill_null(True))),
        )
        kept, rejected = self._screened(rows, batch, offset, source, *rules)
        self._rows += batch.height
        kept = kept.select("timestamp", "property", "value", item_id="itemid")
        for name, part in kept.filter(held).partition_by("property", as_dict=True, include_key=False).items():
            self._take(str(name[0]), part)
        self._passed_over += kept.height - kept.select(held.sum()).item()
        return Parsed(rows_read=rejected.height, events=_NO_EVENTS, rejected=rejected)

    def _take(self, name: str, part: pl.DataFrame) -> None:
        if name == PRICE:
            price = pl.col("value").str.extract(_PRICE).cast(pl.Float64)
            self._prices.append(part.select("item_id", "timestamp", price=price))
        before = [self._latest[name]] if name in self._latest else []
        now = catalogs.latest(pl.concat([*before, part.select("item_id", "timestamp", "value")]), ["value"])
        self._latest[name] = now.select("item_id", "value", timestamp="updated_at").select(
            "item_id", "timestamp", "value"
        )

    def settle(self) -> None:
        """Ends the taking: prices are put in the order of time."""
        empty = pl.DataFrame(schema={"item_id": pl.String(), "timestamp": TIMESTAMP, "price": pl.Float64()})
        prices = pl.concat(self._prices or [empty])
        # Of two prices at one time the greater counts, whatever the order of the files.
        self._prices = [
            prices.sort("timestamp", "price").unique(["item_id", "timestamp"], keep="last").sort("timestamp")
        ]

    def prices_at(self, rows: pl.DataFrame) -> pl.Series:
        """The price of each row's item in force at its time: null where none was known yet."""
        (prices,) = self._prices
        asked = rows.select("item_id", "timestamp").with_row_index("_n").drop_nulls()
        found = asked.sort("timestamp").join_asof(
            prices, on="timestamp", by="item_id", strategy="backward", check_sortedness=False
        )
        numbers = pl.DataFrame({"_n": pl.int_range(rows.height, dtype=pl.UInt32, eager=True)})
        return numbers.join(found.select("_n", "price"), on="_n", how="left", maintain_order="left")["price"]

    def first_seen(self, events: pl.DataFrame) -> pl.DataFrame:
        """What events alone say of items; where properties say whether an item can be had, they do not."""
        seen = catalogs.from_events(events.select("item_id", "timestamp"), said=())
        if "available" not in self._latest:
            return seen
        told = pl.col("item_id").is_in(self._latest["available"]["item_id"].implode())
        return seen.with_columns(available=pl.when(~told).then("available"))

    def catalog(self) -> pl.DataFrame:
        """What the properties say last of every item, in `CATALOG_SCHEMA`."""
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
        return catalogs.together(parts)

    def _attributes(self) -> pl.DataFrame | None:
        held = [rows.with_columns(name=pl.lit(n)) for n, rows in self._latest.items() if n in ATTRIBUTES]
        if not held:
            return None
        text = pl.struct("value").struct.json_encode().str.slice(len('{"value":')).str.head(-1)
        pair = pl.concat_str(pl.lit('"'), "name", pl.lit('":'), text)
        return (
            pl.concat(held)
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
            f"{self._passed_over:,} of them are of kinds that are not kept",
        )

    def _screened(
        self, rows: pl.DataFrame, batch: pl.DataFrame, offset: int, source: str, *rules: Rule
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        rows = rows.with_columns(*(batch[c] for c in readers.ADDED if c in batch.columns))
        return screened(
            rows.with_row_index(ROW, offset=offset), source, raw_of(batch, offset), (*damage(batch), *rules)
        )
