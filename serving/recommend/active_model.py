"""The model that is being served, and what belongs to it: swapped as one, by one reference."""

import numpy as np

from features.common.clock import DAY, parse
from features.tables.history import COLUMN as HISTORY
from models.interface import Recommender, Request, Rules
from serving.event_store import EventStore
from serving.recommend.availability import Shelf
from serving.recommend.item_overrides import OverlayState
from serving.recommend.visits import Visits


class Served:
    """A recommender, the version it is registered as, its items on the shelf, and the visits since its snapshot."""

    def __init__(
        self, recommender: Recommender, version: str | None, store: EventStore | None = None, budget_s: float = 0.05
    ) -> None:
        info = recommender.info
        self.recommender = recommender
        self.version = version
        self.snapshot = recommender.snapshot
        self.as_of = parse(str(info["as_of"]))
        self.description = {**info, "version": version}
        self.model = {"name": info["name"], "version": version, "snapshot": info["as_of"]}
        self.shelf = Shelf(self.snapshot)
        self.changes = 0  # the version of the overlay that the shelf is as of
        self.visits = None if store is None else Visits(store, self.as_of, budget_s)

    def warm_up(self) -> None:
        """Page the bundle in, by ranking for someone unknown and for someone who looks at a product."""
        (popular,) = self.recommender.recommend([Request(limit=12)])
        recent = tuple((i, "view_item") for i in popular.item_ids[:3])
        rules = Rules(allowed=self.shelf.available, more=20)
        self.recommender.recommend([Request(limit=12, recent=recent, rules=rules)])  # type: ignore[arg-type]
        if self.visits is not None:
            self.visits.warm_up()

    def change(self, state: OverlayState) -> None:
        """What the shop has said of its items since the bundle was made."""
        self.shelf.change(state.items)
        self.changes = state.version

    def title(self, item_id: str) -> str | None:
        """What the catalog calls an item."""
        (at,) = self.snapshot.items.find([item_id])
        return self.shelf.titles[int(at)].as_py() if at >= 0 else None

    def bought(self, customer_id: str | None, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of what a customer ever bought, and how many days before `now` (microseconds) last, as the
        snapshot knows."""
        s = self.snapshot
        (customer,) = s.customers.find([customer_id or ""])
        if customer < 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        rows = slice(int(s.history.indptr[customer]), int(s.history.indptr[customer + 1]))
        ago = s.history.values[rows, HISTORY["bought_last_days"]] + (now - self.as_of) / DAY
        ever = ~np.isnan(ago)
        return s.history.items[rows][ever].astype(np.int64), ago[ever]
