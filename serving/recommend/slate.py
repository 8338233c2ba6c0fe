"""From a ranked list to the order in which it is shown: diversity, the time after a purchase, new arrivals."""

import numpy as np

from features.ranking.snapshot import Snapshot
from models.interface import Ranking

ARRIVALS = "arrivals"


def arranged(
    ranking: Ranking,
    snapshot: Snapshot,
    limit: int,
    diversity: float = 0,
    explore: float = 0,
    bought: np.ndarray | None = None,
    turn: int = 0,
) -> np.ndarray:
    """int64[items of the ranking]: its places in the order to show. What fills up stays behind what was ranked.

    `turn` says where the places of new arrivals begin: any number that differs among visitors.
    """
    order = np.arange(len(ranking.item_ids))
    if diversity:
        order[: ranking.ordered] = diverse(snapshot, ranking.positions[: ranking.ordered], limit, diversity)
    if bought is not None and len(bought):
        alike = _like(snapshot, bought)[ranking.positions[order]]
        order = np.concatenate([order[~alike], order[alike]])
    if explore:
        new = np.array([ARRIVALS in ranking.generators[n] for n in order], bool)
        if new.any():
            every = max(1, round(1 / explore))
            order = explored(order, new, limit, every, turn % every)
    return order


def diverse(snapshot: Snapshot, positions: np.ndarray, limit: int, diversity: float) -> np.ndarray:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): places of `positions`, the first `limit` rearranged.

    Relevance falls evenly with the place; two items are alike by 1 in one category, 1/2 in one department, and by
    1/4 more of one brand.
    """
    n = len(positions)
    relevance = 1 - np.arange(n) / max(n, 1)
    nearest, open_ = np.zeros(n), np.ones(n, bool)
    category, department, brand = (of[positions] for of in (snapshot.categories, snapshot.departments, snapshot.brands))
    first = []
    for _ in range(min(limit, n)):
        worth = (1 - diversity) * relevance - diversity * nearest
        pick = int(np.argmax(np.where(open_, worth, -np.inf)))
        open_[pick] = False
        first.append(pick)
        alike = np.where(category == category[pick], 1.0, np.where(department == department[pick], 0.5, 0.0))
        alike[category < 0] = 0.0
        alike += np.where((brand == brand[pick]) & (brand >= 0), 0.25, 0.0)
        nearest = np.maximum(nearest, alike)
    return np.concatenate([np.array(first, np.int64), np.flatnonzero(open_)])


def explored(order: np.ndarray, new: np.ndarray, limit: int, every: int, since: int = 0) -> np.ndarray:
    """`order` with new arrivals (bool, one per entry) at each `every`-th place, where those above have none.

    `since`: how many places without one came before; where that differs, short lists have their share, too.
    """
    rest, fresh = list(order[~new]), list(order[new])
    # What ranks high enough of itself keeps its place and counts.
    out: list[int] = []
    ranked = {int(n): place for place, n in enumerate(order)}
    while rest or fresh:
        due = fresh and (not rest or ranked[int(fresh[0])] < ranked[int(rest[0])])
        owed = fresh and since >= every - 1 and len(out) < limit
        take = fresh.pop(0) if due or owed else rest.pop(0)
        since = 0 if due or owed else since + 1
        out.append(int(take))
    return np.array(out, np.int64)


def _like(snapshot: Snapshot, bought: np.ndarray) -> np.ndarray:
    """bool[items]: what shares a category with something bought."""
    categories = snapshot.categories[bought]
    alike: np.ndarray = np.isin(snapshot.categories, categories[categories >= 0])
    return alike
