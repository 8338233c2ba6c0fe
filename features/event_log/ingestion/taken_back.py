"""What remains of a log when earlier readings are taken back: its catalog, links and rejected rows without theirs."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.event_log.ingestion.compaction import ExistingPartition
from features.event_log.ingestion.readings import Origins, load_sources
from features.event_log.log import EventLog
from features.event_log.schema import LINK_SCHEMA

_FROM_EVENTS = ["email", "payment"]  # kinds of links


@dataclass(frozen=True)
class Remains:
    """`catalog` and `links` of the log to be added to, `rejected` its file of rejected rows, and numbers of rows."""

    catalog: pl.DataFrame | None
    links: pl.DataFrame
    rejected: Path | None
    without_rejected_of: frozenset[str] = frozenset()
    rows: int = 0
    taken_back: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no event is left."""
        return not self.rows


def find_remains(old: EventLog | None, origins: Origins, removed: frozenset[int]) -> Remains:
    """Take what the readings `removed` gave out of the log's tables beside the events.

    Catalog rows and links are recognised by the item or ids and the time of the events they are from.
    """
    if old is None:
        return Remains(None, pl.DataFrame(schema=LINK_SCHEMA), None)
    catalog, links = pl.read_parquet(old.path / "catalog.parquet"), old.links()
    rows, rejected = sum(p.rows for p in old.partitions), old.path / "rejected.parquet"
    if not removed:
        return Remains(catalog, links, rejected, rows=rows)
    replaced, gone = origins.without(removed), 0
    stated = ~pl.col("kind").is_in(_FROM_EVENTS)
    from_events = links.filter(~stated)
    for partition in old.partitions:
        scan = ExistingPartition(partition, old.path / "events", replaced).scan_taken_back()
        taken = scan.select("item_id", "client_id", "customer_id", "timestamp").collect()
        gone += taken.height
        catalog = catalog.join(taken, left_on=["item_id", "updated_at"], right_on=["item_id", "timestamp"], how="anti")
        at = taken.rename({"timestamp": "at"})
        from_events = from_events.join(at, on=["at", "client_id", "customer_id"], how="anti", nulls_equal=True)
    if gone == rows:  # as if the log began anew
        catalog, from_events = catalog.clear(), from_events.clear()
    sources = load_sources(old.info)
    files = {entry.file for entry in sources if entry.reading in removed}
    left = {entry.file for entry in sources if entry.reading not in removed}
    links = pl.concat([links.filter(stated), from_events])
    return Remains(catalog, links, rejected, frozenset(files - left), rows - gone, gone)
