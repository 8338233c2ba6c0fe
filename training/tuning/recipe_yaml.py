"""Recipes as YAML: replace some settings of a recipe file and keep its comments."""

from collections.abc import Iterator

import yaml

from training.recipe import Recipe, flatten
from training.tuning.recipe_space import Settings, apply_settings


def render_recipe(text: str, recipe: Recipe, settings: Settings, header: list[str]) -> str:
    """Render `recipe`, whose own YAML is `text`, with `settings` replaced, under the lines of `header` as a comment."""
    target = apply_settings(recipe, settings)
    values = flatten(target.model_dump())
    places = dict(_places(yaml.compose(text, Loader=yaml.SafeLoader)))
    changed = {name: value for name, value in settings.items() if value != flatten(recipe.model_dump())[name]}
    edited = text
    for name in sorted(changed.keys() & places.keys(), key=lambda name: -places[name][0]):
        start, end = places[name]
        edited = edited[:start] + str(values[name]) + edited[end:]
    if Recipe.model_validate(yaml.safe_load(edited)) != target:
        # The file leaves settings to their defaults, or shares values by anchors: write all of them.
        edited = yaml.safe_dump(target.model_dump(mode="json"), sort_keys=False, width=120)
    return "".join(f"# {line}\n" for line in header) + "\n" + edited


def _places(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the flat name of each value, and the start and end of the value in the text."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _places(value, f"{prefix}{key.value}.")
    elif isinstance(node, yaml.ScalarNode):
        yield prefix[:-1], (node.start_mark.index, node.end_mark.index)
