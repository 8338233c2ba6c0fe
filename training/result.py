"""The result of a training run: what `train` returns, and what reports and tracking read."""

from dataclasses import dataclass, field

import polars as pl

from features.tables.left_out import LeftOut
from models.bundle import Bundle, RecommenderName
from training.customers.fit import CustomerEvaluation
from training.dataset.candidate_budgets import CandidateBudgets
from training.evaluation.evaluate import Evaluation
from training.guard import Guard
from training.recipe import Recipe


@dataclass(frozen=True)
class TrainingResult:
    """A trained bundle, its metrics on the hold-out, and the settings and data behind it.

    `holdout`: its start and end, `boundaries`: latest first, `until`: the end of training; all in microseconds.
    """

    bundle: Bundle
    evaluations: dict[RecommenderName, Evaluation]
    holdout: tuple[int, int]
    boundaries: list[int]
    rows: dict[str, int]  # training rows per recommender
    events: int  # before the end
    recipe: Recipe
    until: int
    curves: dict[RecommenderName, tuple[float, ...]] = field(default_factory=dict)
    """NDCG@10 on the hold-out after each tree of the measured rankers."""
    customers: CustomerEvaluation = field(default_factory=CustomerEvaluation)
    """Metrics of the customer predictions."""
    trade_offs: dict[RecommenderName, pl.DataFrame] = field(default_factory=dict)
    """Quality against revenue, of recommenders in which prices count (`training.evaluation.revenue_tradeoff`)."""
    budgets: dict[RecommenderName, CandidateBudgets] = field(default_factory=dict)
    """The fitted candidate budgets, and the counts they follow from."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """The events before the end that count in no table, by reason."""
    guard: Guard = field(default_factory=Guard)
    """What was noticed, and what was trained in spite of."""


@dataclass(frozen=True)
class LoggedRun:
    """Where MLflow keeps a training run and the model version registered from it."""

    run_id: str
    experiment: str
    model_uri: str
    version: str
    tracking_uri: str
