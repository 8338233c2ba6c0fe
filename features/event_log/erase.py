"""Erasing a customer: removing their rows from a log, and keeping them out.

A client (device or cookie) belongs to a customer where events carry both ids, a link states it, or both occur with
one token; not where a merge of the two was undone. A client of no other customer loses all its rows. A client that
others use too keeps theirs and loses those of this customer and the anonymous ones up to now: these may be this
customer's, and they name nobody else. Of links, those with a token of this customer alone are removed too. The
catalog stays, as it names no one.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features.common.clock import now
from features.common.errors import InputError
from features.common.ids import UNPROVEN
from features.event_log import log, partitions
from features.event_log.atomic_dir import DirectoryChange, replace_directory
from features.event_log.log import EventLog
from features.event_log.partitions import Partition, PartitionWriter
from features.event_log.schema import REJECTED_SCHEMA
from features.event_log.tombstones import Tombstones


@dataclass(frozen=True)
class Erasure:
    """How much was removed. `already`: the customer had been erased before, and nothing was left to remove."""

    events: int = 0
    links: int = 0
    rejected: int = 0
    clients: int = 0
    shared_clients: int = 0
    already: bool = False

    def text(self) -> str:
        if self.already:
            return "already erased: there is nothing left of this id"
        return "\n".join(f"{n:>12,}  {what.replace('_', ' ')}" for what, n in asdict(self).items() if what != "already")


@dataclass(frozen=True)
class _Traces:
    """The ids and tokens that stand for a customer in a log; `shared` clients are used by others too."""

    clients: set[str]
    shared: set[str]
    tokens: set[str]


def erase(customer: str, path: Path) -> Erasure:
    """Remove `customer` from the log at `path`, and refuse their rows from now on.

    Raises `InputError` for a customer the log does not know.
    """
    return _erase({customer}, lambda event_log: _find_traces(customer, event_log), path)


def erase_client(client: str, path: Path) -> Erasure:
    """Remove a device or cookie from the log at `path`, whoever used it, and refuse its rows from now on.

    Raises `InputError` for a client the log does not know.
    """
    return _erase(set(), lambda _: _Traces({client}, set(), set()), path)


def own_clients(customer: str, path: Path) -> set[str]:
    """Return the clients that by the log at `path` are this customer's alone."""
    return _find_traces(customer, EventLog.open(path)).clients


def _erase(customers: set[str], find_traces: Callable[[EventLog], _Traces], path: Path) -> Erasure:
    with replace_directory(path) as change:
        event_log = EventLog.open(path)
        tombstones = Tombstones.load(event_log.path)
        original = find_traces(event_log)
        # What pages said of these devices without proof has ids of its own.
        traces = _Traces(_with_unproven(original.clients), _with_unproven(original.shared), original.tokens)
        known = {tombstones.hash(c) for c in customers}
        already = known <= tombstones.customers if known else _are_known(original.clients, tombstones)
        tombstones.customers |= known
        tombstones.clients |= {tombstones.hash(c) for c in traces.clients}
        tombstones.tokens |= {tombstones.hash(t) for t in traces.tokens}
        erased_at = now()
        tombstones.shared |= {tombstones.hash(c): erased_at for c in traces.shared}

        new, events = _erase_events(event_log, tombstones, customers, traces, change)
        old_links = event_log.links()
        links = tombstones.filter_links(old_links)
        names = {*customers, *traces.clients, *traces.tokens}
        rejected = _erase_rejected(event_log, tombstones, names, change)
        removed = events + old_links.height - links.height + rejected
        if not removed:
            if already:
                return Erasure(already=True)
            kind = "customer" if customers else "client"
            raise InputError(f"{path} knows no {kind} of this id; check the spelling")
        links.write_parquet(change.new / "links.parquet", compression="zstd")
        tombstones.write(change)
        log.keep_unchanged(change, event_log, new)
        log.write_manifest(change, path, new, event_log)
        change.commit()
    return Erasure(events, old_links.height - links.height, rejected, len(original.clients), len(original.shared))


def _with_unproven(clients: set[str]) -> set[str]:
    return clients | {UNPROVEN + client for client in clients}


def _are_known(clients: set[str], tombstones: Tombstones) -> bool:
    return {tombstones.hash(c) for c in clients} <= tombstones.clients


