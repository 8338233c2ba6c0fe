"""A home that was copied or moved works by itself, and leaves the original alone."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.common.errors import InputError
from features.event_log.log import EventLog
from models.bundle import read_manifest
from models.publishing import publishing_dir, read_current
from tests.training.conftest import Run
from training.config import MlflowConfig
from training.promotion.promote import promote
from training.result import TrainingResult
from training.tracking import log_run, mlflow_client, registry
from training.tracking.relocate import relocate


@pytest.fixture
def copy(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the home, with a blank in its name; meanwhile the original is not there."""
    copy, away = tmp_path / "a copy", run.home.with_name("away")
    shutil.copytree(run.home, copy)
    run.home.rename(away)
    use(copy, monkeypatch)
    try:
        yield copy
        assert not run.home.exists()
    finally:
        shutil.rmtree(run.home, ignore_errors=True)
        away.rename(run.home)


def use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it, too


def addresses(home: Path) -> list[str]:
    with sqlite3.connect(home / "mlflow.db") as connection:
        locations = connection.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'shop' UNION ALL SELECT artifact_uri FROM runs "
            "UNION ALL SELECT artifact_location FROM logged_models UNION ALL "
            "SELECT storage_location FROM model_versions"
        ).fetchall()
    connection.close()
    return [location for (location,) in locations]


def test_a_copy_works_without_the_original(run: Run, copy: Path, result: TrainingResult, event_log: EventLog):
    config = run.config
    assert registry.resolve_bundle(run.logged.model_uri, config).is_relative_to(copy)
    logged = log_run.log_run(result, event_log, config)
    assert promote(config, force="moved").champion == logged.version
    registry.publish_champion(config)
    published = read_current(publishing_dir())
    assert published is not None
    assert published.path.parent == copy / "champion"
    assert read_manifest(published.path).metrics == result.bundle.metrics
    assert all(address.startswith(copy.as_uri() + "/") for address in addresses(copy))


def test_a_home_moves_more_than_once_and_back(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow_client.connect(run.config)
    before = addresses(copy)
    again = copy.rename(copy.with_name("again"))
    use(again, monkeypatch)
    assert relocate(run.config)
    assert not relocate(run.config)
    assert all(address.startswith(again.as_uri() + "/") for address in addresses(again))
    again.rename(copy)
    use(copy, monkeypatch)
    mlflow_client.connect(run.config)
    assert addresses(copy) == before


def test_a_home_of_before_homes_were_recorded_moves_too(run: Run, copy: Path):
    with sqlite3.connect(copy / "mlflow.db") as connection:
        connection.execute("DELETE FROM experiment_tags WHERE key = 'usual.home'")
    connection.close()
    assert relocate(run.config)
    assert registry.resolve_bundle(run.logged.model_uri, run.config).is_relative_to(copy)


def test_a_link_to_a_home_is_no_move(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    link = tmp_path / "link"
    link.symlink_to(run.home)
    use(link, monkeypatch)
    before = addresses(run.home)
    assert not relocate(run.config)
    assert addresses(run.home) == before


def test_artifacts_outside_the_home_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run):
    home, outside = tmp_path / "home", (tmp_path / "outside").as_uri()
    use(home, monkeypatch)
    config = MlflowConfig(experiment="shop", registered_model="shop", gate=run.config.gate, artifact_location=outside)
    mlflow_client.connect(config)
    home.rename(tmp_path / "moved")
    use(tmp_path / "moved", monkeypatch)
    mlflow_client.connect(config)
    assert addresses(tmp_path / "moved") == [outside]


def test_a_store_that_cannot_be_changed_says_so(run: Run, copy: Path):
    writer = sqlite3.connect(copy / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.tracking.relocate._TIMEOUT_S", 0.1)
        with pytest.raises(InputError, match="was copied or moved"):
            relocate(run.config)
    writer.close()
