"""Cheap checks: what would make a training on a log meaningless, told before hours are spent on it."""

from features.checks.facts import Facts
from features.checks.finding import Finding
from features.checks.joins import check_join
from features.checks.rows import check_names
from features.checks.times import check_isolated
from features.checks.visitors import check_one_visitor, check_sizes
from features.event_log.log import EventLog

CHEAP = (check_names, check_isolated, check_sizes, check_one_visitor, check_join)


def cheap_checks(log: EventLog, as_of: int | None = None) -> list[Finding]:
    """Find what makes a training on the events before `as_of` (microseconds; default: all) meaningless.

    Returns findings of severity `stop` alone; an empty list lets the training begin. A second or two per ten million
    events.
    """
    facts = Facts(log, as_of)
    return [finding for check in CHEAP for finding in check(facts) if finding.severity == "stop"]
