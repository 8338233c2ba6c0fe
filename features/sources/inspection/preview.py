"""Previews: how the first rows of files are read by a mapping, and what of them would be rejected and why."""

import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from features import sources
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA
from features.sources import events_file
from features.sources.parsing.cells import pii
from features.sources.parsing.mapping.mapping import Mapping

ROWS = 100_000  # that are read at least, where there are as many
SHOWN = 10


@dataclass
class Preview:
    """What becomes of the first rows of the files. `complete`: they are all."""

    read: int = 0
    complete: bool = False
    kept: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # reason → file, row and the row itself
    left_out: Counter[str] = field(default_factory=Counter)
    derived: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENT_SCHEMA))
    items: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CATALOG_SCHEMA))

    @property
    def usable(self) -> bool:
        """Whether some row is an event or an item."""
        return bool(self.kept) or self.items.height > 0

    def add(self, batch: ParsedBatch) -> None:
        self.read += batch.rows_read
        self.kept.update(dict(batch.events["name"].cast(pl.String).value_counts().iter_rows()))
        self.rejected.update(dict(batch.rejected["reason"].value_counts().iter_rows()))
        for source, row, reason, raw in batch.rejected.unique("reason", keep="first", maintain_order=True).iter_rows():
            self.examples.setdefault(reason, f"{source}, row {row:,} (from 0): {(raw or '')[:200]}")
        self.left_out.update(batch.left_out)
        self.derived += batch.derived
        self.notes |= dict.fromkeys(batch.notes)
        if self.events.height < SHOWN:
            own = batch.events.select(c for c in EVENT_SCHEMA if c in batch.events.columns)
            self.events = pl.concat([self.events, own.head(SHOWN - self.events.height)], how="diagonal")
        shop = batch.catalog.filter(pl.col("updated_at").is_null()) if "updated_at" in batch.catalog.columns else None
        if shop is not None and self.items.height < SHOWN:
            self.items = pl.concat([self.items, shop.head(SHOWN - self.items.height)], how="diagonal_relaxed")

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows_read": self.read,
            "whole_file": self.complete,
            "kept": dict(self.kept.most_common()),
            "rejected": dict(self.rejected.most_common()),
            "examples": self.examples,
            "left_out": dict(self.left_out.most_common()),
            "derived": self.derived,
            "notes": list(self.notes),
            "events": filled_columns(self.events).to_dicts(),
            "items": filled_columns(self.items).to_dicts(),
        }


def filled_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns in which some row has a value, without ids that the log gives itself."""
    return rows.select(c for c in rows.columns if c != "event_id" and rows[c].null_count() < rows.height)


def preview(paths: Sequence[Path], mapping: Mapping | None, preset: str | None = None) -> Preview:
    """Read the first rows of `paths` by a mapping, or by a preset. Raises `InputError` where they cannot be read."""
    with _some_salt():
        if preset is not None:
            batches = sources.read("events", paths, preset=preset)
        else:
            batches = events_file.read(paths, mapping, ROWS)
        result = Preview()
        for batch in batches:
            result.add(batch)
            if result.read >= ROWS:
                break
        else:
            result.complete = True
        if not result.complete:
            result.complete = next(batches, None) is None
    return result


@contextmanager
def _some_salt() -> Iterator[None]:
    """A salt for as long as the preview lasts, where the shop has none: nothing of it is kept."""
    if pii.find_salt():
        yield
        return
    before = os.environ.get(pii.SALT)
    os.environ[pii.SALT] = secrets.token_hex(32)
    try:
        yield
    finally:
        if before is None:
            del os.environ[pii.SALT]
        else:
            os.environ[pii.SALT] = before
