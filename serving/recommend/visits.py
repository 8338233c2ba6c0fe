"""What visitors have just done, from the event store to what the recommenders are told."""

from collections.abc import Sequence

from features.common.clock import SECOND, now
from features.ranking.visitors import MOST_RECENT
from models.interface import SessionEvent
from serving.event_store import EventStore, StoreUnavailable, Touch, Visitor

_MOST = 4 * MOST_RECENT  # more than rankers look at: what was bought before that is still not to be pushed


class Visits:
    """Reads the events since the snapshot's instant `since` (microseconds), within `budget_s` seconds."""

    def __init__(self, store: EventStore, since: int, budget_s: float) -> None:
        self._store, self._since, self._budget_s = store, since, budget_s

    def read(self, visitors: Sequence[Visitor | None], within_s: float | None = None) -> list[tuple[SessionEvent, ...]]:
        """The visit of each up to now, nothing for None: one read for all. Raises StoreUnavailable."""
        asked = {visitor: n for n, visitor in enumerate(dict.fromkeys(v for v in visitors if v is not None))}
        if not asked:
            return [() for _ in visitors]
        at = now()
        found = self._store.visits(list(asked), self._since, at, within_s or self._budget_s, _MOST)
        return [() if v is None else seen(found[asked[v]], at) for v in visitors]

    def warm_up(self) -> None:
        """Connect, if the store is there; else the first requests find that it is not."""
        try:
            self.read([Visitor(None, "")], within_s=2)
        except StoreUnavailable:
            return


def seen(visit: Sequence[Touch], at: int) -> tuple[SessionEvent, ...]:
    """A visit as recommenders are told of it at `at` (microseconds)."""
    return tuple(SessionEvent(t.item_id or "", t.name, (at - t.t) / SECOND, t.price) for t in visit)  # type: ignore[arg-type]
