"""The active model: what serves, and all that belongs to it, so that a swap replaces one reference."""

from functools import cached_property

import numpy as np

from features.common.arrays import Float32Array, Int64Array
from features.common.clock import DAY, parse
from features.tables.history import COLUMN as HISTORY
from models.customers.predictions import CustomerPredictions
from models.interface import RankingRequest, RankingRules, Recommender, SessionEvent
from models.self_check import SelfCheck, check_answers
from serving.event_store import EventStore
from serving.recommend.availability import Availability
from serving.recommend.item_overrides import OverridesState
from serving.recommend.visits import VisitReader

_CHECKED_CUSTOMERS = 7  # whose answers tell whether a model can answer at all


class ActiveModel:
    """A recommender with its registered version, the availability of its items, and the visits since its snapshot.

    `visits` is None without an event store; `budget_s`: how long one read of visits may take.
    """

    def __init__(
        self, recommender: Recommender, version: str | None, store: EventStore | None = None, budget_s: float = 0.05
    ) -> None:
        info = recommender.info
        self.recommender = recommender
        self.version = version
        self.snapshot = recommender.snapshot
        self.predictions: CustomerPredictions | None = getattr(recommender, "predictions", None)
        self.as_of = parse(str(info["as_of"]))
        self.description = {**info, "version": version}
        self.identity = {"name": info["name"], "version": version, "snapshot": info["as_of"]}
        self.availability = Availability(self.snapshot)
        self.overrides_version = 0  # of the overrides that `availability` has applied
        self.visits = None if store is None else VisitReader(store, self.as_of, budget_s)
        self._check: SelfCheck | None = None
        self._last = ("", 0, -1)  # the customer who was looked up last, among how many hidden ones, and the position

    def warm_up(self) -> None:
        """Page the bundle in, by ranking for customers, an unknown visitor, and one who views products.

        What they are answered is the self check, whose result is in `problem`.
        """
        self._check = check_answers(self.recommender, _CHECKED_CUSTOMERS, self.availability.available)
        viewed = self.snapshot.items.at(np.flatnonzero(self.availability.available)[:3])
        recent = tuple(SessionEvent(i, "view_item") for i in viewed)
        rules = RankingRules(allowed=self.availability.available, reserve=20)
        self.recommender.recommend([RankingRequest(limit=12, recent=recent, rules=rules)])
        if self.visits is not None:
            self.visits.warm_up()

    @property
    def problem(self) -> str | None:
        """Why this model can answer nobody as things are; None if it can. Names no item and no customer."""
        if not self.availability.count:
            overrides = self.availability.unavailable_overrides
            store = f"; {overrides:,} were set unavailable by PATCH /v1/items since the snapshot" if overrides else ""
            items = f"{len(self.snapshot.items):,} items"
            return f"every answer is empty: none of the {items} of the model is available{store}"
        if self._check is not None and self._check.available:
            return self._check.problem
        return None

    def apply_overrides(self, state: OverridesState) -> None:
        """Apply what the shop set for its items since the bundle was built."""
        self.availability.apply(state.items)
        self.overrides_version = state.version

    @cached_property
    def best_sellers(self) -> Int64Array:
        """The positions of all items, best-selling first, available or not."""
        everything = np.ones(len(self.snapshot.items), bool)
        request = RankingRequest(len(everything), rules=RankingRules(allowed=everything))
        return self.recommender.recommend_without_ranker(request, "shortage").positions

    def find_customer(self, customer_id: str | None) -> int:
        """Return a customer's position in the snapshot, -1 for an unknown one; rules and plans ask for the same."""
        if not customer_id:
            return -1
        hidden = len(self.snapshot.customers.hidden)
        cached = self._last
        if cached[0] != customer_id or cached[1] != hidden:
            cached = self._last = customer_id, hidden, int(self.snapshot.customers.find([customer_id])[0])
        return cached[2]

    def title(self, item_id: str) -> str | None:
        """The catalog's title of an item; None where it has none."""
        (at,) = self.snapshot.items.find([item_id])
        return self.availability.titles[int(at)].as_py() if at >= 0 else None

    def purchases(self, customer_id: str | None, now: int) -> tuple[Int64Array, Float32Array]:
        """Look up what a customer bought before the snapshot.

        Returns the positions of the items, and the days from the last purchase of each to `now` (microseconds).
        """
        s = self.snapshot
        customer = self.find_customer(customer_id)
        if customer < 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        rows = slice(int(s.history.indptr[customer]), int(s.history.indptr[customer + 1]))
        days_ago = s.history.values[rows, HISTORY["bought_last_days"]] + (now - self.as_of) / DAY
        bought = ~np.isnan(days_ago)
        return s.history.items[rows][bought].astype(np.int64), days_ago[bought]
