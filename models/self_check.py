"""Self check: whether a recommender can answer at all, tried on a few visitors before it is promoted or served.

A model whose catalog and events do not speak of the same items, or whose items are all unavailable, trains and measures
well, and then answers everybody with an empty list. So some customers and an unknown visitor are ranked for, with what
may be shown now, and the lists are counted.
"""

from dataclasses import dataclass

import numpy as np

from features.common.arrays import BoolArray
from features.ranking.snapshot import Snapshot
from models.availability import catalog_available
from models.interface import RankingRequest, RankingRules, Recommender

LIMIT = 10  # items that each visitor is asked for
RECENT = ("views_28d", "carts_28d", "buyers_28d")


@dataclass(frozen=True)
class SelfCheck:
    """What a sample of visitors was answered.

    `empty`: of them, those with an empty list; `filled`: items given, as a share of those asked for, at most as many as
    the catalog has. `items`: of the catalog, `available`: of them, those that may be shown. `available_share`: share of
    what was viewed, put into carts and bought in the last 28 days that may be shown; None where nothing was.
    """

    visitors: int
    empty: int
    filled: float
    items: int
    available: int
    available_share: float | None

    @property
    def empty_share(self) -> float:
        """Share of the visitors with an empty list."""
        return self.empty / self.visitors if self.visitors else 0.0

    @property
    def problem(self) -> str | None:
        """Why the recommender cannot serve anybody; None if it can."""
        if self.visitors and self.empty == self.visitors:
            if not self.available:
                return (
                    f"every answer is empty: none of the {self.items:,} items is available. Correct the column "
                    "`available` of the catalog"
                )
            return f"every answer is empty, although {self.available:,} of {self.items:,} items are available"
        return None


def check_answers(recommender: Recommender, visitors: int, allowed: BoolArray | None = None) -> SelfCheck:
    """Rank for an unknown visitor and at most `visitors` customers, spread evenly, in one call.

    `allowed` bool[items]: what may be shown; default: what the snapshot's catalog has as available.
    """
    snapshot = recommender.snapshot
    mask = catalog_available(snapshot) if allowed is None else allowed
    rules, customers = RankingRules(allowed=allowed), sample_customers(snapshot, visitors)
    rankings = recommender.recommend([RankingRequest(LIMIT, customer, rules=rules) for customer in [None, *customers]])
    sizes = [min(LIMIT, len(ranking.item_ids)) for ranking in rankings]
    most = max(1, min(LIMIT, len(mask)))
    return SelfCheck(
        visitors=len(sizes),
        empty=sizes.count(0),
        filled=sum(sizes) / (most * len(sizes)) if sizes else 0.0,
        items=len(mask),
        available=int(mask.sum()),
        available_share=measure_available_share(snapshot, mask),
    )


def sample_customers(snapshot: Snapshot, most: int) -> list[str]:
    """Return at most `most` customers, spread evenly over all."""
    total = len(snapshot.customers)
    count = min(most, total)
    return snapshot.customers.at(np.arange(count, dtype=np.int64) * total // max(count, 1))


def measure_available_share(snapshot: Snapshot, allowed: BoolArray) -> float | None:
    """Return the share of the items' recent activity that is of items allowed; None without any activity."""
    activity = np.zeros(len(allowed))
    for name in RECENT:
        activity += np.nan_to_num(snapshot.item(name).astype(np.float64))
    total = float(activity.sum())
    return float(activity[allowed].sum()) / total if total else None
