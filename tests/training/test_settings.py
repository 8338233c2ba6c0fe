"""Settings: recipes, mlflow.yml, and the boundaries that a recipe gives."""

from pathlib import Path

import pytest
import yaml

from features.common.clock import DAY
from features.common.errors import InputError
from training import config, recipe
from training.dataset.folds import choose_boundaries
from training.recipe import Recipe

DEFAULT = yaml.safe_load(recipe.DEFAULT_RECIPE.read_text())
MLFLOW = {"experiment": "shop", "registered_model": "shop", "gate": {"metric": "ndcg", "margin": 0.01}}


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_default_recipe_gives_every_key():
    settings = recipe.load()
    assert settings.model_dump(exclude_unset=True) == settings.model_dump()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"horizon": 7}, "horizon: Extra inputs"),
        ({"horizon_days": 0}, "horizon_days: Input should be greater than 0"),
        ({"boundaries": "many"}, "boundaries: "),
        ({"generators": {"als": {"factor": 3}}}, "generators.als.factor: "),
        ({"one_to_one": {"budgets": {"magic": 3}}}, "one_to_one.budgets.magic"),
        ({"one_to_one": {"budgets": {"popular": 0}}}, "one_to_one.budgets.popular: "),
        ({"predictive": {"budgets": {"popular": 3}, "ranker": {"leaves": "x"}}}, "predictive.ranker.leaves: "),
    ],
)
def test_an_error_names_the_wrong_key_of_a_recipe(tmp_path: Path, change: dict, named: str):
    path = write(tmp_path / "mine.yml", DEFAULT | change)
    with pytest.raises(InputError, match="does not fit") as error:
        recipe.load(path)
    assert named in str(error.value)
    assert str(path) in str(error.value)


def test_a_key_left_out_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="seed: Field required"):
        recipe.load(write(tmp_path / "mine.yml", {k: v for k, v in DEFAULT.items() if k != "seed"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not fit: the file: "),
        (b"- 1", "does not fit: the file: "),
        (b"a: [", "is not valid YAML: line 1, column 5: expected .*, while parsing a flow node that begins in line 1$"),
        (b"\xff\xfe\x00", "mine.yml"),
        (b"!!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "mine.yml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        recipe.load(tmp_path / "mine.yml")


def test_a_missing_recipe(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere.yml cannot be read: .*No such file"):
        recipe.load(tmp_path / "nowhere.yml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_without_a_file_in_the_working_directory_the_projects_is_used(here: Path):
    settings = config.load()
    assert (settings.registered_model, settings.gate.metric) == ("usual", "one_to_one_ndcg_at_10")
    assert settings.uri == f"sqlite:///{here}/home/mlflow.db"
    assert settings.artifacts == f"file://{here}/home/artifacts"


def test_the_working_directorys_file_wins_and_the_environment_over_both(here: Path, monkeypatch: pytest.MonkeyPatch):
    write(here / "mlflow.yml", MLFLOW | {"tracking_uri": "http://tracking:5000"})
    settings = config.load()
    assert (settings.registered_model, settings.uri, settings.artifacts) == ("shop", "http://tracking:5000", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert settings.uri == "http://other:5000"
    write(here / "mlflow.yml", MLFLOW | {"artifact_location": "s3://bucket"})
    assert config.load().artifacts == "s3://bucket"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (MLFLOW | {"gates": {}}, "gates: Extra inputs"),
        (MLFLOW | {"gate": {"metric": "ndcg"}}, "gate.margin: Field required"),
        (MLFLOW | {"gate": {"metric": "ndcg", "margin": "little"}}, "gate.margin: "),
        ({}, "experiment: Field required"),
        (None, "mlflow.yml does not fit"),
    ],
)
def test_an_error_names_the_wrong_key_of_an_mlflow_file(here: Path, content: object, named: str):
    write(here / "mlflow.yml", content)
    with pytest.raises(InputError, match=named):
        config.load()


@pytest.mark.parametrize(("content", "why"), [(b"gate: [", "is not valid YAML"), (b"\xff\xfe\x00", "cannot be read")])
def test_an_mlflow_file_that_cannot_be_read(here: Path, content: bytes, why: str):
    (here / "mlflow.yml").write_bytes(content)
    with pytest.raises(InputError, match=rf"mlflow.yml {why}"):
        config.load()


START = 19_000 * DAY


def points(days: float, **changes: int) -> list[float]:
    """Days from the log's first event to each boundary, where the log ends after `days`."""
    settings = {"horizon_days": 28, "boundaries": 12, "boundary_step_days": 14} | changes
    recipe = Recipe.model_validate(DEFAULT | settings)
    return [(at - START) / DAY for at in choose_boundaries(START, START + round(days * DAY), recipe)]


def test_boundaries_go_back_from_the_hold_out_as_far_as_the_log():
    assert points(120) == [92, 78, 64, 50, 36]
    assert points(120, boundaries=4) == [92, 78, 64, 50]
    assert points(84) == [56, 42, 28]
    assert points(90, boundary_step_days=28) == [62, 34]


def test_some_boundary_has_its_labels_before_the_hold_out():
    """For every length of the log that is enough for boundaries at all."""
    for days in range(1, 150):
        try:
            boundaries = points(days)
        except InputError:
            assert days < 84
            continue
        assert days >= 84
        assert boundaries[0] == days - 28
        assert any(at + 28 <= boundaries[0] for at in boundaries)
        assert min(boundaries) >= 28


def test_the_error_of_too_short_a_log_says_what_it_takes():
    with pytest.raises(InputError, match=r"covers 83 days .* horizon_days 28 training needs 84"):
        points(83)
    with pytest.raises(InputError, match="training needs 84"):
        points(400, boundaries=1)


@pytest.mark.parametrize("days", [0, -5])
def test_the_end_is_after_the_first_event(days: int):
    with pytest.raises(InputError, match="choose a later --until"):
        points(days)
