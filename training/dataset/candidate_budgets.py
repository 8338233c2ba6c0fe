"""Candidate budgets: how many candidates each generator may contribute.

A candidate costs time at every request, so a generator's list should end where what it adds is hardly ever relevant.
This is counted at the latest `FOLDS` boundaries whose labels end before the hold-out begins: of the candidates that
only one generator contributes, how many are relevant at each depth of its list. The list ends where
relevant - `cut` x candidates is largest, if beyond that depth less than `cut` of them are relevant and chance does not
explain it. The hold-out itself is not looked at, so the measured model has the budgets that are shipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from models.bundle import RECOMMENDERS, RecommenderName
from models.candidates.registry import GeneratorName
from models.two_stage import TwoStageConfig, chunks, propose
from training.dataset.folds import Fold
from training.recipe import Recipe

FOLDS = 2  # held in memory together with those from there to the hold-out
QUERIES = 1500  # of a fold: more would not move the budgets
MINIMUM: Mapping[GeneratorName, int] = {"popular": 20}
"""Smallest budget a list is cut to; 1 for others. Without any history, best sellers are all there is to rank."""
BANDS = (0, 5, 10, 20, 40, 80)  # depths at which a report's bands begin
SCHEMA = {
    "generator": pl.String, "recipe_budget": pl.Int64, "budget": pl.Int64, "depth": pl.Int64, "candidates": pl.Int64,
    "relevant": pl.Int64, "exclusive": pl.Int64, "exclusive_relevant": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class CandidateDepths:
    """Where in the generators' lists n candidates of `queries` queries stand.

    `depth` int16[n × generators]: the place in each generator's own list, -1 where it does not contribute the
    candidate; `relevant` bool[n]; `generators` are the names of the active ones, by column.
    """

    depth: np.ndarray
    relevant: np.ndarray
    queries: int
    generators: tuple[GeneratorName, ...]

    @classmethod
    def from_folds(
        cls, folds: Sequence[Fold], name: RecommenderName, budgets: Mapping[GeneratorName, int]
    ) -> "CandidateDepths":
        """Generate the candidates of one recommender's queries, at most `QUERIES` of each fold."""
        generators = folds[0].generators.names
        depth, relevant, n = [np.zeros((0, len(generators)), np.int16)], [np.zeros(0, bool)], 0
        for fold in folds:
            queries = fold.queries[name].sample(QUERIES)
            n += len(queries)
            for start, batch in chunks(fold.snapshot, queries.visitors):
                candidates = propose(fold.generators, fold.snapshot, batch, budgets)
                bits = np.arange(len(generators), dtype=np.uint32)
                contributed = (candidates.proposed[:, None] >> bits) & 1 > 0
                # The union holds all of a generator's own candidates, so its rank of one is the place in its list.
                depth.append(np.where(contributed, candidates.ranks, -1).astype(np.int16))
                labels = queries.labels(candidates.query + start, candidates.item, len(fold.snapshot.items))
                relevant.append(labels > 0)
        return cls(np.concatenate(depth), np.concatenate(relevant), n, generators)

    def contributors(self, budgets: Mapping[GeneratorName, int]) -> np.ndarray:
        """bool[n × generators]: which generators contribute a candidate within these budgets."""
        limits = np.array([budgets.get(name, 0) for name in self.generators])
        return (self.depth >= 0) & (self.depth < limits)


@dataclass(frozen=True)
class CandidateBudgets:
    """The fitted `budgets` of a recommender.

    `table`, one row per generator and band of depth: its budget in the recipe and the fitted one, the depth at which
    the band begins, and of the band the candidates, those relevant, and how many of both no other generator
    contributes. `candidates_per_query`: with the recipe's budgets, and with the fitted ones.
    """

    budgets: dict[GeneratorName, int]
    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMA))
    candidates_per_query: tuple[float, float] = (0.0, 0.0)

    def apply_to(self, config: TwoStageConfig) -> TwoStageConfig:
        """Return the recommender's settings with these budgets."""
        return config.model_copy(update={"budgets": self.budgets})


def fit_budgets(folds: Sequence[Fold], name: RecommenderName, recipe: Recipe) -> CandidateBudgets:
    """Fit the budgets of one recommender.

    `folds`: those whose labels end before the hold-out begins, latest first; only the first `FOLDS` are used.
    """
    config = recipe.recommender(name)
    if not config.cut or not folds:
        return CandidateBudgets(dict(config.budgets))
    return choose_budgets(CandidateDepths.from_folds(folds[:FOLDS], name, config.budgets), config)


def last_fold_needed(before_holdout: Sequence[bool], recipe: Recipe) -> int:
    """Position of the last fold, latest first, that budgets are fitted on; 0 where the recipe cuts none."""
    early = np.flatnonzero(before_holdout)[:FOLDS]
    return int(early[-1]) if len(early) and any(recipe.recommender(name).cut for name in RECOMMENDERS) else 0