def _find_traces(customer: str, event_log: EventLog) -> _Traces:
    events, links = event_log.scan_all_times(), event_log.links()
    pairs = links.filter(pl.col("kind") != "unlink").select("client_id", "customer_id", "token")
    undone = _ids(links.filter((pl.col("kind") == "unlink") & (pl.col("customer_id") == customer)), "client_id")
    theirs = pl.col("customer_id") == customer
    tokens = _ids(pairs.filter(theirs), "token")
    clients = _ids(events.filter(theirs), "client_id") | _ids(pairs.filter(theirs), "client_id")
    clients |= _ids(pairs.filter(_in("token", tokens)), "client_id")
    clients -= undone
    # Other customers with one of these clients, by login, link or token.
    others = pl.col("customer_id").is_not_null() & (pl.col("customer_id") != customer)
    shared = _ids(events.filter(others & _in("client_id", clients)), "client_id")
    shared |= _ids(pairs.filter(others & _in("client_id", clients)), "client_id")
    by_token = pairs.filter(_in("client_id", clients)).select("client_id", "token").drop_nulls()
    used = by_token.join(pairs.filter(others).select("token").drop_nulls(), on="token", how="semi")
    shared |= _ids(used, "client_id")
    return _Traces(clients - shared, shared, tokens - _ids(pairs.filter(others), "token"))


def _erase_events(
    event_log: EventLog, tombstones: Tombstones, customers: Iterable[str], traces: _Traces, change: DirectoryChange
) -> tuple[list[Partition], int]:
    """Rewrite the partitions with rows to remove; return those of the new log, and how many rows were removed."""
    anonymous = pl.col("customer_id").is_null() & _in("client_id", traces.shared)
    theirs = _in("customer_id", customers) | _in("client_id", traces.clients) | anonymous
    new: list[Partition] = []
    removed = 0
    (change.new / "events").mkdir()
    with PartitionWriter(change.new / "events", partitions.ROWS_PER_PARTITION) as writer:
        for partition in event_log.partitions:
            file = event_log.path / "events" / partition.file
            if partitions.scan([file]).filter(theirs).head(1).collect().is_empty():
                new.append(partition)
                continue
            rows = partitions.scan([file]).collect()
            rest = tombstones.filter_events(rows)
            removed += rows.height - rest.height
            writer.rows = rows.height
            writer.add(rest)
            new += writer.close()
    return new, removed


def _erase_rejected(event_log: EventLog, tombstones: Tombstones, names: set[str], change: DirectoryChange) -> int:
    """Rewrite the rejected rows, a batch at a time, where any names the customer; return how many do."""
    # Where JSON escapes nothing a name stands as it is; where it does, each letter may be written in several ways.
    suspect = pl.col("raw").str.contains_any(sorted(names)) | pl.col("raw").str.contains("\\", literal=True)
    source = event_log.path / "rejected.parquet"
    suspects = pl.scan_parquet(source).filter(suspect).select(pl.len())
    if not suspects.collect(engine="streaming").item():
        return 0
    removed = 0
    schema = pl.DataFrame(schema=REJECTED_SCHEMA).to_arrow().schema
    with pq.ParquetFile(source) as old, pq.ParquetWriter(
        change.new / "rejected.parquet", schema, compression="zstd"
    ) as new:  # fmt: skip
        for batch in old.iter_batches(100_000):
            rows = pl.DataFrame(batch)
            mask = rows.select(suspect.fill_null(False)).to_series()
            innocent = tombstones.filter_rejected(rows.filter(mask))
            removed += int(mask.sum()) - innocent.height
            rest = pl.concat([rows.filter(~mask), innocent]).sort("source", "row", "reason", "raw")
            new.write_table(rest.to_arrow().cast(schema))
    return removed


def _in(column: str, ids: Iterable[str]) -> pl.Expr:
    return pl.col(column).is_in(pl.Series(sorted(ids), dtype=pl.String).implode()).fill_null(False)


def _ids(rows: pl.LazyFrame | pl.DataFrame, column: str) -> set[str]:
    return set(rows.lazy().select(pl.col(column).drop_nulls().unique()).collect(engine="streaming")[column])
