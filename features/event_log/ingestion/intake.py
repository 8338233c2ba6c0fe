"""Intake: the rows that an ingest has read so far, on disk where they grow with the input."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from features.event_log import log
from features.event_log.atomic_dir import DirectoryChange
from features.event_log.catalog import Catalog
from features.event_log.consent import forget_refused
from features.event_log.identity_links import LinkTable
from features.event_log.ingestion.currency import (
    NO_RATE,
    Currency,
    count_currencies,
    describe_forgotten,
    establish,
    find_currencies,
)
from features.event_log.ingestion.examples import RejectedExamples
from features.event_log.ingestion.quarantine import Quarantine
from features.event_log.ingestion.readings import Origins, Readings
from features.event_log.ingestion.staging import Staging
from features.event_log.ingestion.taken_back import Remains
from features.event_log.schema import (
    CATALOG_SCHEMA,
    LINK_SCHEMA,
    ORIGIN,
    REJECTED_SCHEMA,
    STAGED_SCHEMA,
    conform,
)
from features.event_log.tombstones import Tombstones


@dataclass(frozen=True)
class ParsedBatch:
    """One batch of a source's rows, in the log's schemas.

    `rows_read` + `derived` = events + merged + rejected + left out. `events` may have one column more, `_file`: see
    `schema.FILE`.
    """

    rows_read: int
    events: pl.DataFrame
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED_SCHEMA))
    catalog: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CATALOG_SCHEMA))
    links: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LINK_SCHEMA))
    merged: int = 0  # rows added to another row of the same event and item, or twice in the file
    notes: tuple[str, ...] = ()  # assumptions made in reading the file, for the person who runs the command
    left_out: Mapping[str, int] = field(default_factory=dict)  # condition of the mapping → rows that it left out
    derived: int = 0  # event rows made beside their row, as the refund of an order that was paid and refunded
    columns: Mapping[str, str] = field(default_factory=dict)  # our column → theirs, to name the cell of a rejected row
    file: Path | None = None  # the file that alone gave these rows; None: several, or none
    watermarks: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # for log.json: see sources/sql_reader.py


class Intake:
    """Takes batches in; counts what becomes of their rows before the log is written."""

    def __init__(
        self,
        change: DirectoryChange,
        old: log.EventLog | None,
        remains: Remains,
        currency: Currency,
        readings: Readings,
        origins: Origins,
    ) -> None:
        self.directory = change.new
        self.staging = Staging(change.scratch)
        self.quarantine = Quarantine(change.scratch, remains.without_rejected_of)
        self.catalog, self.links = Catalog(remains.catalog), LinkTable(remains.links)
        self.tombstones = Tombstones.load(old.path) if old else Tombstones()
        self.readings, self.origins, self.examples = readings, origins, RejectedExamples()
        self.batches = self.rows = self.merged = self.erased = self.derived = self.refused = 0
        self.left_out: Counter[str] = Counter()
        self.notes: dict[str, None] = {}  # each once: a note on a file may come with each of its batches
        self.watermarks: dict[str, tuple[str, str]] = {}
        self._currency = currency
        self._old_unknown = old is not None and old.currency is None
        self._seen: set[str] = set()  # currencies
        self._sales: Counter[str] = Counter()  # rows with a price, by currency
        self._others: Counter[str] = Counter()
        self._codes: dict[Path | None, int | None] = {}

    def add(self, batch: ParsedBatch) -> None:
        """Take a batch in."""
        events, rejected = self._convert(batch)
        rows = events.height + rejected.height
        events, rejected = self.tombstones.filter_events(events), self.tombstones.filter_rejected(rejected)
        self.erased += rows - events.height - rejected.height
        events, refused = forget_refused(events)  # behind the tombstones, which need the ids
        self.refused += refused
        self.staging.add(events)
        self.quarantine.add(rejected)
        self.examples.add(rejected, batch.columns)
        self.catalog.add(self._convert_catalog(batch.catalog))
        self.links.add(self.tombstones.filter_links(conform(batch.links, LINK_SCHEMA)))
        self.batches += 1
        self.rows += batch.rows_read
        self.merged += batch.merged
        self.derived += batch.derived
        self.left_out.update(batch.left_out)
        self.notes |= dict.fromkeys(batch.notes)
        self.watermarks |= batch.watermarks
        self.readings.count(batch.file, batch.rows_read)

    def settle_currency(self) -> tuple[Currency, Callable[[pl.DataFrame], pl.DataFrame] | None]:
        """The log's currency, now that all is read, and what makes rows of events be in it that were read before.

        Raises `InputError` for sales in several currencies.
        """
        stated = self._currency.code is not None
        if not stated:
            self._currency = replace(self._currency, code=establish(self._sales, self._others))
        code = self._currency.code
        if code is None or not (self._old_unknown or (not stated and self._seen - {code})):
            return self._currency, None
        self.catalog.map(self._settle)
        return self._currency, self._settle

    def _settle(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self._currency.forget_foreign(self._currency.convert(rows))

    def currency_notes(self) -> list[str]:
        """Say which prices could not be used."""
        code = self._currency.code
        forgotten = Counter({c: n for c, n in self._others.items() if c != code})
        return [describe_forgotten(forgotten, code)] if code and forgotten else []

    def _convert(self, batch: ParsedBatch) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The batch's events in `STAGED_SCHEMA` and its rejected rows, amounts in the log's currency."""
        origin = pl.lit(self._code(batch.file), pl.Int32).alias(ORIGIN)
        events = conform(batch.events.with_columns(origin), STAGED_SCHEMA)
        rejected = conform(batch.rejected, REJECTED_SCHEMA)
        if events["currency"].null_count() == events.height:
            return events, rejected
        events = self._currency.convert(events)
        code, seen = self._currency.code, set(find_currencies(events))
        self._seen |= seen
        if seen == {code}:
            return events, rejected
        sales, others = count_currencies(events)
        self._others.update(others)
        if code is None:
            self._sales.update(sales)
            return events, rejected
        refused = events.filter(self._currency.rule().broken)
        if refused.height:
            events = events.filter(~self._currency.rule().broken)
            rejected = pl.concat([rejected, self._reject(refused, batch)])
        return self._currency.forget_foreign(events), rejected

    def _reject(self, events: pl.DataFrame, batch: ParsedBatch) -> pl.DataFrame:
        events, _ = forget_refused(events)
        filled = [c for c in events.columns if events[c].null_count() < events.height and not c.startswith("_")]
        texts = [pl.col(c).cast(pl.String) if events.schema[c].is_temporal() else pl.col(c) for c in filled]
        rows = events.select(
            source=pl.lit(self.readings.name_of(batch.file)),
            reason=pl.lit(NO_RATE),
            raw=pl.struct(texts).struct.json_encode(),
        )
        return conform(rows, REJECTED_SCHEMA)

    def _convert_catalog(self, rows: pl.DataFrame) -> pl.DataFrame:
        if not {"price", "currency"} <= set(rows.columns) or rows["currency"].null_count() == rows.height:
            return rows
        rows = self._settle(rows)
        self._seen.update(find_currencies(rows))
        return rows

    def _code(self, file: Path | None) -> int | None:
        if file not in self._codes:
            reading = self.readings.reading_of(file)
            self._codes[file] = None if reading is None else self.origins.code([reading])
        return self._codes[file]
