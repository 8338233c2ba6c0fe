"""Trial data: what the trials of a study share, from the tables of every fold to LightGBM's data sets.

Tables are built once. A trial that changes one generator refits that one; a trial that changes only the ranker
grows trees on data that are there already.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import lightgbm
import numpy as np

from features.common.clock import micros
from features.common.errors import InputError
from features.common.threads import THREADS
from features.event_log.log import EventLog
from features.ranking.feature_matrix import STATED, assemble
from features.tables.left_out import LeftOut
from models.bundle import RecommenderName
from models.candidates.registry import GeneratorName, GeneratorsConfig
from models.ranker import Prior, Ranker, RankerConfig, objective, parameters
from models.two_stage import Candidates, TwoStageConfig, chunks, propose
from training.dataset.candidate_budgets import fit_budgets
from training.dataset.examples import MIN_QUERIES, Examples, sample_examples
from training.dataset.folds import Fold, before_holdout, build_folds, choose_boundaries
from training.dataset.holdout import MIN_HOLDOUT_QUERIES, isolated_dates_hint
from training.dataset.queries import Queries
from training.recipe import Recipe
from training.tuning.holdout_metric import HoldoutMetric

MAX_QUERIES = 5000  # of the hold-out that trials are measured on: about 750 MB of candidates
REPORTS = 10  # how often the metric is measured while trees grow, at most

ProgressCallback = Callable[[np.ndarray, int], None]
"""Called with the metric of each query by the trees so far, and their number; raises to stop."""


@dataclass(frozen=True)
class TrialData:
    """All a ranker needs, for one choice of generators and budgets.

    `folds`: latest first; the first begins the hold-out. `training`: the examples before it, `rows` of them;
    `validation`: those of the hold-out, which decide after how many trees to stop; `prior`: where the trees begin;
    `gains`: LightGBM's setting of what their labels gain, where the recipe lets prices count. `matrices`: all
    candidates of the hold-out's queries in chunks, float32[n × features]; `metric` measures scores of them.
    """

    folds: list[Fold]
    generators: GeneratorsConfig
    config: TwoStageConfig
    training: lightgbm.Dataset
    validation: lightgbm.Dataset | None
    rows: int
    gains: dict[str, Any]
    matrices: list[np.ndarray]
    metric: HoldoutMetric
    prior: Prior | None = None

    def measure(self, config: RankerConfig, report: ProgressCallback) -> tuple[np.ndarray, int]:
        """Fit a ranker as in a training run; return the metric of each query, float64[queries], and its trees."""
        every = max(1, config.rounds // REPORTS)
        scores = [self.prior(matrix) if self.prior else np.zeros(len(matrix)) for matrix in self.matrices]

        def report_growth(env: lightgbm.callback.CallbackEnv) -> None:
            trees, booster = env.iteration + 1, cast(lightgbm.Booster, env.model)
            if trees % every == 0 and trees < config.rounds:
                for score, matrix in zip(scores, self.matrices, strict=True):
                    score += booster.predict(
                        matrix, start_iteration=trees - every, num_iteration=every, num_threads=THREADS
                    )
                report(self.metric(np.concatenate(scores)), trees)

        callbacks = [report_growth]
        if self.validation is not None:
            callbacks.append(lightgbm.early_stopping(config.patience, verbose=False))
        ranker = Ranker(
            lightgbm.train(
                parameters(config, self.rows) | self.gains,
                self.training,
                config.rounds,
                valid_sets=[] if self.validation is None else [self.validation],
                callbacks=callbacks,
            ),
            prior=self.prior,
        )
        return self.metric(np.concatenate([ranker.predict(matrix) for matrix in self.matrices])), ranker.trees


class TrialDataCache:
    """Builds the trial data of one log, recommender and metric, and holds on to the two that were used last."""

    def __init__(self, event_log: EventLog, end: int, name: RecommenderName, metric: str) -> None:
        self._log = event_log
        self._metric = metric
        self._end = end
        self._name = name
        self._latest: list[TrialData] = []
        self.left_out = LeftOut()  # of the events before the hold-out, once its fold is built
        self._holdout: tuple[Fold, GeneratorsConfig] | None = None  # until the first trial data have it

    def count_folds(self, recipe: Recipe) -> int:
        """Count the folds that are built before the first trial. Raises `InputError` where the log is too short."""
        return len(self._boundaries(recipe))

    def active_generators(self, recipe: Recipe, report: Callable[[str], None]) -> tuple[GeneratorName, ...]:
        """Name the generators that apply to the log, as a training run decides it: on the fold of the hold-out.

        The fold is built for this, after a call of `report`; the first `get` takes it over.
        """
        return self._build_holdout(recipe, report).generators.names

    def get(self, recipe: Recipe, report: Callable[[str], None]) -> TrialData:
        """Return the trial data of the recipe's generators and budgets, built if need be.

        `report` is called with a line of progress before each fold is built. Raises `InputError` where the log has
        too little to learn from.
        """
        config = recipe.recommender(self._name)
        for data in self._latest:
            if data.generators == recipe.generators and data.config.budgets == config.budgets:
                break
        else:
            data = self._build(recipe, config, report)
        self._latest = [data, *(other for other in self._latest if other is not data)][:2]
        return data

    def _boundaries(self, recipe: Recipe) -> list[int]:
        """The hold-out's and those before it; a trial fits no ranker on folds inside the hold-out."""
        try:
            boundaries = choose_boundaries(micros(self._log.first), self._end, recipe)
        except InputError as error:
            raise InputError(f"{error}{isolated_dates_hint(self._log, self._end)}") from None
        early = before_holdout(boundaries, recipe)
        return [boundaries[0], *(at for at, is_early in zip(boundaries, early, strict=True) if is_early)]

    def _folds(self, recipe: Recipe, report: Callable[[str], None]) -> list[Fold]:
        if not self._latest:
            holdout = self._build_holdout(recipe, report)
            earlier = self._boundaries(recipe)[1:]
            self._holdout = None
            return [holdout, *build_folds(self._log, earlier, recipe, report, holdout.generators.active)]
        # The data used last differ the least: a trial changes one generator, or the budgets.
        nearest = self._latest[0]
        return [_refit(fold, nearest.generators, recipe.generators) for fold in nearest.folds]

    def _build_holdout(self, recipe: Recipe, report: Callable[[str], None]) -> Fold:
        if self._holdout is None:
            (fold,) = build_folds(self._log, self._boundaries(recipe)[:1], recipe, report)
            self.left_out = fold.left_out.with_set_aside(self._log.rows_set_aside)
        else:
            fold, config = self._holdout
            fold = _refit(fold, config, recipe.generators)
        self._holdout = fold, recipe.generators
        return fold

    def _build(self, recipe: Recipe, config: TwoStageConfig, report: Callable[[str], None]) -> TrialData:
        folds = self._folds(recipe, report)
        recipe = recipe.for_generators(folds[0].generators.names)
        budgeted = fit_budgets(folds[1:], self._name, recipe).apply_to(config)
        holdout, *before = [sample_examples(fold, self._name, budgeted, recipe) for fold in folds]
        examples = Examples.concat(before)
        queries = folds[0].queries[self._name].sample(MAX_QUERIES)
        if len(examples.groups) < MIN_QUERIES or len(queries) < MIN_HOLDOUT_QUERIES[self._name]:
            raise InputError(
                f"{self._name} cannot be tuned: the log has {len(examples.groups)} queries to learn from "
                f"({MIN_QUERIES} are needed) and {len(queries)} in the hold-out ({MIN_HOLDOUT_QUERIES[self._name]} are "
                f"needed){isolated_dates_hint(self._log, self._end)}; bring more history or a recipe "
                "with a shorter horizon, or tune the other recommender with --metric"
            )
        prior = Prior.fit(examples) if config.ranker.prior else None
        training, validation, gains = _datasets(examples, holdout, config.ranker, prior)
        candidates, matrices = _propose_all(folds[0], queries, budgeted)
        return TrialData(
            folds=folds,
            generators=recipe.generators,
            config=config,
            training=training,
            validation=validation,
            rows=len(examples.labels),
            gains=gains,
            matrices=matrices,
            metric=HoldoutMetric.from_candidates(self._metric, folds[0].snapshot, queries, candidates),
            prior=prior,
        )


