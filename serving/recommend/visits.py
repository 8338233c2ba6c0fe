"""Visits: what visitors did since the snapshot, read from the event store as recommenders take it."""

from collections.abc import Sequence

from features.common import clock
from features.common.clock import SECOND
from features.ranking.visitors import MOST_RECENT
from models.interface import SessionEvent
from serving.event_store import EventStore, StoreUnavailable, VisitEvent
from serving.schemas.visitor import VisitorIds

# More than rankers look at: a purchase before those still decides what is left out.
_MAX_EVENTS = 4 * MOST_RECENT


class VisitReader:
    """Reads the events since the snapshot's instant `since` (microseconds), within `budget_s` seconds."""

    def __init__(self, store: EventStore, since: int, budget_s: float) -> None:
        self._store, self._since, self._budget_s = store, since, budget_s

    def read(
        self, visitors: Sequence[VisitorIds | None], within_s: float | None = None
    ) -> list[tuple[SessionEvent, ...]]:
        """Read the visit of each visitor up to now, oldest event first; empty for None. One query for all.

        Raises StoreUnavailable.
        """
        rows = {visitor: n for n, visitor in enumerate(dict.fromkeys(v for v in visitors if v is not None))}
        if not rows:
            return [() for _ in visitors]
        at = clock.now()
        visits = self._store.visits(list(rows), self._since, at, within_s or self._budget_s, _MAX_EVENTS)
        return [() if v is None else to_session_events(visits[rows[v]], at) for v in visitors]

    def warm_up(self) -> None:
        """Connect, if the store is there; else the first requests find that it is not."""
        try:
            self.read([VisitorIds(None, "")], within_s=2)
        except StoreUnavailable:
            return


def to_session_events(visit: Sequence[VisitEvent], at: int) -> tuple[SessionEvent, ...]:
    """Convert stored events to what recommenders take, with their age at `at` (microseconds)."""
    return tuple(
        SessionEvent(
            event.item_id or "",
            event.name,  # type: ignore[arg-type]
            (at - event.t) / SECOND,
            event.price,
            event.question,
            event.answer,
        )
        for event in visit
    )
