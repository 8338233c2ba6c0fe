"""A batch of visitors, as the recommenders see them."""

from dataclasses import dataclass

import numpy as np

# The events of a visit that say what it is about, and how strongly.
VISIT_EVENTS = {"view_item": 1.0, "add_to_cart": 2.0, "purchase": 3.0}


@dataclass(frozen=True)
class Visitors:
    """Visitors by position in a snapshot, and what their current visit has touched.

    `customers` int64[n]: row in the snapshot's customers, -1 for someone it does not know.
    `query`, `item`, `weight`, `back`: one entry per event of the visit: whose (0…n-1), which item, the
    weight of its type, how many of the visitor's events came after it. Sorted by query, oldest first.
    """

    customers: np.ndarray
    query: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    back: np.ndarray

    @classmethod
    def of_customers(cls, customers: np.ndarray) -> "Visitors":
        """Visitors of whose current visit nothing is known."""
        return cls.of(customers, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))

    @classmethod
    def of(cls, customers: np.ndarray, query: np.ndarray, item: np.ndarray, weight: np.ndarray) -> "Visitors":
        """From events sorted by query, oldest first."""
        ends = np.cumsum(np.bincount(query, minlength=len(customers)))
        back = ends[query] - 1 - np.arange(len(query)) if len(query) else query
        return cls(customers.astype(np.int64), query, item, weight.astype(np.float32), back)

    def __len__(self) -> int:
        return len(self.customers)

    def slice(self, start: int, stop: int) -> "Visitors":
        a, b = np.searchsorted(self.query, [start, stop])
        return Visitors(
            self.customers[start:stop],
            self.query[a:b] - start,
            self.item[a:b],
            self.weight[a:b],
            self.back[a:b],
        )
