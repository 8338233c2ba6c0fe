"""How many candidates each generator may propose: what the recipe says, or fewer where more bring nothing.

A candidate costs time at every request, so a generator's list should end where what it adds is hardly ever wanted. At
the latest `BOUNDARIES` boundaries whose labels end before the hold-out begins, it is counted how often what a
generator alone proposes, at each depth of its list, is wanted. The list is cut where wanted - `cut` x proposed is
largest, if beyond that point less than `cut` of it is wanted and that is no matter of chance. Neither the
hold-out nor anything after it is looked at, so the measured model has the budgets that are shipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from models.bundle import RECOMMENDERS, RecommenderName
from models.candidates.generators import GENERATORS, GeneratorName
from models.two_stage import TwoStageConfig, chunks, propose
from training.dataset.examples import Boundary
from training.recipe import Recipe

BOUNDARIES = 2  # held in memory together with those from there to the hold-out
QUERIES = 1500  # of a boundary: more would not move the cuts
LEAST: Mapping[GeneratorName, int] = {"popular": 20}
"""Where no list ends sooner; others not before 1. Best sellers are all that can be ranked for who has said nothing."""
BANDS = (0, 5, 10, 20, 40, 80)  # depths that a report tells apart
SCHEMA = {
    "generator": pl.String, "budget": pl.Int64, "kept": pl.Int64, "depth": pl.Int64, "proposed": pl.Int64,
    "wanted": pl.Int64, "alone": pl.Int64, "wanted_alone": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class Proposals:
    """n candidates of some queries: `depth` int16[n × generators], the place in each generator's own list, -1 where
    it does not propose the candidate; `wanted` bool[n]; of `queries` queries."""

    depth: np.ndarray
    wanted: np.ndarray
    queries: int

    @classmethod
    def of(cls, points: Sequence[Boundary], name: RecommenderName, budgets: Mapping[GeneratorName, int]) -> "Proposals":
        """What the generators of the boundaries propose to those who are asked about there."""
        depth, wanted, queries = [np.zeros((0, len(GENERATORS)), np.int16)], [np.zeros(0, bool)], 0
        for point in points:
            asked = point.asked[name].some(QUERIES)
            queries += len(asked)
            for start, batch in chunks(point.snapshot, asked.visitors):
                found = propose(point.generators, point.snapshot, batch, budgets)
                mine = (found.proposed[:, None] >> np.arange(len(GENERATORS), dtype=np.uint16)) & 1 > 0
                # Among all candidates are all of a generator's own, so that of these the rank is the place in its list.
                depth.append(np.where(mine, found.ranks, -1).astype(np.int16))
                wanted.append(asked.labels(found.query + start, found.item, len(point.snapshot.items)) > 0)
        return cls(np.concatenate(depth), np.concatenate(wanted), queries)

    def within(self, budgets: Mapping[GeneratorName, int]) -> np.ndarray:
        """bool[n × generators]: who proposes what, with these budgets."""
        most = np.array([budgets.get(name, 0) for name in GENERATORS])
        return (self.depth >= 0) & (self.depth < most)


@dataclass(frozen=True)
class Cut:
    """`budgets` for a recommender. `table`, one row per generator and band of depth: its budget in the recipe and the
    one kept, where the band begins, and there the candidates proposed, those wanted, and how many of both by no other
    generator of the recipe. `candidates`: a query, before and after."""

    budgets: dict[GeneratorName, int]
    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMA))
    candidates: tuple[float, float] = (0.0, 0.0)

    def onto(self, config: TwoStageConfig) -> TwoStageConfig:
        """The recommender's settings with these budgets."""
        return config.model_copy(update={"budgets": self.budgets})


def cut(points: Sequence[Boundary], name: RecommenderName, recipe: Recipe) -> Cut:
    """`points`: boundaries whose labels end before the hold-out begins, latest first; only `BOUNDARIES` are used."""
    config = recipe.of(name)
    if not config.cut or not points:
        return Cut(dict(config.budgets))
    return decided(Proposals.of(points[:BOUNDARIES], name, config.budgets), config)


def last_needed(before_holdout: Sequence[bool], recipe: Recipe) -> int:
    """Which of the boundaries, latest first, is the last that budgets are decided by; 0 where none are cut."""
    early = np.flatnonzero(before_holdout)[:BOUNDARIES]
    return int(early[-1]) if len(early) and any(recipe.of(name).cut for name in RECOMMENDERS) else 0


