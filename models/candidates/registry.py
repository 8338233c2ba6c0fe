"""The registry of candidate generators: finds every generator of this package and gives each its place.

A generator is added by adding its file. What the rest of the system knows of generators follows from here: the names
that recipes and placements may use, the settings of a recipe, and the order of columns in the ranker's matrix.
"""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, create_model

from models.candidates.protocol import CandidateGenerator, NamedScore

MAX_GENERATORS = 31  # `two_stage.Candidates.proposed` has a bit for each, and one that stands for none
_PACKAGE = __name__.rpartition(".")[0]
_BUILT_ON_THIS = {"registry", "generators"}  # importing these here would be a circle


def discover(package: str) -> tuple[type[CandidateGenerator[Any]], ...]:
    """Import the modules of `package` and list the generators defined there, by position.

    Raises `TypeError` where two share a key, a position or a name, or where there are too many.
    """
    classes = sorted(_classes(package), key=lambda cls: cls.position)
    names = [score.name for cls in classes for score in cls.named_scores]
    declared: dict[str, list[Any]] = {
        "key": [cls.key for cls in classes],
        "position": [cls.position for cls in classes],
        "name": names,
    }
    for what, values in declared.items():
        for value in values:
            if values.count(value) > 1:
                raise TypeError(f"two candidate generators of {package} have the {what} {value!r}; choose another")
    if len(names) > MAX_GENERATORS:
        raise TypeError(f"{package} has {len(names)} candidate generators; {MAX_GENERATORS} is the most")
    return tuple(classes)


def _classes(package: str) -> Iterator[type[CandidateGenerator[Any]]]:
    for info in pkgutil.iter_modules(import_module(package).__path__):
        if info.name in _BUILT_ON_THIS:
            continue
        module = import_module(f"{package}.{info.name}")
        for value in vars(module).values():
            if (
                inspect.isclass(value)
                and issubclass(value, CandidateGenerator)
                and value.__module__ == module.__name__
                and not inspect.isabstract(value)
            ):
                yield value


CLASSES = discover(_PACKAGE)
"""All candidate generators, by position."""
NAMED_SCORES: dict[str, NamedScore] = {score.name: score for cls in CLASSES for score in cls.named_scores}
"""Generator name → what is declared of it, in the order of columns."""
GENERATORS: tuple[str, ...] = tuple(NAMED_SCORES)
"""The names of all generators, active or not; those of a fitted model are `Generators.names`."""

if TYPE_CHECKING:
    GeneratorName: TypeAlias = str

    class GeneratorsConfig(BaseModel):
        def __getattr__(self, key: str) -> Any: ...

else:
    # Built from the registry, so that pydantic names what there is in its errors and in JSON schemas.
    GeneratorName = Literal[GENERATORS]
    GeneratorsConfig = create_model(
        "GeneratorsConfig",
        __config__=ConfigDict(extra="forbid"),
        __doc__="Settings of the candidate generators that have any, by their key.",
        __module__=__name__,
        **{cls.key: (cls.settings, cls.settings()) for cls in CLASSES if cls.settings},
    )
