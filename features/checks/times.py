"""Checks of time: the span of the log, its gaps, and clocks that were read wrongly."""

from datetime import date, timedelta

import polars as pl

from features.checks.facts import ISOLATED_GAP_DAYS, Facts, split_isolated
from features.checks.finding import Finding, count

EPOCH = date(1970, 1, 1)


def check_isolated(facts: Facts) -> list[Finding]:
    """Whether a few events lie far before or after all others."""
    before, after = split_isolated(facts.days)
    isolated = pl.concat([before, after])
    if isolated.is_empty():
        return []
    rest = facts.days.join(isolated, on="day", how="anti")
    first, last = _date(rest["day"][0]), _date(rest["day"][-1])
    events = int(isolated["events"].sum())
    # Whatever lies behind the end becomes the hold-out; before the start it only makes histories long.
    stretched = len(before) > 0 and rest["day"][0] - before["day"][0] > 365
    return [
        Finding(
            "isolated_times",
            "stop" if len(after) or stretched else "warn",
            f"{count(events, 'event')} of {facts.rows:,} {'lies' if events == 1 else 'lie'} more than "
            f"{ISOLATED_GAP_DAYS} days off all others, which are from {first} to {last}.",
            "correct the dates, or ingest the log again and leave these rows out"
            + (f"; `--until {last + timedelta(days=1)}` trains on what came before" if len(after) else ""),
            f"an event on {_date((after if len(after) else before)['day'][0])}",
            {"events": events, "first": str(first), "last": str(last)},
        )
    ]


def _date(day: int) -> date:
    return EPOCH + timedelta(days=int(day))
