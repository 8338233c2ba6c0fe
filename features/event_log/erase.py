"""Remove a customer from a log, and keep them out.

A client (device or cookie) belongs to a customer where events carry both ids, a link says so, or both
were seen with one token; not where someone undid a merge of the two. A client of no other customer goes
with all its rows. A client that others use too keeps their rows and loses those of this customer and the
anonymous ones up to now: they may be this customer's, and no one else is named in them. Of links, tokens
of this customer alone go too. The catalog stays, which names no one.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features.common.clock import now
from features.common.errors import InputError
from features.event_log import log, partitions
from features.event_log.atomic_dir import Change, changing
from features.event_log.identity_links import keep_rest
from features.event_log.log import EventLog
from features.event_log.partitions import Part, PartWriter
from features.event_log.schema import REJECTED_SCHEMA
from features.event_log.tombstones import Erased


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
            return "already erased: there is nothing left of this customer"
        return "\n".join(f"{n:>12,}  {what.replace('_', ' ')}" for what, n in asdict(self).items() if what != "already")


@dataclass(frozen=True)
class _Traces:
    """The ids and tokens under which a customer is found; `shared` clients are others' too."""

    clients: set[str]
    shared: set[str]
    tokens: set[str]


def erase(customer: str, path: Path) -> Erasure:
    """Remove `customer` from the log at `path`, and refuse what is theirs from now on.

    Raises `InputError` for a customer the log does not know.
    """
    with changing(path) as change:
        event_log = EventLog.open(path)
        erased = Erased.load(event_log.path)
        before = erased.hash(customer) in erased.customers
        traces = _traces(customer, event_log)
        erased.customers.add(erased.hash(customer))
        erased.clients |= {erased.hash(c) for c in traces.clients}
        erased.tokens |= {erased.hash(t) for t in traces.tokens}
        erased_at = now()
        erased.shared |= {erased.hash(c): erased_at for c in traces.shared}

        made, events = _events(event_log, erased, {customer}, traces, change)
        links = event_log.links()
        left = erased.links(links)
        rejected = _rejected(event_log, erased, {customer, *traces.clients, *traces.tokens}, change)
        removed = events + links.height - left.height + rejected
        if not removed:
            if before:
                return Erasure(already=True)
            raise InputError(f"{path} knows no customer of this id; check the spelling")
        left.write_parquet(change.new / "links.parquet", compression="zstd")
        erased.write(change)
        keep_rest(change, event_log, made)
        log.describe(change, path, made)
        change.commit()
    return Erasure(events, links.height - left.height, rejected, len(traces.clients), len(traces.shared))


def _traces(customer: str, event_log: EventLog) -> _Traces:
    events, links = event_log.scan(), event_log.links()
    pairs = links.filter(pl.col("kind") != "unlink").select("client_id", "customer_id", "token")
    undone = _ids(links.filter((pl.col("kind") == "unlink") & (pl.col("customer_id") == customer)), "client_id")
    theirs = pl.col("customer_id") == customer
    tokens = _ids(pairs.filter(theirs), "token")
    clients = _ids(events.filter(theirs), "client_id") | _ids(pairs.filter(theirs), "client_id")
    clients |= _ids(pairs.filter(_in("token", tokens)), "client_id")
    clients -= undone
    # Who else was seen with one of these clients, by login, link or token?
    others = pl.col("customer_id").is_not_null() & (pl.col("customer_id") != customer)
    shared = _ids(events.filter(others & _in("client_id", clients)), "client_id")
    shared |= _ids(pairs.filter(others & _in("client_id", clients)), "client_id")
    by_token = pairs.filter(_in("client_id", clients)).select("client_id", "token").drop_nulls()
    used = by_token.join(pairs.filter(others).select("token").drop_nulls(), on="token", how="semi")
    shared |= _ids(used, "client_id")
    return _Traces(clients - shared, shared, tokens - _ids(pairs.filter(others), "token"))


def _events(
    event_log: EventLog, erased: Erased, customers: Iterable[str], traces: _Traces, change: Change
) -> tuple[list[Part], int]:
    """The parts of the new log, of which those with rows to remove are written anew, and how many rows went."""
    anonymous = pl.col("customer_id").is_null() & _in("client_id", traces.shared)
    theirs = _in("customer_id", customers) | _in("client_id", traces.clients) | anonymous
    made: list[Part] = []
    gone = 0
    (change.new / "events").mkdir()
    with PartWriter(change.new / "events", partitions.ROWS_PER_PART) as writer:
        for part in event_log.parts:
            file = event_log.path / "events" / part.file
            if pl.scan_parquet(file).filter(theirs).head(1).collect().is_empty():
                made.append(part)
                continue
            rows = pl.read_parquet(file)
            left = erased.events(rows)
            gone += rows.height - left.height
            writer.rows = rows.height
            writer.add(left)
            made += writer.close()
    return made, gone


def _rejected(event_log: EventLog, erased: Erased, names: set[str], change: Change) -> int:
    """Write the rejected rows that do not name the customer, a batch at a time; how many do."""
    # Where JSON escapes nothing a name stands as it is; where it does, each letter may be written in several ways.
    suspect = pl.col("raw").str.contains_any(sorted(names)) | pl.col("raw").str.contains("\\", literal=True)
    source = event_log.path / "rejected.parquet"
    found = pl.scan_parquet(source).filter(suspect).select(pl.len())
    if not found.collect(engine="streaming").item():
        return 0
    gone = 0
    schema = pl.DataFrame(schema=REJECTED_SCHEMA).to_arrow().schema
    with pq.ParquetFile(source) as old, pq.ParquetWriter(
        change.new / "rejected.parquet", schema, compression="zstd"
    ) as new:  # fmt: skip
        for batch in old.iter_batches(100_000):
            rows = pl.DataFrame(batch)
            named = rows.select(suspect.fill_null(False)).to_series()
            kept = erased.rejected(rows.filter(named))
            gone += int(named.sum()) - kept.height
            left = pl.concat([rows.filter(~named), kept]).sort("source", "row", "reason", "raw")
            new.write_table(left.to_arrow().cast(schema))
    return gone


def _in(column: str, ids: Iterable[str]) -> pl.Expr:
    return pl.col(column).is_in(pl.Series(sorted(ids), dtype=pl.String).implode()).fill_null(False)


def _ids(rows: pl.LazyFrame | pl.DataFrame, column: str) -> set[str]:
    return set(rows.lazy().select(pl.col(column).drop_nulls().unique()).collect(engine="streaming")[column])
