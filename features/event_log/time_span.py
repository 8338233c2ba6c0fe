"""Time span: finds events at isolated ends of time, such as one of 1970 or of the next century.

A wrong clock or date format puts a few events far from all others. As the first or last event of a log, such a row
would decide when customers count as lost and which days a model is tested on. Rows are isolated where a gap of at
least `GAP_DAYS` days lies between them and the others, ten times as long as the longest pause among the others,
and where they are at most 1% of the rows of the log. Of fewer than 100 rows it may be one, if there are ten, behind a
gap of `FEW_GAP_DAYS`: so few rows do not show which pauses are usual.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

GAP_DAYS = 14
FEW_GAP_DAYS = 90
GAP_FACTOR = 10
LARGEST_SHARE = 0.01
_LEAST_ROWS = 10
_CUTS = 50  # the most that is tried at each end


@dataclass(frozen=True)
class Body:
    """The days of a log without its isolated ends: days from `first` to `last`, counted from the epoch."""

    first: int
    last: int
    before: int  # rows set aside before `first`
    after: int  # and after `last`


def find_body(rows_by_day: Mapping[int, int]) -> Body | None:
    """The body of a log; None where no end is isolated. Of several possible ends the most rows are set aside."""
    days = np.array(sorted(rows_by_day), np.int64)
    rows = np.array([rows_by_day[day] for day in days.tolist()], np.int64)
    total = int(rows.sum())
    limit = max(int(total * LARGEST_SHARE), int(total >= _LEAST_ROWS))
    if len(days) < 2 or not limit:
        return None
    gaps = np.diff(days)
    until = np.cumsum(rows)
    wide = np.flatnonzero(gaps >= (GAP_DAYS if total * LARGEST_SHARE >= 1 else FEW_GAP_DAYS))
    fronts = [-1, *wide[until[wide] <= limit][-_CUTS:].tolist()]  # the gap after day i; -1: none
    ends = [len(gaps), *wide[total - until[wide] <= limit][:_CUTS].tolist()]
    best: tuple[int, int, int] | None = None
    for front in fronts:
        for end in ends:
            if front >= end:
                continue
            longest = int(gaps[front + 1 : end].max(initial=1))
            cuts = [int(gaps[cut]) for cut in (front, end) if 0 <= cut < len(gaps)]
            if all(cut >= GAP_FACTOR * longest for cut in cuts):
                aside = int(until[front] if front >= 0 else 0) + int(total - until[end] if end < len(gaps) else 0)
                best = max(best or (0, 0, 0), (aside, front + 1, end))
    if not best or not best[0]:
        return None
    _, first, last = best
    before = int(until[first - 1]) if first else 0
    return Body(int(days[first]), int(days[last]), before, total - int(until[last]))
