"""Recipes: every setting of a training run, as `usual train --recipe FILE` reads them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from features.common import yaml_config
from features.common.errors import InputError
from models.bundle import RECOMMENDERS, RecommenderName
from models.candidates.registry import CLASSES, GeneratorName, GeneratorsConfig
from models.two_stage import TwoStageConfig

DEFAULT_RECIPE = Path(__file__).with_name("recipe.yml")


class Recipe(BaseModel):
    """The settings of a training run. The defaults are in recipe.yml, chosen by measurement."""

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
    """Most candidates with label 0 that are sampled for one query."""
    queries_per_boundary: PositiveInt
    """Most queries of one boundary that a ranker learns from; the hold-out is measured on all."""
    visits_per_boundary: PositiveInt
    """Most visits after one boundary that queries are sampled from."""
    seed: NonNegativeInt
    """Seed of all sampling."""
    generators: GeneratorsConfig
    """Settings of the candidate generators."""
    one_to_one: TwoStageConfig
    """The recommender for customers with history who come back."""
    one_to_one_visit: TwoStageConfig
    """The recommender for customers with history inside a visit that has events already."""
    predictive: TwoStageConfig
    """The recommender for everyone else."""

    def recommender(self, name: RecommenderName) -> TwoStageConfig:
        """Return the settings of one recommender."""
        config: TwoStageConfig = getattr(self, name)
        return config

    def for_generators(self, names: Collection[GeneratorName]) -> "Recipe":
        """Return the recipe without the budgets of inactive generators; `names` are those that are active.

        Raises `InputError` where a recommender has budgets of inactive generators only.
        """
        configs: dict[str, TwoStageConfig] = {}
        for name in RECOMMENDERS:
            budgets = self.recommender(name).budgets
            configs[name] = self.recommender(name).for_generators(names)
            if budgets and not configs[name].budgets:
                raise InputError(
                    f"{name} of the recipe has budgets only of generators that do not apply to this log, as it has no "
                    f"data for them: {', '.join(budgets)}. Add to {name}.budgets some of those that apply "
                    f"({', '.join(names)}), or bring the data, such as vectors in the catalog's column embedding"
                )
        return self.model_copy(update=configs)

    def dump_active(self, names: Collection[GeneratorName]) -> dict[str, Any]:
        """Dump the recipe as for JSON, without budgets and settings of inactive generators."""
        tree = self.for_generators(names).model_dump(mode="json")
        active = {cls.key for cls in CLASSES if any(score.name in names for score in cls.named_scores)}
        return tree | {"generators": {key: value for key, value in tree["generators"].items() if key in active}}


def load(path: Path | None = None) -> Recipe:
    """Load the recipe at `path`, or the default one. Raises `InputError` naming the wrong keys."""
    return yaml_config.load_yaml(path or DEFAULT_RECIPE, Recipe, "the recipe")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to names as in MLflow: `one_to_one.ranker.leaves` and so on."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
