"""Erased customers: what a snapshot still has of them is left out of answers until another snapshot is built.

The event store holds the hashes of erased ids. Every worker process reads them a few times a second and hides the
customers in the active snapshot, where they are found no longer: they are answered as unknown visitors. The one that
answers `POST /v1/customers/erase` does so before it responds.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as TooLate

from features.ranking.snapshot import Snapshot
from serving.event_store import EventStore, StoreUnavailable
from serving.recommend.item_overrides import POLL_EVERY_S

log = logging.getLogger("usual.events")

_BUDGET_S, _FIRST_BUDGET_S = 0.5, 2.0


class ErasedCustomers:
    """Hides erased customers in the snapshot that `active` returns, and in those given to `hide_in`."""

    def __init__(self, store: EventStore | None, active: Callable[[], Snapshot]) -> None:
        self._store, self._active = store, active
        self._hashes: Sequence[int] = ()
        self._hidden_in: tuple[Snapshot, int] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Hide those whom the store has, then follow it. Blocks for two seconds at most."""
        if self._store is None:
            return
        self.update(_FIRST_BUDGET_S)
        self._thread = threading.Thread(target=self._follow, name="erased customers", daemon=True)
        self._thread.start()

    def hide_in(self, snapshot: Snapshot) -> None:
        """Hide all who are known to be erased in a snapshot that is to be active."""
        if self._hashes:
            snapshot.customers.hide(self._hashes)

    def update(self, within_s: float = _BUDGET_S) -> None:
        """Read from the store who is erased by now, and hide them; while it is unavailable the last state counts."""
        if self._store is None:
            return
        try:
            hashes = self._store.erased(len(self._hashes)).result(within_s)
        except (StoreUnavailable, TooLate):  # logged where the connection is made
            hashes = None
        if hashes is not None:
            self._hashes = hashes
        snapshot = self._active()
        done = (snapshot, len(self._hashes))
        if self._hidden_in is None or self._hidden_in[0] is not done[0] or self._hidden_in[1] != done[1]:
            self.hide_in(snapshot)
            self._hidden_in = done

    def close(self) -> None:
        """Stop following."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(2 * _BUDGET_S)

    def _follow(self) -> None:
        while not self._closed.wait(POLL_EVERY_S):
            try:
                self.update()
            except Exception as error:  # a thread that ends would leave this worker behind for good
                log.error("erased customers could not be read: %s", type(error).__name__)