def flatten_metrics(budgets: Mapping[RecommenderName, CandidateBudgets]) -> dict[str, float]:
    """Name fitted budgets as metrics: one_to_one_budget_als and so on, one_to_one_candidates_per_query."""
    return {
        key: number
        for name, fitted in budgets.items()
        if fitted.table.height
        for key, number in (
            *((f"{name}_budget_{generator}", float(budget)) for generator, budget in fitted.budgets.items()),
            (f"{name}_candidates_per_query", fitted.candidates_per_query[1]),
        )
    }


def choose_budgets(depths: CandidateDepths, config: TwoStageConfig) -> CandidateBudgets:
    """Choose budgets by `depths`, which were counted with the recipe's budgets.

    Two passes, as a candidate of several generators is no single one's merit. First, from the least useful generator
    on, lists are cut by what no other contributes: what two contribute is not lost, as once the first is cut it is
    the second's alone. Then, from the most useful on, by what no better generator contributes: so irrelevant
    candidates that several contribute go with all of them.
    """
    budgets = dict(config.budgets)

    def cut_beside(name: GeneratorName, others: Sequence[GeneratorName]) -> None:
        end = cut_depth(*_count_by_depth(depths, budgets, name, others), config.cut)
        budgets[name] = min(budgets[name], max(end, MINIMUM.get(name, 1)))

    by_precision = sorted(budgets, key=lambda name: _precision(depths, budgets, name))
    for name in by_precision:
        cut_beside(name, [other for other in budgets if other != name])
    for n in reversed(range(len(by_precision))):
        cut_beside(by_precision[n], by_precision[n + 1 :])
    before, after = (depths.contributors(b).any(axis=1).sum() for b in (config.budgets, budgets))
    queries = max(1, depths.queries)
    table = _table(depths, config.budgets, budgets)
    return CandidateBudgets(budgets, table, (float(before / queries), float(after / queries)))


def cut_depth(candidates: np.ndarray, relevant: np.ndarray, rate: float) -> int:
    """Find where to cut a list that at depth d (from 0) has `candidates[d]`, of them `relevant[d]` relevant.

    Between 1 and the list's length; never deeper for a higher `rate`.
    """
    surplus = np.append(0.0, np.cumsum(relevant - rate * candidates))
    best = len(candidates) - np.argmax(surplus[::-1])  # of equals the deepest: a depth without candidates costs nothing
    beyond = relevant[::-1].cumsum()[::-1]
    # The upper end of the 95% interval of a Poisson count, nearly: from 0 as much as 3 is possible.
    possible = beyond + 2 * np.sqrt(beyond + 1) + 1
    useless = np.flatnonzero(possible < rate * candidates[::-1].cumsum()[::-1])
    useless = useless[useless >= best]
    return max(1, int(useless[0])) if len(useless) else max(1, len(candidates))


def _count_by_depth(
    depths: CandidateDepths,
    budgets: Mapping[GeneratorName, int],
    name: GeneratorName,
    others: Sequence[GeneratorName],
) -> tuple[np.ndarray, np.ndarray]:
    """int64[budget], twice: the candidates at each depth that none of `others` contributes, and those relevant."""
    contributors = depths.contributors(budgets)
    column = depths.generators.index(name)
    rows = contributors[:, column] & ~contributors[:, [depths.generators.index(other) for other in others]].any(axis=1)
    at, budget = depths.depth[rows, column], budgets[name]
    return np.bincount(at, minlength=budget), np.bincount(at[depths.relevant[rows]], minlength=budget)


def _precision(depths: CandidateDepths, budgets: Mapping[GeneratorName, int], name: GeneratorName) -> float:
    """Share of relevant candidates among those that no other generator contributes."""
    candidates, relevant = _count_by_depth(
        depths, budgets, name, [other for other in depths.generators if other != name]
    )
    return float(relevant.sum() / max(1, candidates.sum()))


def _table(
    depths: CandidateDepths, recipe_budgets: Mapping[GeneratorName, int], budgets: Mapping[GeneratorName, int]
) -> pl.DataFrame:
    contributors = depths.contributors(recipe_budgets)
    rows = []
    for name, limit in recipe_budgets.items():
        column = depths.generators.index(name)
        own = contributors[:, column]
        bands = np.digitize(depths.depth[own, column], BANDS) - 1
        exclusive, relevant = (contributors.sum(axis=1) == 1)[own], depths.relevant[own]
        masks = (np.ones_like(relevant), relevant, exclusive, exclusive & relevant)
        counts = [np.bincount(bands[mask], minlength=len(BANDS)) for mask in masks]
        rows += [
            (name, limit, budgets[name], low, *(int(count[band]) for count in counts))
            for band, low in enumerate(BANDS)
            if low < limit
        ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