def _propose_all(
    fold: Fold, queries: Queries, config: TwoStageConfig
) -> tuple[list[tuple[int, Candidates]], list[np.ndarray]]:
    """All candidates in chunks, each with the number of its first query; and the matrix of each chunk with any."""
    parts, matrices = [], []
    for start, batch in chunks(fold.snapshot, queries.visitors):
        part = propose(fold.generators, fold.snapshot, batch, config.budgets)
        parts.append((start, part))
        if len(part.query):
            stated = STATED in fold.generators.names
            matrices.append(assemble(fold.snapshot, batch, part.query, part.item, part.ranks, part.scores, stated))
    return parts, matrices


def _datasets(
    examples: Examples, holdout: Examples, config: RankerConfig, prior: Prior | None
) -> tuple[lightgbm.Dataset, lightgbm.Dataset | None, dict[str, Any]]:
    """LightGBM's binned data: a quarter of the matrices' size, and the same for all trials."""
    settings, labels = objective(config, examples)
    gains = {name: setting for name, setting in settings.items() if name == "label_gain"}
    prior_scores = [prior(part.matrix) if prior else None for part in (examples, holdout)]
    training = lightgbm.Dataset(
        examples.matrix,
        labels(examples),
        group=examples.groups,
        init_score=prior_scores[0],
        feature_name=list(examples.features),
        params=settings,
    )
    training.construct()
    if not len(holdout.groups):
        return training, None, gains
    validation = training.create_valid(
        holdout.matrix, labels(holdout), group=holdout.groups, init_score=prior_scores[1], params=settings
    )
    return training, validation.construct(), gains


def _refit(fold: Fold, old: GeneratorsConfig, new: GeneratorsConfig) -> Fold:
    """Refit the generators whose settings differ."""
    return replace(fold, generators=fold.generators.refit_changed(fold.snapshot, old, new))
