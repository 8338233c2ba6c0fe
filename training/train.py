"""Training: from an event log to a bundle, with its metrics on a hold-out.

`train` goes from boundaries to folds, candidate budgets and examples (`build_training_set`), fits, measures and refits
each recommender (`fit_recommender`), refits the generators on everything before the end, and puts the bundle together.

The hold-out is the last `horizon_days` before the end. The first fit of a ranker sees only folds whose labels end
before the hold-out begins; it is what the hold-out measures. One number is taken from the hold-out: after how many
trees to stop. The second fit adds the folds inside the hold-out, and with the generators refitted on everything it is
what is shipped.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice

import polars as pl

from features.common.clock import DAY, iso, micros, next_midnight
from features.common.errors import InputError
from features.common.memory import keep_freed_memory
from features.common.progress import Progress, silent
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables.build import build_tables
from models.bundle import RECOMMENDERS, Bundle, RecommenderName
from models.candidates.generators import Generators
from models.ranker import Ranker
from models.two_stage import TwoStage, TwoStageConfig
from training.customers.fit import CustomerInputs, fit_customers
from training.dataset import candidate_budgets
from training.dataset.candidate_budgets import CandidateBudgets, fit_budgets, last_fold_needed
from training.dataset.examples import MIN_QUERIES, Examples, sample_examples
from training.dataset.folds import Fold, before_holdout, build_folds, choose_boundaries
from training.dataset.holdout import MIN_HOLDOUT_QUERIES, explain_too_few, isolated_dates_hint, too_few
from training.evaluation import revenue_tradeoff
from training.evaluation.evaluate import Evaluation, evaluate, flatten_metrics
from training.guard import Guard
from training.recipe import Recipe
from training.result import TrainingResult


@dataclass(frozen=True)
class TrainingSet:
    """All that is taken from the folds, of which only the hold-out's is kept whole.

    `examples`: per recommender those of each fold, latest first; `early`: which folds have all their labels before the
    hold-out; `customers`: the customers of each fold; `configs`: the recipe's settings with the fitted `budgets`.
    """

    holdout: Fold
    early: list[bool]
    budgets: dict[RecommenderName, CandidateBudgets]
    configs: dict[RecommenderName, TwoStageConfig]
    examples: dict[RecommenderName, list[Examples]]
    customers: list[CustomerInputs]

    def rows(self, name: RecommenderName) -> int:
        """Number of training rows of a recommender."""
        return sum(len(examples.labels) for examples in self.examples[name])


@dataclass(frozen=True)
class FittedRecommender:
    """A recommender's ranker as shipped, and what the hold-out measured of the one fitted before it.

    `curve`: NDCG@10 on the hold-out after each tree. Without queries in the hold-out there is no `evaluation`;
    `trade_off` only where the recipe lets prices count.
    """

    ranker: Ranker
    curve: tuple[float, ...]
    evaluation: Evaluation | None
    trade_off: pl.DataFrame | None


def train(
    event_log: EventLog,
    recipe: Recipe,
    until: int | None = None,
    step: Progress = silent,
    guard: Guard | None = None,
) -> TrainingResult:
    """Train on the events before `until` (microseconds; default: the midnight after the last event).

    Raises `InputError` where the log is too short, has too little for any recommender to learn from, or too little in
    the hold-out to measure one on (`training.dataset.holdout`), unless `guard` has a reason to go on.
    """
    keep_freed_memory()
    guard = guard or Guard()
    end = until if until is not None else next_midnight(micros(event_log.last) + 1)
    try:
        boundaries = choose_boundaries(micros(event_log.first), end, recipe)
    except InputError as error:
        raise InputError(f"{error}{isolated_dates_hint(event_log, end)}") from None
    total, steps = len(boundaries) + len(RECOMMENDERS) + 2, count(1)

    def report(text: str) -> None:
        step(text, next(steps), total)

    training_set = build_training_set(event_log, boundaries, recipe, report, guard)
    holdout = training_set.holdout
    queries = {name: len(holdout.queries[name]) for name in RECOMMENDERS}
    recommenders: dict[RecommenderName, FittedRecommender] = {}
    for name in RECOMMENDERS:
        report(f"{name}: fit and hold-out")
        if (recommender := fit_recommender(name, training_set)) is not None:
            recommenders[name] = recommender
    if not recommenders:
        raise InputError(
            "no recommender could be trained: the log has too few customers who come back and too few visits; "
            f"bring more history or a recipe with a shorter horizon{isolated_dates_hint(event_log, end)}"
        )
    if len(too_few(queries)) < len(RECOMMENDERS) and set(recommenders) <= set(too_few(queries)):
        guard.stop(explain_too_few(event_log, holdout.at, end, queries))
    _warn_of_unmeasured(recommenders, queries, guard)

    report(f"refit as of {iso(end)[:10]}")
    tables = build_tables(event_log, end)
    snapshot = Snapshot.from_tables(tables)
    generators = Generators.fit(snapshot, recipe.generators, training_set.holdout.generators.active)
    report("what customers do next")
    propensity, customers = fit_customers(
        training_set.customers, training_set.holdout.snapshot, event_log.scan(), tables.profiles, end
    )

    budgets = training_set.budgets
    evaluations = {name: r.evaluation for name, r in recommenders.items() if r.evaluation is not None}
    trade_offs = {name: r.trade_off for name, r in recommenders.items() if r.trade_off is not None}
    bundle = Bundle(
        snapshot=snapshot,
        generators=generators,
        recommenders={
            name: TwoStage(generators, dict(budgets[name].budgets), r.ranker) for name, r in recommenders.items()
        },
        metrics={
            **flatten_metrics(evaluations),
            **revenue_tradeoff.flatten_metrics(trade_offs),
            **{f"{name}_trees": r.ranker.trees for name, r in recommenders.items()},
            **candidate_budgets.flatten_metrics({name: budgets[name] for name in recommenders}),
            **customers.metrics(),
        },
        propensity=propensity.model,
    )
    return TrainingResult(
        bundle=bundle,
        evaluations=evaluations,
        holdout=(training_set.holdout.at, end),
        boundaries=boundaries,
        rows={name: training_set.rows(name) for name in RECOMMENDERS},
        events=_count_events(event_log, end),
        recipe=recipe,
        until=end,
        curves={name: r.curve for name, r in recommenders.items()},
        customers=customers,
        trade_offs=trade_offs,
        budgets=budgets,
        left_out=tables.left_out,
        guard=guard,
    )


def build_training_set(
    event_log: EventLog, boundaries: Sequence[int], recipe: Recipe, report: Callable[[str], None], guard: Guard
) -> TrainingSet:
    """Build the folds of `boundaries` (latest first) one after another, and take from each what training needs.

    Examples take candidate budgets, so the folds up to the last that budgets are fitted on are in memory together.
    Every other fold is let go before the next but one is built.
    """
    early = before_holdout(boundaries, recipe)
    folds = build_folds(event_log, boundaries, recipe, report)
    first = deque(islice(folds, last_fold_needed(early, recipe) + 1))
    holdout = first[0]
    queries = {name: len(holdout.queries[name]) for name in RECOMMENDERS}
    if len(too_few(queries)) == len(RECOMMENDERS):  # told before the work
        guard.stop(explain_too_few(event_log, holdout.at, holdout.at + recipe.horizon_days * DAY, queries))
    recipe = recipe.for_generators(holdout.generators.names)
    budgets = _fit_all_budgets([fold for fold, is_early in zip(first, early, strict=False) if is_early], recipe)
    configs = {name: fitted.apply_to(recipe.recommender(name)) for name, fitted in budgets.items()}
    examples: dict[RecommenderName, list[Examples]] = {name: [] for name in RECOMMENDERS}
    customers: list[CustomerInputs] = []
    for fold in chain(_drain(first), folds):
        customers.append(CustomerInputs.from_snapshot(fold.snapshot, recipe.seed))
        for name in RECOMMENDERS:
            examples[name].append(sample_examples(fold, name, configs[name], recipe))
    return TrainingSet(holdout, early, budgets, configs, examples, customers)


def fit_recommender(name: RecommenderName, training_set: TrainingSet) -> FittedRecommender | None:
    """Fit a ranker before the hold-out, measure it there, and refit it on everything with as many trees as did best.

    None where fewer than `MIN_QUERIES` queries before the hold-out have a positive.
    """
    examples, config, holdout = training_set.examples[name], training_set.configs[name], training_set.holdout
    before = Examples.concat([part for part, early in zip(examples, training_set.early, strict=True) if early])
    if len(before.groups) < MIN_QUERIES:
        return None
    first = Ranker.fit(before, config.ranker, validation=examples[0])
    two_stage = TwoStage(holdout.generators, dict(config.budgets), first)
    queries = holdout.queries[name]
    evaluation = evaluate(two_stage, holdout.snapshot, queries, holdout.traffic) if len(queries) else None
    trade_off = None
    if len(queries) and config.ranker.value:
        rankers = revenue_tradeoff.fit_rankers(before, examples[0], config.ranker, first)
        trade_off = revenue_tradeoff.measure_tradeoff(two_stage, rankers, holdout.snapshot, queries)
    ranker = Ranker.fit(Examples.concat(examples), config.ranker.model_copy(update={"rounds": first.trees}))
    return FittedRecommender(ranker, first.validation_curve, evaluation, trade_off)


def _warn_of_unmeasured(names: Iterable[RecommenderName], queries: Mapping[RecommenderName, int], guard: Guard) -> None:
    """Warn of recommenders whose hold-out is below the minimum, beside others that are measured."""
    few = set(too_few(queries))
    for name in names:
        if name in few:
            guard.warn(
                f"{name} has {queries[name]:,} queries in the hold-out, and {MIN_HOLDOUT_QUERIES[name]} are the least "
                "that say something: its metrics, and after how many trees it stops, are chance"
            )


def _fit_all_budgets(folds: Sequence[Fold], recipe: Recipe) -> dict[RecommenderName, CandidateBudgets]:
    return {name: fit_budgets(folds, name, recipe) for name in RECOMMENDERS}


def _drain(folds: deque[Fold]) -> Iterator[Fold]:
    """Yield each fold without holding on to it."""
    while folds:
        yield folds.popleft()


def _count_events(event_log: EventLog, end: int) -> int:
    events = event_log.scan().filter(pl.col("timestamp").dt.timestamp("us") < end)
    return int(events.select(pl.len()).collect().item())
