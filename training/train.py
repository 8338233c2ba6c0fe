"""One training run: boundaries, two fits, a hold-out in between.

The hold-out is the last `horizon_days` before the end. The first fit sees only boundaries whose label
windows end before the hold-out begins; it is what the hold-out measures. One number is taken from the hold-out:
after how many trees to stop. The second fit adds the boundaries inside the hold-out, and with the generators
refitted on everything it is what is shipped.
"""

import polars as pl

from features.common.clock import DAY, iso, micros, next_midnight
from features.common.errors import InputError
from features.common.progress import Step, silent
from features.event_log.log import EventLog
from features.ranking.snapshot import Snapshot
from features.tables import build
from models.bundle import RECOMMENDERS, Bundle, RecommenderName
from models.candidates.generators import Generators
from models.ranker import Ranker
from models.two_stage import TwoStage
from training.customers.fit import Past, learn_customers
from training.dataset import candidate_budgets
from training.dataset.candidate_budgets import Cut
from training.dataset.examples import Boundary, Examples, boundary, examples
from training.evaluation import revenue_tradeoff
from training.evaluation.evaluate import Evaluation, evaluate, prefixed
from training.recipe import Recipe
from training.result import TrainingResult

FEWEST_QUERIES = 20  # with fewer a ranker would learn by heart


def boundaries(events_from: int, until: int, recipe: Recipe) -> list[int]:
    """Training boundaries, latest first: the first is where the hold-out begins.

    Raises `InputError` where the log is too short for a boundary with a horizon before and after it.
    """
    horizon = recipe.horizon_days * DAY
    if until <= events_from:
        raise InputError(
            f"the end of training, {iso(until)}, is not after the log's first event, {iso(events_from)}; "
            "choose a later --until"
        )
    first = until - horizon
    points = [first - k * recipe.boundary_step_days * DAY for k in range(recipe.boundaries)]
    usable = [at for at in points if at >= events_from + horizon]
    if not any(at <= first - horizon for at in usable):
        needed = 3 * recipe.horizon_days
        raise InputError(
            f"the log covers {(until - events_from) / DAY:.0f} days before {iso(until)}; with horizon_days "
            f"{recipe.horizon_days} training needs {needed}: one horizon to learn from, one to label, one to "
            "hold out. Bring more history or a recipe with a shorter horizon"
        )
    return usable


def train(event_log: EventLog, recipe: Recipe, until: int | None = None, step: Step = silent) -> TrainingResult:
    """Train on the events before `until` (default: the midnight after the last event)."""
    end = until if until is not None else next_midnight(micros(event_log.last) + 1)
    points = boundaries(micros(event_log.first), end, recipe)
    events, catalog, links = event_log.scan(), event_log.catalog(), event_log.links()
    horizon = recipe.horizon_days * DAY

    before_holdout = [at <= points[0] - horizon for at in points]
    parts: dict[RecommenderName, list[Examples]] = {name: [] for name in RECOMMENDERS}
    pasts: list[Past] = []
    cuts: dict[RecommenderName, Cut] = {}
    total = len(points) + len(RECOMMENDERS) + 2
    waiting: list[Boundary] = []
    last = candidate_budgets.last_needed(before_holdout, recipe)
    for n, at in enumerate(points):
        step(f"refit as of {iso(at)[:10]}", n + 1, total)
        waiting.append(boundary(events, catalog, at, recipe, links))
        pasts.append(Past.of(waiting[-1].snapshot, recipe.seed))
        if n < last:
            continue
        if n == last:
            holdout, early = waiting[0], [p for p, before in zip(waiting, before_holdout, strict=False) if before]
            cuts = {name: candidate_budgets.cut(early, name, recipe) for name in RECOMMENDERS}
            configs = {name: made.onto(recipe.of(name)) for name, made in cuts.items()}
        for point in waiting:
            for name, made in parts.items():
                asked = point.asked[name].some(recipe.queries_per_boundary)
                made.append(examples(point, asked, configs[name], recipe))
        waiting = []

    rankers: dict[RecommenderName, Ranker] = {}
    evaluations: dict[RecommenderName, Evaluation] = {}
    rows: dict[str, int] = {}
    curves: dict[RecommenderName, tuple[float, ...]] = {}
    trade_offs: dict[RecommenderName, pl.DataFrame] = {}
    for name, made in parts.items():
        config = configs[name]
        seen = Examples.concat([part for part, early in zip(made, before_holdout, strict=True) if early])
        everything = Examples.concat(made)
        rows[name] = len(everything.labels)
        step(f"{name}: fit and hold-out", len(points) + 1 + len(rankers), total)
        if len(seen.groups) < FEWEST_QUERIES:
            continue
        first = Ranker.fit(seen, config.ranker, validation=made[0])
        curves[name] = first.history
        two_stage = TwoStage(holdout.generators, dict(config.budgets), first)
        if len(asked := holdout.asked[name]):
            evaluations[name] = evaluate(two_stage, holdout.snapshot, asked, holdout.traffic)
            if config.ranker.value:
                others = revenue_tradeoff.rankers(seen, made[0], config.ranker, first)
                trade_offs[name] = revenue_tradeoff.trade_off(two_stage, others, holdout.snapshot, asked)
        # As many trees as did best on the hold-out, now from its examples too.
        rankers[name] = Ranker.fit(everything, config.ranker.model_copy(update={"rounds": first.trees}))
    if not rankers:
        raise InputError(
            "no recommender could be trained: the log has too few customers who come back and too few visits; "
            "bring more history or a recipe with a shorter horizon"
        )

    step(f"refit as of {iso(end)[:10]}", total - 1, total)
    now = build.at(event_log, end)
    snapshot = Snapshot.of(now)
    generators = Generators.fit(snapshot, recipe.generators)
    step("what customers do next", total, total)
    likely, measured = learn_customers(pasts, holdout.snapshot, events, now.profiles, end)
    return TrainingResult(
        bundle=Bundle(
            snapshot=snapshot,
            generators=generators,
            recommenders={
                name: TwoStage(generators, dict(configs[name].budgets), ranker) for name, ranker in rankers.items()
            },
            metrics={
                **prefixed(evaluations),
                **revenue_tradeoff.prefixed(trade_offs),
                **{f"{name}_trees": ranker.trees for name, ranker in rankers.items()},
                **candidate_budgets.prefixed({name: cuts[name] for name in rankers}),
                **measured.metrics(),
            },
            propensity=likely.model,
        ),
        evaluations=evaluations,
        holdout=(holdout.at, end),
        boundaries=points,
        rows=rows,
        events=_count(events, end),
        recipe=recipe,
        until=end,
        curves=curves,
        customers=measured,
        trade_offs=trade_offs,
        cuts=cuts,
    )


def _count(events: pl.LazyFrame, end: int) -> int:
    early = events.filter(pl.col("timestamp").dt.timestamp("us") < end)
    return int(early.select(pl.len()).collect().item())
