"""Item overrides: availability and prices that shops set between two snapshots, as the event store has them.

Every worker process reads the store's changes a few times a second, so that a change takes effect everywhere
within one. While the store is unavailable the last state counts; it is caught up with afterwards.
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
_BUDGET_S = 0.5  # of one poll; what comes later is applied at a later poll
_FIRST_BUDGET_S = 2.0  # of the full read before the first answer


class ItemOverride(NamedTuple):
    """What the shop set for an item; None: not set, so the snapshot counts."""

    available: bool | None
    price: float | None


@dataclass(frozen=True)
class OverridesState:
    """All overrides as of one version of the store. Immutable: a new state replaces it."""

    version: int
    items: MappingProxyType[str, ItemOverride]


_EMPTY = OverridesState(0, MappingProxyType({}))


class ItemOverrides:
    """Keeps `state` as the store has it; any thread may read it. Without a store it stays empty."""

    def __init__(self, store: EventStore | None) -> None:
        self.state = _EMPTY
        self._store = store
        self._apply_lock = threading.Lock()
        self._late: Future[ItemChanges] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load everything, if the store is there, then poll for changes. Blocks for two seconds at most."""
        if self._store is None:
            return
        self._poll(_FIRST_BUDGET_S)
        self._thread = threading.Thread(target=self._poll_regularly, name="item overrides", daemon=True)
        self._thread.start()

    def apply(self, changes: ItemChanges) -> None:
        """Apply changes read from the store; those of a version that is not newer are ignored."""
        with self._apply_lock:
            state = self.state
            reset = changes.everything and changes.since == state.version
            if changes.version <= state.version and not reset:
                return
            items = {} if reset else state.items.copy()  # fifty times as fast as dict(…)
            for item_id, available, price in changes.rows:
                if available is None and price is None:
                    items.pop(item_id, None)
                else:
                    items[item_id] = ItemOverride(available, price)
            self.state = OverridesState(changes.version, MappingProxyType(items))

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(2 * _BUDGET_S)

    def _poll_regularly(self) -> None:
        while not self._closed.wait(POLL_EVERY_S):
            try:
                self._poll(_BUDGET_S)
            except Exception as error:  # a thread that ends would leave this worker behind for good
                log.error("changes of items could not be read: %s", type(error).__name__)

    def _poll(self, within_s: float) -> None:
        assert self._store is not None  # noqa: S101
        read = self._late or self._store.item_changes(self.state.version)
        try:
            changes = read.result(within_s)
        except TooLate:
            self._late = read  # it still hangs; another would only wait behind it
            return
        except StoreUnavailable:  # logged where the connection is made
            self._late = None
            return
        except BaseException:
            self._late = None
            raise
        self._late = None
        self.apply(changes)
