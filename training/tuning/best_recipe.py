"""A recipe with some settings replaced, as a file: the comments of the one it came from are kept."""

from collections.abc import Iterator

import yaml

from training.recipe import Recipe, flat
from training.tuning.space import Settings, applied


def written(text: str, recipe: Recipe, settings: Settings, header: list[str]) -> str:
    """YAML of `recipe`, whose own YAML is `text`, with `settings` replaced, under a comment."""
    wanted = applied(recipe, settings)
    values = flat(wanted.model_dump())
    places = dict(_places(yaml.compose(text, Loader=yaml.SafeLoader)))
    changed = {name: value for name, value in settings.items() if value != flat(recipe.model_dump())[name]}
    edited = text
    for name in sorted(changed.keys() & places.keys(), key=lambda name: -places[name][0]):
        start, end = places[name]
        edited = edited[:start] + str(values[name]) + edited[end:]
    if Recipe.model_validate(yaml.safe_load(edited)) != wanted:
        # The file leaves settings to their defaults, or shares values by anchors: then all are spelt out.
        edited = yaml.safe_dump(wanted.model_dump(mode="json"), sort_keys=False, width=120)
    return "".join(f"# {line}\n" for line in header) + "\n" + edited


def _places(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """Flat name → where its value stands in the text."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _places(value, f"{prefix}{key.value}.")
    elif isinstance(node, yaml.ScalarNode):
        yield prefix[:-1], (node.start_mark.index, node.end_mark.index)
