"""A batch of visitors, as the recommenders see them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from features.common.clock import SECOND
from features.event_log.schema import EventName
from features.tables.history import Histories

MOST_RECENT = 50  # events of a visit that are looked at

# What a visit is made of, and how much each says that its item is wanted. A list that was shown, a refund and
# a login say nothing of what the visit is about.
VISIT_EVENTS: dict[EventName, float] = {
    "search": 0.0,
    "view_cart": 0.0,
    "begin_checkout": 0.0,
    "remove_from_cart": 0.0,
    "select_item": 0.5,
    "view_item": 1.0,
    "add_to_wishlist": 1.5,
    "add_to_cart": 2.0,
    "purchase": 3.0,
}
KIND: dict[EventName, int] = {name: code for code, name in enumerate(VISIT_EVENTS)}
_WEIGHTS = np.array(list(VISIT_EVENTS.values()), np.float32)


# The fields after `customers` where there is no event.
_NOTHING = tuple(np.zeros(0, t) for t in (np.int64, np.int64, np.uint8, np.float32, np.float32, np.int64, np.float32))
_Index = slice | np.ndarray
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Visitors:
    """Visitors by position in a snapshot, and the events of their current visit.

    `customers` int64[n]: row in the snapshot's customers, -1 for someone it does not know. The others hold one
    entry per event, at most `MOST_RECENT` a visitor, sorted by query, oldest first:
    `query` int64: whose (0…n-1); `item` int64: which item, -1 for none (a search) or one that the snapshot
    does not know; `kind` uint8: code of the event's name in `KIND`; `age` float32: seconds before the request;
    `price` float32: of a unit, as seen or paid, NaN (as `age`) where it is not known; `back` int64: how many of
    the visitor's events came after it; `weight` float32: how much it says that the item is wanted.
    """

    customers: np.ndarray
    query: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    age: np.ndarray
    price: np.ndarray
    back: np.ndarray
    weight: np.ndarray
    _made: dict[Hashable, tuple[object, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_customers(cls, customers: np.ndarray) -> "Visitors":
        """Visitors of whose current visit nothing is known."""
        return cls(customers.astype(np.int64), *_NOTHING)

    @classmethod
    def of(
        cls,
        customers: np.ndarray,
        query: np.ndarray,
        item: np.ndarray,
        kind: np.ndarray,
        age: np.ndarray | None = None,
        price: np.ndarray | None = None,
    ) -> "Visitors":
        """From events sorted by query, oldest first; of each visitor's the last `MOST_RECENT` are kept."""
        unknown = np.full(len(query), np.nan, np.float32)
        ends = np.cumsum(np.bincount(query, minlength=len(customers)))
        back = ends[query] - 1 - np.arange(len(query)) if len(query) else query
        keep = back < MOST_RECENT
        query, kind = query[keep], kind[keep].astype(np.uint8)
        item = np.where(kind == KIND["search"], -1, item[keep])  # what a search found was not chosen by the visitor
        return cls(
            customers.astype(np.int64),
            query,
            item,
            kind,
            (unknown if age is None else age.astype(np.float32))[keep],
            (unknown if price is None else price.astype(np.float32))[keep],
            back[keep],
            _weights(query, item, kind),
        )

    def __len__(self) -> int:
        return len(self.customers)

    def once(self, what: Hashable, of: object, make: Callable[[], _Made]) -> _Made:
        """`make()`, remembered under the name `what` until it is asked for another `of`: generators share what they
        begin with."""
        found = self._made.get(what)
        if found is None or found[0] is not of:
            found = self._made[what] = of, make()
        made: _Made = found[1]
        return made

    def pairs(self, history: Histories) -> tuple[np.ndarray, np.ndarray]:
        """`history.gather` of the customers."""
        return self.once("pairs", history, lambda: history.gather(self.customers))

    def find(self, history: Histories, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """int64[len(query)]: which pair of the history each visitor and item are, -1 where they are none."""
        whose, position = self.pairs(history)
        if not len(position):
            return np.full(len(query), -1)
        keys = self.once("keys", history, lambda: (whose << 32) + history.items[position])
        wanted = (query << 32) + item
        at = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, position[at], -1)

    def slice(self, start: int, stop: int) -> "Visitors":
        if start == 0 and stop >= len(self):
            return self
        a, b = np.searchsorted(self.query, [start, stop])
        return self._part(np.s_[start:stop], np.s_[a:b], self.query[a:b] - start)

    def only(self, rows: np.ndarray) -> "Visitors":
        """Those at `rows` (rising)."""
        if len(rows) == len(self):
            return self
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        mine = np.flatnonzero(place[self.query] >= 0)
        return self._part(rows, mine, place[self.query[mine]])

    @property
    def active(self) -> np.ndarray:
        """bool[n]: whether the visit has said anything yet."""
        return np.bincount(self.query, minlength=len(self)) > 0

    def _part(self, rows: _Index, events: _Index, query: np.ndarray) -> "Visitors":
        kept = (self.item, self.kind, self.age, self.price, self.back, self.weight)
        return Visitors(self.customers[rows], query, *(array[events] for array in kept))


def age_seconds(now: int | np.ndarray, t: np.ndarray) -> np.ndarray:
    """float32: seconds from `t` to `now`, both in microseconds. Training and serving round alike by this."""
    return ((now - t) / SECOND).astype(np.float32)


def _weights(query: np.ndarray, item: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """float32: the weight of each event's kind, save that a removal takes back the carts before it.

    What was put in the cart and taken out again was looked at and is not wanted: these carts count as views.
    A removal has weight 0 and not less: people often swap an item for one that is like it, and less than
    nothing would push away just the items that are like it.
    """
    weight = _WEIGHTS[kind]
    rows = np.flatnonzero(kind == KIND["remove_from_cart"])
    if len(rows):
        key = query * (item.max() + 2) + item + 1
        removed, newest = np.unique(key[rows][::-1], return_index=True)
        last = rows[::-1][newest]
        at = np.minimum(np.searchsorted(removed, key), len(removed) - 1)
        taken_back = (removed[at] == key) & (np.arange(len(key)) < last[at]) & (kind == KIND["add_to_cart"])
        weight[taken_back] = VISIT_EVENTS["view_item"]
    return weight
