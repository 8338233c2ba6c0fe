"""Hold-out size: how many queries a strategy must be measured on, and why a hold-out has fewer.

A model is chosen by its hold-out: after how many trees to stop, and whether it may replace the champion. On a handful
of queries both are chance. The usual reason for a handful is not a small shop but a date: one event in the future moves
the end of the log, and the hold-out with it, to where nothing happened.
"""

from collections.abc import Mapping

import polars as pl

from features.common.clock import DAY, iso, moment, next_midnight
from features.event_log.log import EventLog
from models.bundle import RECOMMENDERS, RecommenderName

MIN_HOLDOUT_QUERIES: Mapping[RecommenderName, int] = {"one_to_one": 20, "one_to_one_visit": 20, "predictive": 20}
"""Fewest queries with a relevant item, by strategy. As many as a ranker needs to learn from (`examples.MIN_QUERIES`):
with fewer, the 95% interval of NDCG@10 is wider than any difference between recipes."""
_GAP_SHARE = 0.25  # of the hold-out: with a longer gap in it, the dates are the likely reason
_FEW_SHARE = 0.01  # of the log's events: fewer, beyond a gap, are isolated
_LONG_GAP_DAYS = 30


def too_few(queries: Mapping[RecommenderName, int]) -> list[RecommenderName]:
    """Return the strategies whose hold-out is below its minimum; `queries`: those of the hold-out."""
    return [name for name in RECOMMENDERS if queries.get(name, 0) < MIN_HOLDOUT_QUERIES[name]]


def describe_counts(queries: Mapping[RecommenderName, int]) -> str:
    """Write the queries of each strategy, with the minimum: `one_to_one 1 (minimum 20)`."""
    return ", ".join(f"{name} {queries.get(name, 0):,} (minimum {MIN_HOLDOUT_QUERIES[name]})" for name in RECOMMENDERS)


def explain_too_few(event_log: EventLog, start: int, end: int, queries: Mapping[RecommenderName, int]) -> str:
    """Say that the hold-out [start, end) (microseconds) has too few queries, why, and what to do."""
    days = count_days(event_log, end)
    events = int(days.filter(pl.col("t") >= start // DAY * DAY)["events"].sum())
    before = int(days.filter(pl.col("t").is_between(2 * start - end, start, closed="left"))["events"].sum())
    what = (
        f"the hold-out from {iso(start)} to {iso(end)} has too few queries with a relevant item to measure anything: "
        f"{describe_counts(queries)}. The log has {events:,} events in it, {before:,} in the same time before it"
    )
    if gap := _find_gap(days, start, end):
        last, following = gap
        after = days.filter(pl.col("t") > last)
        if following is None:
            why = f"its last event before the end of training is of {iso(last)[:10]}"
        else:
            number = int(after["events"].sum())
            some = "1 event" if number == 1 else f"{number:,} events"
            why = f"after {iso(last)[:10]} nothing happened until {iso(following)[:10]}, from when on there is {some}"
            why += ": is that date right? One wrong date in the future moves the end of the log"
        return f"{what}; {why}. Train on what came before with --until {iso(next_midnight(last + DAY))[:10]}"
    return (
        f"{what}. The shop, or its log, is too small for this recipe: bring more history, or a recipe with a longer "
        "horizon_days"
    )


def isolated_dates_hint(event_log: EventLog, end: int) -> str:
    """Return a sentence on events far before or after all others, to append to an error; empty where there are none."""
    days = count_days(event_log, end)
    if days.height < 2:
        return ""
    jumps = days.with_row_index("n").filter(pl.col("t").diff() > _LONG_GAP_DAYS * DAY)
    total, hints = int(days["events"].sum()), []
    for n in jumps["n"]:
        early, late = days[:n], days[n:]
        if (few := int(early["events"].sum())) < _FEW_SHARE * total or few == 1:
            hints.append(f"{_events(few)} before {iso(late['t'][0])[:10]}, the first of {iso(early['t'][0])[:10]}")
        elif (few := int(late["events"].sum())) < _FEW_SHARE * total or few == 1:
            before, last = iso(early["t"][-1] + DAY)[:10], iso(late["t"][-1])[:10]
            hints.append(f"{_events(few)} from {before} on, the last of {last} (train without: --until {before})")
            break
    if not hints:
        return ""
    return f". Check the dates: the log has {' and '.join(hints)}, more than {_LONG_GAP_DAYS} days off all others"


def count_days(event_log: EventLog, end: int) -> pl.DataFrame:
    """Return t (start of a day, microseconds) and events of each day with an event before `end`, in order."""
    before = event_log.scan().filter(pl.col("timestamp") < moment(end))
    day = pl.col("timestamp").dt.timestamp("us") // DAY * DAY
    return before.group_by(t=day).agg(events=pl.len()).sort("t").collect(engine="streaming")


def _find_gap(days: pl.DataFrame, start: int, end: int) -> tuple[int, int | None] | None:
    """Find the longest gap that reaches into the hold-out: the days around it; None for the latter at the log's end."""
    times = days["t"].to_list()
    if not times:
        return None
    pairs = [*zip(times, [*times[1:], None], strict=True)]
    gaps = [(last, following, (end if following is None else following) - last - DAY) for last, following in pairs]
    inside = [gap for gap in gaps if (gap[1] or end) > start and gap[2] > _GAP_SHARE * (end - start)]
    if not inside:
        return None
    last, following, _ = max(inside, key=lambda gap: gap[2])
    return last, following


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number:,} events"
