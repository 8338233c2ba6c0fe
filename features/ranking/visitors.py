"""Visitors: a batch of visitors with the events of their current visits, as recommenders see them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from features.common.arrays import BoolArray, Float32Array, FloatArray, Int64Array, IntArray, UInt8Array
from features.common.clock import SECOND
from features.event_log.schema import EventName
from features.ranking.pair_index import find_keys, look_up
from features.ranking.stated_preferences import NOTHING_STATED, StatedPreferences
from features.tables.history import Histories

MOST_RECENT = 50  # events of a visit that count

# The events that make up a visit, and how strongly each signals interest in its item. An item list, a refund and a
# login say nothing about the subject of the visit.
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


# The fields after `customers` of visitors without events.
_NO_INTS, _NO_FLOATS = np.zeros(0, np.int64), np.zeros(0, np.float32)
_NO_EVENTS = (_NO_INTS, _NO_INTS, np.zeros(0, np.uint8), _NO_FLOATS, _NO_FLOATS, _NO_INTS, _NO_FLOATS)
_Index = slice | Int64Array
_T = TypeVar("_T")


@dataclass(frozen=True)
class Visitors:
    """Visitors by position in a snapshot, and the events of their current visit.

    `customers` int64[n]: row in the snapshot's customers, -1 for someone it does not know. The others hold one
    entry per event, at most `MOST_RECENT` a visitor, sorted by query, oldest first:
    `query`: whose (0…n-1); `item`: which item, -1 for none (a search) or one that the snapshot does not know; `kind`:
    code of the event's name in `KIND`; `age`: seconds before the request; `price`: of a unit, as shown or paid, NaN
    (as `age`) where it is not known; `back`: how many of the visitor's events came after it; `weight`: how strongly
    it signals interest in the item.
    `stated`: what the visitors said they like, in the snapshot and since.
    """

    customers: Int64Array
    query: Int64Array
    item: Int64Array
    kind: UInt8Array
    age: Float32Array
    price: Float32Array
    back: Int64Array
    weight: Float32Array
    stated: StatedPreferences = NOTHING_STATED
    _cache: dict[Hashable, tuple[object, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_customers(cls, customers: Int64Array, stated: StatedPreferences = NOTHING_STATED) -> "Visitors":
        """Visitors without events of a current visit."""
        return cls(customers.astype(np.int64), *_NO_EVENTS, stated)

    @classmethod
    def from_events(
        cls,
        customers: Int64Array,
        query: Int64Array,
        item: Int64Array,
        kind: UInt8Array | IntArray,
        age: FloatArray | IntArray | None = None,
        price: FloatArray | None = None,
        stated: StatedPreferences = NOTHING_STATED,
    ) -> "Visitors":
        """Visitors with events, sorted by query, oldest first; the last `MOST_RECENT` of each visitor are kept."""
        unknown = np.full(len(query), np.nan, np.float32)
        ends = np.cumsum(np.bincount(query, minlength=len(customers)))
        back = ends[query] - 1 - np.arange(len(query)) if len(query) else query
        keep = back < MOST_RECENT
        query, code = query[keep], kind[keep].astype(np.uint8)
        # The items of a search result were not chosen by the visitor.
        item = np.where(code == KIND["search"], -1, item[keep])
        return cls(
            customers.astype(np.int64),
            query,
            item,
            code,
            (unknown if age is None else age.astype(np.float32))[keep],
            (unknown if price is None else price.astype(np.float32))[keep],
            back[keep],
            _weights(query, item, code),
            stated,
        )

    def __len__(self) -> int:
        return len(self.customers)

    def once(self, name: Hashable, source: object, compute: Callable[[], _T]) -> _T:
        """Return `compute()`, cached under `name` until `source` is another: generators share intermediate results."""
        entry = self._cache.get(name)
        if entry is None or entry[0] is not source:
            entry = self._cache[name] = source, compute()
        value: _T = entry[1]
        return value

    def pairs(self, history: Histories) -> tuple[Int64Array, Int64Array]:
        """Return `history.gather` of the customers: (query, position in the history)."""
        return self.once("pairs", history, lambda: history.gather(self.customers))

    def find(self, history: Histories, query: Int64Array, item: Int64Array) -> Int64Array:
        """Return the position in the history of each visitor's pair with `item`, int64[len(query)]; -1 for none."""
        customer_query, position = self.pairs(history)
        if not len(position):
            return np.full(len(query), -1)
        keys = self.once("keys", history, lambda: (customer_query << 32) + history.items[position])
        return look_up(keys, position, (query << 32) + item, -1)

    def slice(self, start: int, stop: int) -> "Visitors":
        """Return those from `start` up to `stop`."""
        if start == 0 and stop >= len(self):
            return self
        a, b = np.searchsorted(self.query, [start, stop])
        c, d = np.searchsorted(self.stated.query, [start, stop])
        stated = self.stated.take(np.s_[c:d], self.stated.query[c:d] - start)
        return self._part(np.s_[start:stop], np.s_[a:b], self.query[a:b] - start, stated)

    def only(self, rows: Int64Array) -> "Visitors":
        """Return those at `rows` (rising)."""
        if len(rows) == len(self):
            return self
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        events = np.flatnonzero(place[self.query] >= 0)
        entries = np.flatnonzero(place[self.stated.query] >= 0)
        stated = self.stated.take(entries, place[self.stated.query[entries]])
        return self._part(rows, events, place[self.query[events]], stated)

    @property
    def active(self) -> BoolArray:
        """bool[n]: whether the visit has any event yet."""
        return np.bincount(self.query, minlength=len(self)) > 0

    def _part(self, rows: _Index, events: _Index, query: Int64Array, stated: StatedPreferences) -> "Visitors":
        return Visitors(
            self.customers[rows],
            query,
            self.item[events],
            self.kind[events],
            self.age[events],
            self.price[events],
            self.back[events],
            self.weight[events],
            stated,
        )


def age_seconds(now: int | Int64Array, t: Int64Array) -> Float32Array:
    """Return the seconds from `t` to `now`, both in microseconds, as float32: training and serving round alike."""
    return ((now - t) / SECOND).astype(np.float32)


def _weights(query: Int64Array, item: Int64Array, kind: UInt8Array) -> Float32Array:
    """Return the weight of each event: that of its kind, save that a removal takes back the carts before it.

    An item that was put in the cart and removed again was looked at and is of no more interest: these carts count as
    views. A removal has weight 0 and not less: people often swap an item for a similar one, and a negative weight
    would push similar items away.
    """
    weight = _WEIGHTS[kind]
    rows = np.flatnonzero(kind == KIND["remove_from_cart"])
    if len(rows):
        key = query * (item.max() + 2) + item + 1
        removed, newest = np.unique(key[rows][::-1], return_index=True)
        last = rows[::-1][newest]
        slot, hit = find_keys(removed, key)
        revoked = hit & (np.arange(len(key)) < last[slot]) & (kind == KIND["add_to_cart"])
        weight[revoked] = VISIT_EVENTS["view_item"]
    return weight
