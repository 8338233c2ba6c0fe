"""Notes of an ingest: what was assumed, merged or set aside, for the person who runs the command."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from features.common.counts import count
from features.event_log.ingestion.combine import Tally
from features.event_log.ingestion.event_names import nearest_name
from features.event_log.ingestion.report import list_names
from features.event_log.ingestion.taken_back import Remains
from features.event_log.log import EventLog


def describe_lines(tally: Tally) -> Iterator[str]:
    """Lines of orders: what was merged, what several files have, free lines beside paid ones."""
    if n := tally.in_several_files:
        yield (
            f"{count(n, 'line')} of orders {'is' if n == 1 else 'are'} in more than one of the files and "
            f"{'counts' if n == 1 else 'count'} once; where they are not the same lines, give the files a column of "
            "event ids"
        )
    if n := tally.free_lines:
        yield (
            f"CAUTION: {count(n, 'line')} at price 0 {'stands' if n == 1 else 'stand'} beside the same item at a price "
            f"in the same order, as in order {tally.free_example}: probably the variants of configurable products, "
            "whose pieces count twice now. Leave them out by a mapping, as in `where: {parent_item_id: empty}`, or by "
            "price: `where: {price: {not: ['0', '0.00']}}`"
        )


def describe_unknown(unknown: Mapping[str, int]) -> Iterator[str]:
    """Events whose names the product does not know."""
    if not unknown:
        return
    counts = list_names([f"{name} {n:,}" for name, n in unknown.items()], 8)
    near = {name: known for name in unknown if (known := nearest_name(name))}
    pairs = ", ".join(f"{name}: {known}" for name, known in list(near.items())[:8]) or "THEIRS: view_item"
    rows = sum(unknown.values())
    have, them = ("s have", "them") if rows != 1 else (" has", "it")
    yield (
        f"{rows:,} row{have} a name that the product does not know, and nothing is learnt from {them}: {counts}. If "
        f"they are events of a shop, say in a mapping which: `names: {{{pairs}}}`"
    )


def describe_taken_back(remains: Remains) -> Iterator[str]:
    """Rows of an earlier reading that this one replaces."""
    if remains.taken_back:
        yield f"{remains.taken_back:,} rows of the earlier reading were taken back"


def describe_set_aside(event_log: EventLog, directory: Path) -> Iterator[str]:
    """Events at isolated ends of time; `directory` is where the log's files are now."""
    span = event_log.info["span"]
    if not span:
        return
    events = EventLog(directory, event_log.info).scan_all_times()
    time = pl.col("timestamp")
    first, last = event_log.span or (None, None)
    for rows, outside in ((span["rows_before"], time < first), (span["rows_after"], time > last)):
        if not rows:
            continue
        aside = events.filter(outside).select("timestamp", "name", "item_id", "order_id", "event_id")
        one = aside.head(1).collect().row(0, named=True)
        until = aside.select(time.max()).collect().item()
        dates = f"{one['timestamp']:%Y-%m-%d}" + (
            f" to {until:%Y-%m-%d}" if until.date() > one["timestamp"].date() else ""
        )
        what = f"{one['name']} of item {one['item_id']}" if one["item_id"] else one["name"]
        which = f"order {one['order_id']}" if one["order_id"] else f"event {one['event_id']}"
        body = f"{span['first'][:10]} to {span['last'][:10]}"
        yield (
            f"{count(rows, 'row')} set aside, dated {dates}, far from all others ({body}), as the "
            f"{what} at {one['timestamp']:%Y-%m-%d %H:%M} ({which}). No table or model uses them; correct the dates, "
            "or ingest with --all-times if they are right"
        )
