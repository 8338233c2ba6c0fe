"""Buy it again: what the customer has bought, carted or viewed, recent and frequent first."""

from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.scores import Sparse
from models.candidates.user_profile import asked, tastes


def visited(snapshot: Snapshot, visitors: Visitors) -> Sparse:
    """What this visit has touched, the strongest and latest touches first."""
    query, item, weight = asked(snapshot, visitors, "visit")
    return Sparse.summed(query, item, weight, len(visitors), len(snapshot.items))


def scores(snapshot: Snapshot, visitors: Visitors) -> Sparse:
    """Decayed by orders since and by time since: the first is right for frequent buyers, the second for others."""
    h = snapshot.history
    query, position = visitors.pairs(h)
    value = h.column("bought_by_basket")[position] + tastes(snapshot, visitors)
    return Sparse(query * len(snapshot.items) + h.items[position], value, len(visitors), len(snapshot.items))