def prefixed(cuts: Mapping[RecommenderName, Cut]) -> dict[str, float]:
    """As metrics, of budgets that could be cut: one_to_one_budget_als and so on, one_to_one_candidates_per_query."""
    return {
        key: number
        for name, made in cuts.items()
        if made.table.height
        for key, number in (
            *((f"{name}_budget_{generator}", float(kept)) for generator, kept in made.budgets.items()),
            (f"{name}_candidates_per_query", made.candidates[1]),
        )
    }


def decided(proposals: Proposals, config: TwoStageConfig) -> Cut:
    """The budgets that `proposals`, made with those of the recipe, speak for.

    Twice, as no candidate is one generator's merit or fault for certain. First those that add the least are cut by
    what they alone propose: it is not lost with two, as once the first is cut it is the second's alone. Then those
    that add the most by what the better ones do not propose: what several propose in vain goes with all of them.
    """
    kept = dict(config.budgets)

    def cut_beside(name: GeneratorName, others: Sequence[GeneratorName]) -> None:
        end = depth(*_beside(proposals, kept, name, others), config.cut)
        kept[name] = min(kept[name], max(end, LEAST.get(name, 1)))

    by_use = sorted(kept, key=lambda name: _use(proposals, kept, name))
    for name in by_use:
        cut_beside(name, [other for other in kept if other != name])
    for n in reversed(range(len(by_use))):
        cut_beside(by_use[n], by_use[n + 1 :])
    before, after = (proposals.within(budgets).any(axis=1).sum() for budgets in (config.budgets, kept))
    asked = max(1, proposals.queries)
    return Cut(kept, _table(proposals, config.budgets, kept), (float(before / asked), float(after / asked)))


def depth(proposed: np.ndarray, wanted: np.ndarray, rate: float) -> int:
    """Where to cut a list of which at depth d (from 0) `proposed[d]` were proposed and `wanted[d]` of these wanted.

    Between 1 and the list's length; never deeper for a higher `rate`.
    """
    surplus = np.append(0.0, np.cumsum(wanted - rate * proposed))
    best = len(proposed) - np.argmax(surplus[::-1])  # of equals the deepest: what proposes nothing costs nothing
    beyond = wanted[::-1].cumsum()[::-1]
    # The upper end of the 95% interval of a Poisson count, nearly: from 0 as much as 3 is possible.
    possible = beyond + 2 * np.sqrt(beyond + 1) + 1
    useless = np.flatnonzero(possible < rate * proposed[::-1].cumsum()[::-1])
    useless = useless[useless >= best]
    return max(1, int(useless[0])) if len(useless) else max(1, len(proposed))


def _beside(
    proposals: Proposals,
    budgets: Mapping[GeneratorName, int],
    name: GeneratorName,
    others: Sequence[GeneratorName],
) -> tuple[np.ndarray, np.ndarray]:
    """int64[budget], twice: at each depth what the generator proposes and none of the others, and how much of that
    is wanted."""
    within = proposals.within(budgets)
    column = GENERATORS.index(name)
    new = within[:, column] & ~within[:, [GENERATORS.index(other) for other in others]].any(axis=1)
    at, most = proposals.depth[new, column], budgets[name]
    return np.bincount(at, minlength=most), np.bincount(at[proposals.wanted[new]], minlength=most)


def _use(proposals: Proposals, budgets: Mapping[GeneratorName, int], name: GeneratorName) -> float:
    proposed, wanted = _beside(proposals, budgets, name, [other for other in budgets if other != name])
    return float(wanted.sum() / max(1, proposed.sum()))


def _table(
    proposals: Proposals, budgets: Mapping[GeneratorName, int], kept: Mapping[GeneratorName, int]
) -> pl.DataFrame:
    within = proposals.within(budgets)
    rows = []
    for name, budget in budgets.items():
        column = GENERATORS.index(name)
        mine = within[:, column]
        bands = np.digitize(proposals.depth[mine, column], BANDS) - 1
        single, wanted = (within.sum(axis=1) == 1)[mine], proposals.wanted[mine]
        counts = [np.bincount(bands[part], minlength=len(BANDS)) for part in (wanted >= 0, wanted, single)]
        counts.append(np.bincount(bands[single & wanted], minlength=len(BANDS)))
        rows += [
            (name, budget, kept[name], low, *(int(count[band]) for count in counts))
            for band, low in enumerate(BANDS)
            if low < budget
        ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
