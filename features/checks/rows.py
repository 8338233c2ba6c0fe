"""Checks of rows: event names that are not known, and rows that were rejected."""

from features.checks.facts import Facts
from features.checks.finding import Finding, count, percent, quote
from features.event_log.event_names import nearest_name
from features.event_log.schema import EVENT_NAMES

MANY_UNKNOWN = 0.05


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
            f"{count(rows, 'event')} of {facts.rows:,} ({percent(share)}) {'has' if rows == 1 else 'have'} a name "
            f"that is not known, and nothing is learnt from {'it' if rows == 1 else 'them'}.",
            f"say in a mapping what they are, as in `names: {{{pairs or 'theirs: view_item'}}}`, and ingest again "
            f"into a new log; known are {', '.join(EVENT_NAMES)}",
            listed,
            {"share": round(share, 4), "events": rows, "names": len(unknown)},
        )
    ]
