"""What the trials of a study share: tables of every boundary, candidates, LightGBM's data sets, the hold-out.

Tables are made once. A trial that changes one generator refits that one; a trial that changes only the ranker
grows trees on data that lie ready.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import lightgbm
import numpy as np

from features.common.clock import DAY, iso, micros
from features.common.errors import InputError
from features.common.threads import THREADS
from features.event_log.log import EventLog
from features.ranking.feature_matrix import NAMES, assemble
from models.bundle import RecommenderName
from models.candidates.generators import Generators, GeneratorsConfig
from models.ranker import Prior, Ranker, RankerConfig, objective, parameters
from models.two_stage import TwoStageConfig, chunks, propose
from training.dataset import candidate_budgets
from training.dataset.examples import Boundary, Examples, boundary, examples
from training.recipe import Recipe
from training.train import FEWEST_QUERIES, boundaries
from training.tuning.judge import Judge

MOST_QUERIES = 5000  # of the hold-out that trials are judged by: about 750 MB of candidates
REPORTS = 10  # how often the growth of the trees is judged, at most

Report = Callable[[np.ndarray, int], None]
"""Hears each query's metric with the trees so far, and how many they are; raises to stop."""


@dataclass(frozen=True)
class Prepared:
    """All a ranker needs, for one choice of generators and budgets.

    `points`: latest first; the first begins the hold-out. `learn`: the examples before it, `rows` of them; `stop`:
    those of the hold-out, to decide after how many trees to stop; `prior`: where the trees begin; `gains`: LightGBM's
    setting that says what their labels are worth, where the recipe lets prices count. `matrices`: all candidates of
    the hold-out's queries in chunks, float32[n × features]; `judge` measures scores of them.
    """

    points: list[Boundary]
    settings: GeneratorsConfig
    config: TwoStageConfig
    learn: lightgbm.Dataset
    stop: lightgbm.Dataset | None
    rows: int
    gains: dict[str, Any]
    matrices: list[np.ndarray]
    judge: Judge
    prior: Prior | None = None

    def measure(self, config: RankerConfig, report: Report) -> tuple[np.ndarray, int]:
        """The metric of each query and how many trees there are, fitted and measured as in a training run."""
        every = max(1, config.rounds // REPORTS)
        so_far = [self.prior(matrix) if self.prior else np.zeros(len(matrix)) for matrix in self.matrices]

        def grown(env: lightgbm.callback.CallbackEnv) -> None:
            trees, booster = env.iteration + 1, cast(lightgbm.Booster, env.model)
            if trees % every == 0 and trees < config.rounds:
                for score, matrix in zip(so_far, self.matrices, strict=True):
                    score += booster.predict(
                        matrix, start_iteration=trees - every, num_iteration=every, num_threads=THREADS
                    )
                report(self.judge(np.concatenate(so_far)), trees)

        callbacks = [grown]
        if self.stop is not None:
            callbacks.append(lightgbm.early_stopping(config.patience, verbose=False))
        fitted = Ranker(
            lightgbm.train(
                parameters(config, self.rows) | self.gains,
                self.learn,
                config.rounds,
                valid_sets=[] if self.stop is None else [self.stop],
                callbacks=callbacks,
            ),
            prior=self.prior,
        )
        return self.judge(np.concatenate([fitted.predict(matrix) for matrix in self.matrices])), fitted.trees


class Workshop:
    """Prepares a log for one recommender and its metric; keeps the two choices of generators and budgets used last."""

    def __init__(self, event_log: EventLog, end: int, name: RecommenderName, metric: str) -> None:
        self._log = event_log
        self._metric = metric
        self._end = end
        self._name = name
        self._kept: list[Prepared] = []

    def steps(self, recipe: Recipe) -> int:
        """How many boundaries the first `prepared` refits. Raises `InputError` where the log is too short."""
        return len(self._points(recipe))

    def prepared(self, recipe: Recipe, step: Callable[[str], None]) -> Prepared:
        """For the recipe's generators and budgets. Raises `InputError` where the log has too little to learn from."""
        config = getattr(recipe, self._name)
        for held in self._kept:
            if held.settings == recipe.generators and held.config.budgets == config.budgets:
                break
        else:
            held = self._prepare(recipe, config, step)
        self._kept = [held, *(other for other in self._kept if other is not held)][:2]
        return held

    def _points(self, recipe: Recipe) -> list[int]:
        first, *rest = boundaries(micros(self._log.first), self._end, recipe)
        return [first, *(at for at in rest if at <= first - recipe.horizon_days * DAY)]

    def _prepare(self, recipe: Recipe, config: TwoStageConfig, step: Callable[[str], None]) -> Prepared:
        if self._kept:
            # The last one differs the least: a trial changes one generator, or the budgets.
            nearest = self._kept[0]
            points = [_refitted(point, nearest.settings, recipe.generators) for point in nearest.points]
        else:
            events, catalog, links = self._log.scan(), self._log.catalog(), self._log.links()
            points = []
            for at in self._points(recipe):
                step(f"refit as of {iso(at)[:10]}")
                points.append(boundary(events, catalog, at, recipe, links))
        within = candidate_budgets.cut(points[1:], self._name, recipe).onto(config)
        made = [examples(p, p.asked[self._name].some(recipe.queries_per_boundary), within, recipe) for p in points]
        seen, unseen = Examples.concat(made[1:]), made[0]
        asked = points[0].asked[self._name].some(MOST_QUERIES)
        if len(seen.groups) < FEWEST_QUERIES or not len(asked):
            raise InputError(
                f"{self._name} cannot be tuned: the log has {len(seen.groups)} queries to learn from "
                f"({FEWEST_QUERIES} are needed) and {len(asked)} in the hold-out; bring more history or a recipe "
                "with a shorter horizon, or tune the other recommender with --metric"
            )
        prior = Prior.fit(seen) if config.ranker.prior else None
        learn, stop, gains = _datasets(seen, unseen, config.ranker, prior)
        found, matrices = [], []
        snapshot = points[0].snapshot
        for start, batch in chunks(snapshot, asked.visitors):
            part = propose(points[0].generators, snapshot, batch, within.budgets)
            found.append((start, part))
            if len(part.query):
                matrices.append(assemble(snapshot, batch, part.query, part.item, part.ranks, part.scores))
        judge = Judge.of(self._metric, snapshot, asked, found)
        return Prepared(points, recipe.generators, config, learn, stop, len(seen.labels), gains, matrices, judge, prior)


def _datasets(
    seen: Examples, unseen: Examples, config: RankerConfig, prior: Prior | None
) -> tuple[lightgbm.Dataset, lightgbm.Dataset | None, dict[str, Any]]:
    """Binned: a quarter of the matrices' size, and the same for all trials."""
    settings, labels = objective(config, seen)
    gains = {name: setting for name, setting in settings.items() if name == "label_gain"}
    begun, begun_unseen = (prior(part.matrix) if prior else None for part in (seen, unseen))
    learn = lightgbm.Dataset(
        seen.matrix,
        labels(seen),
        group=seen.groups,
        init_score=begun,
        feature_name=NAMES,
        params=settings,
    )
    learn.construct()
    if not len(unseen.groups):
        return learn, None, gains
    stop = learn.create_valid(
        unseen.matrix, labels(unseen), group=unseen.groups, init_score=begun_unseen, params=settings
    )
    return learn, stop.construct(), gains


def _refitted(point: Boundary, old: GeneratorsConfig, new: GeneratorsConfig) -> Boundary:
    changed = {
        name: type(getattr(point.generators, name)).fit(point.snapshot, getattr(new, name))
        for name in GeneratorsConfig.model_fields
        if getattr(new, name) != getattr(old, name)
    }
    generators: Generators = replace(point.generators, **changed)
    return replace(point, generators=generators)
