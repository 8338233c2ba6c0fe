"""Buy it again: what the customer bought, carted or viewed before, and what this visit has touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from features.common.arrays import AnyArray, Int64Array
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.protocol import Arrays, CandidateGenerator, NamedScore
from models.candidates.scores import SparseScores
from models.candidates.user_profile import profile_items, visitor_pair_weights


@dataclass(frozen=True)
class BuyAgain(CandidateGenerator[None]):
    """It learns nothing: the snapshot's histories and the visit are all it reads."""

    key = "buy_again"
    position = 1
    named_scores = (
        NamedScore("history", "own history with the product", "history"),
        NamedScore("visit", "this visit", "visit"),
    )

    @classmethod
    def fit(cls, snapshot: Snapshot, config: None = None) -> Self:
        return cls()

    def refit_to(self, snapshot: Snapshot, items: Int64Array) -> Self:
        return self

    def scores(self, name: str, snapshot: Snapshot, visitors: Visitors) -> SparseScores:
        """`history`: decayed by orders since plus decayed by time since; the first suits frequent buyers, the second
        the others. `visit`: the strongest and latest events first."""
        n_items = len(snapshot.items)
        if name == "visit":
            query, item, weight = profile_items(snapshot, visitors, "visit")
            return SparseScores.from_entries(query, item, weight, len(visitors), n_items)
        h = snapshot.history
        query, position = visitors.pairs(h)
        value = h.column("bought_by_basket")[position] + visitor_pair_weights(snapshot, visitors)
        return SparseScores(query * n_items + h.items[position], value, len(visitors), n_items)

    def arrays(self) -> Arrays:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        return cls()
