"""A queue that is fair among senders: each gets the same share, counted by what its requests cost.

Self-clocked fair queueing (Golestani 1994): a place is the virtual time at which a request would be done if its sender
had a server of its own. A sender with many requests, or costly ones, waits behind its own; one with a single
plain request is next. A sender alone gets first come, first served.
"""

from bisect import insort
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(order=True, slots=True)
class _Place(Generic[T]):
    finish: float
    number: int
    cost: float = field(compare=False)
    item: T = field(compare=False)


class FairQueue(Generic[T]):
    """Holds at most `capacity` items. Not thread-safe: it belongs to one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._places: list[_Place[T]] = []
        self._finish: dict[Hashable, float] = {}  # of each sender's last request
        self._now = 0.0  # virtual
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._places)

    def push(self, item: T, sender: Hashable = None, cost: float = 1.0) -> T | None:
        """Add an item; return the one that finds no place: the last in the order, which may be this one."""
        place = _Place(max(self._now, self._finish.get(sender, 0.0)) + cost, self._pushed, cost, item)
        self._pushed += 1
        out = None
        if len(self._places) >= self._capacity:
            if not self._places or self._places[-1] < place:
                return item
            out = self._places.pop().item
        insort(self._places, place)
        self._finish[sender] = place.finish
        if len(self._finish) > 4 * self._capacity + 16:
            self._finish = {s: f for s, f in self._finish.items() if f > self._now}
        return out

    def cost_before(self, sender: Hashable = None, cost: float = 1.0) -> float:
        """What would be served before a request of `sender` that costs as much."""
        finish = max(self._now, self._finish.get(sender, 0.0)) + cost
        return sum(place.cost for place in self._places if place.finish <= finish)

    @property
    def next_cost(self) -> float:
        """What the first item costs."""
        return self._places[0].cost

    def pop(self) -> T:
        """Remove the first item."""
        place = self._places.pop(0)
        self._now = max(self._now, place.finish)
        if not self._places:  # nobody waits: nobody owes anybody
            self._now, self._finish = 0.0, {}
        return place.item

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Remove every item that is not `wanted`."""
        self._places = [place for place in self._places if wanted(place.item)]

    def drain(self) -> list[T]:
        """Remove and return everything, in order."""
        items = [place.item for place in self._places]
        self._places, self._finish, self._now = [], {}, 0.0
        return items
