"""The result of a training run: what `train` returns, and what reports and tracking read."""

from dataclasses import dataclass, field

import polars as pl

from models.bundle import Bundle, RecommenderName
from training.customers.fit import CustomerEvaluation
from training.dataset.candidate_budgets import CandidateBudgets
from training.evaluation.evaluate import Evaluation
from training.recipe import Recipe


@dataclass(frozen=True)
class TrainingResult:
    """A trained bundle, its metrics on the hold-out, and the settings and data behind it."""

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
    """What customers were expected to do next, and did."""
    trade_offs: dict[RecommenderName, pl.DataFrame] = field(default_factory=dict)
    """Quality against revenue, of recommenders that let prices count (`training.evaluation.revenue_tradeoff`)."""
    budgets: dict[RecommenderName, CandidateBudgets] = field(default_factory=dict)
    """The generators' budgets, and what they were decided by."""


@dataclass(frozen=True)
class LoggedRun:
    """Where MLflow keeps a training run and the model version registered from it."""

    run_id: str
    experiment: str
    model_uri: str
    version: str
    tracking_uri: str
