"""The active model: what serves, and all that belongs to it, so that a swap replaces one reference."""

import numpy as np

from features.common.arrays import Float32Array, Int64Array
from features.common.clock import DAY, parse
from features.tables.history import COLUMN as HISTORY
from models.interface import RankingRequest, RankingRules, Recommender
from serving.event_store import EventStore
from serving.recommend.availability import Availability
from serving.recommend.item_overrides import OverridesState
from serving.recommend.visits import VisitReader


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
        self.as_of = parse(str(info["as_of"]))
        self.description = {**info, "version": version}
        self.identity = {"name": info["name"], "version": version, "snapshot": info["as_of"]}
        self.availability = Availability(self.snapshot)
        self.overrides_version = 0  # of the overrides that `availability` has applied
        self.visits = None if store is None else VisitReader(store, self.as_of, budget_s)

    def warm_up(self) -> None:
        """Page the bundle in, by ranking for an unknown visitor and for one who views products."""
        (popular,) = self.recommender.recommend([RankingRequest(limit=12)])
        recent = tuple((i, "view_item") for i in popular.item_ids[:3])
        rules = RankingRules(allowed=self.availability.available, reserve=20)
        self.recommender.recommend([RankingRequest(limit=12, recent=recent, rules=rules)])  # type: ignore[arg-type]
        if self.visits is not None:
            self.visits.warm_up()

    def apply_overrides(self, state: OverridesState) -> None:
        """Apply what the shop set for its items since the bundle was built."""
        self.availability.apply(state.items)
        self.overrides_version = state.version

    def title(self, item_id: str) -> str | None:
        """The catalog's title of an item; None where it has none."""
        (at,) = self.snapshot.items.find([item_id])
        return self.availability.titles[int(at)].as_py() if at >= 0 else None

    def purchases(self, customer_id: str | None, now: int) -> tuple[Int64Array, Float32Array]:
        """Look up what a customer bought before the snapshot.

        Returns the positions of the items, and the days from the last purchase of each to `now` (microseconds).
        """
        s = self.snapshot
        (customer,) = s.customers.find([customer_id or ""])
        if customer < 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        rows = slice(int(s.history.indptr[customer]), int(s.history.indptr[customer + 1]))
        days_ago = s.history.values[rows, HISTORY["bought_last_days"]] + (now - self.as_of) / DAY
        bought = ~np.isnan(days_ago)
        return s.history.items[rows][bought].astype(np.int64), days_ago[bought]
