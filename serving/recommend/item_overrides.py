"""What shops say of items between two snapshots: availability and price, as the event store has them now.

Every worker process reads the store's changes a few times a second, so that a change takes effect everywhere
within one. A store that is away leaves what was known last, and is caught up with when it is back.
"""

import logging
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from serving.event_store import EventStore, ItemChanges, StoreUnavailable

log = logging.getLogger("usual.events")

POLL_EVERY_S = 0.25
_BUDGET_S = 0.5  # of one poll; what comes later is taken at a later one
_FIRST_BUDGET_S = 2.0  # of all there is, before the first answer


class ItemChange(NamedTuple):
    """What is said of an item; None: nothing, so the snapshot counts."""

    available: bool | None
    price: float | None


@dataclass(frozen=True)
class OverlayState:
    """All that is said of items as of one version of the store. Never changes; a new one takes its place."""

    version: int
    items: MappingProxyType[str, ItemChange]


_NOTHING = OverlayState(0, MappingProxyType({}))


class Overlay:
    """Keeps `now` as the store has it, which any thread may read. Without a store nothing is ever said of items."""

    def __init__(self, store: EventStore | None) -> None:
        self.now = _NOTHING
        self._store = store
        self._applying = threading.Lock()
        self._late: Future[ItemChanges] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load everything, if the store is there, then follow it. Blocks for two seconds at most."""
        if self._store is None:
            return
        self._poll(_FIRST_BUDGET_S)
        self._thread = threading.Thread(target=self._follow, name="overlay", daemon=True)
        self._thread.start()

    def apply(self, changes: ItemChanges) -> None:
        """Take over changes that were read from the store, if they are not known yet."""
        with self._applying:
            now = self.now
            anew = changes.everything and changes.since == now.version
            if changes.version <= now.version and not anew:
                return
            items = {} if anew else now.items.copy()  # fifty times as fast as dict(…)
            for item_id, available, price in changes.rows:
                if available is None and price is None:
                    items.pop(item_id, None)
                else:
                    items[item_id] = ItemChange(available, price)
            self.now = OverlayState(changes.version, MappingProxyType(items))

    def close(self) -> None:
        """Stop following."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(2 * _BUDGET_S)

    def _follow(self) -> None:
        while not self._closed.wait(POLL_EVERY_S):
            try:
                self._poll(_BUDGET_S)
            except Exception as error:  # a thread that ends would leave this worker behind for good
                log.error("changes of items could not be read: %s", type(error).__name__)

    def _poll(self, within_s: float) -> None:
        assert self._store is not None  # noqa: S101
        reading = self._late or self._store.item_changes(self.now.version)
        try:
            changes = reading.result(within_s)
        except TooLate:
            self._late = reading  # it still hangs; another would only wait behind it
            return
        except StoreUnavailable:  # logged where the connection is made
            self._late = None
            return
        except BaseException:
            self._late = None
            raise
        self._late = None
        self.apply(changes)
