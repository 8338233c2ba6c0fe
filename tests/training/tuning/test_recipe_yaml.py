"""Recipe files with settings replaced."""

from pathlib import Path

import yaml

from features.event_log.log import EventLog
from tests.training.recipes import small
from training import recipe as recipes
from training.train import train
from training.tuning import recipe_space
from training.tuning.recipe_yaml import render_recipe


def test_a_tuned_recipe_keeps_its_comments_and_trains(event_log: EventLog, tmp_path: Path):
    text = recipes.DEFAULT_RECIPE.read_text()
    settings: recipe_space.Settings = {
        "one_to_one.ranker.leaves": 21,
        "generators.als.alpha": 7.35,
        "predictive.budgets.popular": 9,
    }
    rendered = render_recipe(text, recipes.load(), settings, ["Tuned."])
    assert rendered.startswith("# Tuned.\n\n# The default recipe")
    assert len(rendered.splitlines()) == len(text.splitlines()) + 2
    assert sum(a != b for a, b in zip(rendered.splitlines()[2:], text.splitlines(), strict=True)) == 3
    (tmp_path / "recipe.yml").write_text(rendered)
    assert recipes.load(tmp_path / "recipe.yml") == recipe_space.apply_settings(recipes.load(), settings)
    # A file that leaves a setting to its default cannot be edited in place.
    base = small(boundaries=3)
    text = yaml.safe_dump(small().model_dump(mode="json"), sort_keys=False)
    text = text.replace("    alpha: 5.0\n", "").replace("boundaries: 4", "boundaries: 3")
    (tmp_path / "small.yml").write_text(render_recipe(text, base, settings, ["Tuned."]))
    loaded = recipes.load(tmp_path / "small.yml")
    assert loaded == recipe_space.apply_settings(base, settings)
    assert train(event_log, loaded).recipe.generators.als.alpha == 7.35
