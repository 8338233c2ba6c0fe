"""Checks of rows: event names that are not known, rows that were rejected, and rows that came twice."""

import polars as pl

from features.checks.facts import Facts
from features.checks.finding import HAVE, Finding, count, part, percent, quote
from features.event_log.consent import REFUSED
from features.event_log.ingestion.event_names import nearest_name
from features.event_log.schema import EVENT_NAMES

MANY_UNKNOWN = 0.05
FEW_COPIES = 0.001
_NUMBERED = pl.col("name").cast(pl.String).is_in(["purchase", "refund"]) & pl.col("order_id").is_not_null()
SAME = ("name", "timestamp", "customer_id", "client_id", "item_id", "order_id", "query", "list_id", "position")


def check_names(facts: Facts) -> list[Finding]:
    """Which share of events has names that nothing is learnt from."""
    unknown = {name: n for name, n in facts.names.items() if name not in EVENT_NAMES}
    rows = sum(unknown.values())
    if not rows:
        return []
    share = rows / facts.rows
    suggestions = {name: near for name in unknown if (near := nearest_name(name))}
    pairs = ", ".join(f"{name}: {near}" for name, near in list(suggestions.items())[:5])
    listed = ", ".join(f"{quote(name)} ({n:,})" for name, n in list(unknown.items())[:5])
    return [
        Finding(
            "unknown_names",
            "stop" if rows == facts.rows else "warn" if share >= MANY_UNKNOWN or suggestions else "info",
            f"{part(rows, facts.rows, 'event', HAVE)} a name that is not known, and "
            f"nothing is learnt from {'it' if rows == 1 else 'them'}.",
            f"say in a mapping what they are, as in `names: {{{pairs or 'theirs: view_item'}}}`, and ingest again "
            f"into a new log; known are {', '.join(EVENT_NAMES)}",
            listed,
            {"share": round(share, 4), "events": rows, "names": len(unknown)},
        )
    ]


def check_rejected(facts: Facts) -> list[Finding]:
    """Which share of the rows read was rejected, and why."""
    rejected = facts.log.rejected()
    if rejected.is_empty():
        return []
    log_rows = int(facts.log.info["rows"])
    share = rejected.height / (rejected.height + log_rows)
    reasons = rejected["reason"].value_counts().sort("count", "reason", descending=[True, False])
    listed = ", ".join(f"{reason} {n:,}" for reason, n in reasons.head(5).iter_rows())
    first = rejected.filter(pl.col("reason") == reasons["reason"][0]).row(0, named=True)
    return [
        Finding(
            "rejected_rows",
            "warn" if share >= MANY_UNKNOWN else "info",
            f"{count(rejected.height, 'row')} {'was' if rejected.height == 1 else 'were'} rejected, "
            f"{percent(share)} of those that are no duplicates: "
            f"{listed}.",
            f"read rejected.parquet in {facts.log.path}; `usual inspect FILE` shows what a file needs",
            f"{first['source']}, row {first['row']}: {first['reason']}",
            {"share": round(share, 4), "rows": rejected.height, **dict(reasons.head(5).iter_rows())},
        )
    ]


def check_copies(facts: Facts) -> list[Finding]:
    """Events that are another one in all but their id: a file read twice, or a tracker that fires twice.

    Orders with a number have checks of their own, because their equal lines may be lines.
    """
    copies: dict[str, int] = {}
    example = ""
    for partition in facts.log.partitions:  # whole days each, so copies of an event are in one
        file = pl.scan_parquet(facts.log.path / "events" / partition.file)
        time = pl.col("timestamp")  # rows are sorted by it
        same_time = ((time == time.shift(1)) | (time == time.shift(-1))).fill_null(False)
        rows = facts.select(file).select(*SAME, "consent").collect().filter(same_time & ~_NUMBERED & ~REFUSED)
        keys = rows.select(pl.struct(SAME).hash()).to_series()
        order = keys.arg_sort()
        ordered = keys.gather(order)
        again = order.filter((ordered == ordered.shift(1)).fill_null(False))
        if not again.len():
            continue
        more = rows[again]
        for name, n in more["name"].cast(pl.String).value_counts().iter_rows():
            copies[name] = copies.get(name, 0) + n
        row = more.row(0, named=True)
        example = example or f"{row['name']} of {quote(row['item_id'] or '')} at {row['timestamp']:%Y-%m-%d %H:%M:%S}"
    total = sum(copies.values())
    share = total / facts.rows if facts.rows else 0.0
    if share < FEW_COPIES:
        return []
    listed = ", ".join(f"{name} {n:,}" for name, n in sorted(copies.items(), key=lambda c: -c[1]))
    return [
        Finding(
            "copies",
            "warn" if share >= MANY_UNKNOWN else "info",
            f"{part(total, facts.rows, 'event')} like another one in all but the event_id: {listed}.",
            "a file that was read twice under other ids, or a tracker that fires twice: ingest one into a new log",
            example,
            {"share": round(share, 4), "events": total},
        )
    ]
