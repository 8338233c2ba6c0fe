"""The registry: which generators there are, in which order, and how the rest of the system knows them."""

import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from models.candidates import registry
from models.candidates.protocol import ItemReason, ItemToItemGenerator, SignalGroup
from models.candidates.registry import CLASSES, GENERATORS, NAMED_SCORES, GeneratorName, GeneratorsConfig, discover
from models.explain.codes import REASON_CODES
from models.search_space import Between
from models.two_stage import TwoStageConfig
from training import recipe

GENERATOR = """
from dataclasses import dataclass

from models.candidates.buy_again import BuyAgain
from models.candidates.protocol import CandidateGenerator, NamedScore


class Unfinished(CandidateGenerator[None]):
    key, position, named_scores = "unfinished", 99, ()


@dataclass(frozen=True)
class {name}(BuyAgain):
    key, position = {key!r}, {position}
    named_scores = tuple(NamedScore(name, "this visit") for name in {names!r})
"""


def write_package(directory: Path, package: str, **modules: str) -> None:
    (directory / package).mkdir()
    for name, text in {"__init__": "", **modules}.items():
        (directory / package / f"{name}.py").write_text(text)


def generator(name: str, key: str, position: int, names: tuple[str, ...]) -> str:
    return GENERATOR.format(name=name, key=key, position=position, names=names)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return tmp_path


def test_columns_of_older_bundles_stay_where_they_are():
    """New generators come after these."""
    assert GENERATORS[:15] == (
        "history", "visit", "neighbours", "als", "item_knn", "item_knn_last", "item_knn_visit", "covisit_last",
        "covisit_visit", "content", "content_visit", "popular", "popular_segment", "popular_category", "arrivals",
    )  # fmt: skip
    assert [cls.key for cls in CLASSES][:7] == [
        "buy_again", "neighbours", "als", "item_knn", "covisit", "content", "popular",
    ]  # fmt: skip


def test_every_generator_of_a_package_is_found_in_the_order_of_positions(path: Path):
    write_package(
        path,
        "some_generators",
        a=generator("Late", "late", 12, ("late", "late_visit")),
        b="X = 1",
        c=generator("Early", "early", 3, ("early",)),
        registry="raise AssertionError('built on the registry')",
    )
    assert [cls.__name__ for cls in discover("some_generators")] == ["Early", "Late"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("one", 2, ("b",)), "two candidate generators of .* have the key 'one'; choose another"),
        (("two", 1, ("b",)), "have the position 1; choose another"),
        (("two", 2, ("b", "a")), "have the name 'a'; choose another"),
        (("two", 2, tuple(f"n{n}" for n in range(31))), "has 32 candidate generators; 31 is the most"),
    ],
)
def test_generators_that_clash_are_refused(
    path: Path, request: pytest.FixtureRequest, second: tuple[str, int, tuple[str, ...]], message: str
):
    package = f"clash_{abs(hash(request.node.name))}"
    write_package(path, package, a=generator("One", "one", 1, ("a",)), b=generator("Two", *second))
    with pytest.raises(TypeError, match=message):
        discover(package)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValidationError) as refused:
        TwoStageConfig.model_validate({"budgets": {"magic": 5}})
    assert all(f"'{name}'" in str(refused.value) for name in GENERATORS)
    assert TypeAdapter(GeneratorName).json_schema()["enum"] == [*GENERATORS]


def test_settings_of_a_recipe_are_those_of_the_generators_that_have_any():
    assert [*GeneratorsConfig.model_fields] == [cls.key for cls in CLASSES if cls.settings]
    for cls in CLASSES:
        if cls.settings:
            assert getattr(GeneratorsConfig(), cls.key) == cls.settings()
    for unknown in ({"magic": {}}, {"als": {"magic": 1}}, {"popular": {}}):
        with pytest.raises(ValidationError):
            GeneratorsConfig.model_validate(unknown)
    fields = GeneratorsConfig.model_fields["als"].annotation.model_fields
    assert any(isinstance(m, Between) for m in fields["factors"].metadata)


def test_the_default_recipe_has_the_settings_of_all():
    written = yaml.safe_load(recipe.DEFAULT_RECIPE.read_text())["generators"]
    assert sorted(written) == sorted(GeneratorsConfig.model_fields)


def test_every_named_score_can_be_explained():
    assert set(get_args(ItemReason)) <= set(REASON_CODES)
    for cls in CLASSES:
        for score in cls.named_scores:
            assert score.group in get_args(SignalGroup)
            item_to_item = issubclass(cls, ItemToItemGenerator)
            assert (score.reason is not None) == item_to_item
            assert score.basis is not None or not item_to_item
            assert NAMED_SCORES[score.name] is score


def test_a_named_score_without_a_basis_is_refused():
    class Nameless(registry.CLASSES[3]):  # type: ignore[misc, name-defined]
        named_scores = (registry.NamedScore("nameless", "this visit"),)

    with pytest.raises(TypeError, match="Nameless must declare the basis of its score 'nameless'"):
        Nameless.basis_of("nameless")
