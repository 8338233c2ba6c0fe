"""The search space of a recipe: the settings that tuning may change, and their ranges.

The ranges are declared beside the fields of each config (models/search_space.py) and gathered here. Settings have their
flat name, as in MLflow: `one_to_one.ranker.leaves`, `generators.als.factors`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import optuna
import yaml
from optuna.distributions import FloatDistribution, IntDistribution
from pydantic import BaseModel

from models.bundle import RecommenderName
from models.candidates.registry import GeneratorName
from models.search_space import Between
from training.recipe import DEFAULT_RECIPE, Recipe, flatten

Settings = dict[str, float | int]
"""Flat name → value."""
Range = IntDistribution | FloatDistribution


def search_space(recipe: Recipe, name: RecommenderName, generators: Collection[GeneratorName]) -> dict[str, Range]:
    """Gather the ranges of the settings that the recommender `name` depends on, by flat name.

    `generators`: the names of the active ones; settings and budgets of others change nothing, so they have no range.
    The recipe's own value is always inside: a range is widened to it, so that the recipe can be a trial.
    """
    active = recipe.dump_active(generators)
    ranges: dict[str, Between] = {}
    for key in _in_turn(active["generators"]):
        ranges |= _ranges(getattr(recipe.generators, key), f"generators.{key}.")
    ranges |= _ranges(recipe.recommender(name), f"{name}.")
    values = flatten(active)
    return {
        key: _distribution(b, values[key])
        for key, b in ranges.items()
        if key in values and (b.only in (None, name) or name == "one_to_one_visit")
    }


def group_settings(names: Mapping[str, Any]) -> list[list[str]]:
    """Group names into blocks: the ranker's first, then one block per generator and the budgets."""
    blocks: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: ".ranker." not in name):
        blocks.setdefault(name.rpartition(".")[0], []).append(name)
    return list(blocks.values())


def suggest(trial: optuna.Trial, ranges: Mapping[str, Range], recipe: Recipe) -> Settings:
    """Draw the trial's settings; numbers that are not the recipe's are rounded to three significant digits."""
    values = flatten(recipe.model_dump())
    # In the order of their names: the order decides which setting gets which random numbers.
    drawn = {name: _draw(trial, name, ranges[name]) for name in sorted(ranges)}
    return {n: v if v == values[n] or isinstance(v, int) else float(f"{v:.3g}") for n, v in drawn.items()}


def apply_settings(recipe: Recipe, settings: Settings) -> Recipe:
    """Return the recipe with some of its settings replaced."""
    tree = recipe.model_dump()
    for name, value in settings.items():
        *path, last = name.split(".")
        branch = tree
        for key in path:
            branch = branch[key]
        branch[last] = value
    return Recipe.model_validate(tree)


def _in_turn(keys: Collection[str]) -> list[str]:
    """Order generators as the default recipe does: it decides which trial of a study, also of an older one, is whose.

    Those that it leaves to their defaults follow.
    """
    order = [*yaml.safe_load(DEFAULT_RECIPE.read_text())["generators"], *keys]
    return sorted(keys, key=order.index)


def _ranges(config: BaseModel, prefix: str) -> Iterator[tuple[str, Between]]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _ranges(value, f"{prefix}{name}.")
        for between in (m for m in field.metadata if isinstance(m, Between)):
            keys = [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]
            yield from ((prefix + key, between) for key in keys)


def _distribution(between: Between, value: float) -> Range:
    low, high = min(between.low, value), max(between.high, value)
    log = between.log and low > 0
    if isinstance(value, int):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _draw(trial: optuna.Trial, name: str, distribution: Range) -> float | int:
    if isinstance(distribution, IntDistribution):
        return int(trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log))
    return float(trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log))
