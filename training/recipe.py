"""What `usual train --recipe` reads: every setting of a training run."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from features.common import yaml_config
from models.bundle import RECOMMENDERS, RecommenderName
from models.candidates.registry import GeneratorName, GeneratorsConfig
from models.two_stage import TwoStageConfig

DEFAULT_RECIPE = Path(__file__).with_name("recipe.yml")


class Recipe(BaseModel):
    """A training run. The defaults live in recipe.yml; the values there were measured."""

    model_config = ConfigDict(extra="forbid")

    horizon_days: PositiveInt
    """How far ahead a customer's purchases are predicted, and how long the hold-out window is."""
    boundaries: PositiveInt
    """Most training boundaries, counted back from the end of the log."""
    boundary_step_days: PositiveInt
    """Days between boundaries; whole weeks keep weekdays aligned."""
    visit_days: PositiveInt
    """Visits this long after a boundary are training queries of the predictive recommender."""
    negatives_per_query: PositiveInt
    """Most candidates without a positive label kept for one query."""
    queries_per_boundary: PositiveInt
    """Most queries of one boundary that a ranker learns from; what is held out is measured on all."""
    visits_per_boundary: PositiveInt
    """Most visits taken as queries after one boundary."""
    seed: NonNegativeInt
    """Where sampling starts."""
    generators: GeneratorsConfig
    """Settings of the candidate generators."""
    one_to_one: TwoStageConfig
    """The recommender for customers with history who come back."""
    one_to_one_visit: TwoStageConfig
    """The one for customers with history inside a visit that has said something already."""
    predictive: TwoStageConfig
    """The recommender for everyone else."""

    def recommender(self, name: RecommenderName) -> TwoStageConfig:
        """The settings of one recommender."""
        config: TwoStageConfig = getattr(self, name)
        return config

    def for_generators(self, names: Collection[GeneratorName]) -> "Recipe":
        """The recipe without the budgets of generators other than `names`, which are those that are active."""
        return self.model_copy(update={name: self.recommender(name).for_generators(names) for name in RECOMMENDERS})


def load(path: Path | None = None) -> Recipe:
    """The recipe at `path`, or the default one. Raises `InputError` naming the wrong keys."""
    return yaml_config.read(path or DEFAULT_RECIPE, Recipe, "the recipe")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf of a nested mapping under its flat name, as in MLflow: `one_to_one.ranker.leaves` and so on."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
