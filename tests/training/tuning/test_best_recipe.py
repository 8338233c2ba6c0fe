"""The recipe that comes of a study, as a file."""

from pathlib import Path

import yaml

from features.event_log.log import EventLog
from tests.training.recipes import small
from training import recipe as recipes
from training.train import train
from training.tuning import space
from training.tuning.best_recipe import written


def test_a_tuned_recipe_keeps_its_comments_and_trains(event_log: EventLog, tmp_path: Path):
    text = recipes.DEFAULT.read_text()
    settings: space.Settings = {
        "one_to_one.ranker.leaves": 21,
        "generators.als.alpha": 7.35,
        "predictive.budgets.popular": 9,
    }
    made = written(text, recipes.load(), settings, ["Tuned."])
    assert made.startswith("# Tuned.\n\n# The default recipe")
    assert len(made.splitlines()) == len(text.splitlines()) + 2
    assert sum(a != b for a, b in zip(made.splitlines()[2:], text.splitlines(), strict=True)) == 3
    (tmp_path / "recipe.yml").write_text(made)
    assert recipes.load(tmp_path / "recipe.yml") == space.applied(recipes.load(), settings)
    # A file that leaves a setting to its default cannot be edited in place.
    base = small(boundaries=3)
    text = yaml.safe_dump(small().model_dump(mode="json"), sort_keys=False)
    text = text.replace("    alpha: 5.0\n", "").replace("boundaries: 4", "boundaries: 3")
    (tmp_path / "small.yml").write_text(written(text, base, settings, ["Tuned."]))
    loaded = recipes.load(tmp_path / "small.yml")
    assert loaded == space.applied(base, settings)
    assert train(event_log, loaded).recipe.generators.als.alpha == 7.35
