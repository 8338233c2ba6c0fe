"""MLflow's address: its password is in no message, no result and no list of processes."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from features.common.errors import InputError
from training import config
from training.config import MlflowConfig
from training.tracking import mlflow_client, registry

PASSWORD = "hunter2~xyzzy"  # noqa: S105
URI = f"postgresql://usual:{PASSWORD}@127.0.0.1:1/mlflow"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MlflowConfig]:
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("USUAL_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_BACKEND_STORE_URI"):
        monkeypatch.setenv(variable, "")  # so that what is set here is gone after the test
    yield config.load()
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("error", [MlflowException, ValueError, ModuleNotFoundError])
def test_no_error_repeats_it(settings: MlflowConfig, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail(*_: Any) -> None:
        raise error(f"cannot parse {URI}; postgresql+psycopg://usual:{PASSWORD}@127.0.0.1:1 with {PASSWORD!r}")

    monkeypatch.setattr(mlflow, "MlflowClient", fail)
    with pytest.raises(
        InputError, match=r"MLflow cannot be reached at postgresql://\*\*\*@127.0.0.1:1/mlflow"
    ) as raised:
        mlflow_client.connect(settings)
    assert PASSWORD not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_no_model_that_is_missing_repeats_it(settings: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MlflowException(f"nothing at {URI}")

    monkeypatch.setattr(registry, "connect", lambda _: None)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fail)
    with pytest.raises(InputError) as raised:
        registry.resolve_bundle("models:/usual/1", settings)
    assert PASSWORD not in str(raised.value)


def test_results_and_settings_show_no_password(settings: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.shown_uri == "postgresql://***@127.0.0.1:1/mlflow"
    assert PASSWORD not in repr(settings.model_copy(update={"tracking_uri": URI}))
    assert PASSWORD not in str(settings.model_copy(update={"tracking_uri": URI}))


def test_the_pages_get_it_by_their_environment(
    settings: MlflowConfig, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    started: list[list[str]] = []
    client = SimpleNamespace(get_experiment_by_name=lambda _: None)
    monkeypatch.setattr(mlflow_client, "connect", lambda _: client)
    monkeypatch.setattr(os, "execv", lambda _, arguments: started.append(arguments))
    mlflow_client.serve_ui(settings, "127.0.0.1", 5000)
    assert PASSWORD not in " ".join(started[0])
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == URI
    assert PASSWORD not in capsys.readouterr().out


def test_a_server_is_named_without_it(settings: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://usual:{PASSWORD}@mlflow.example:5000/")
    with pytest.raises(InputError, match=r"open https://\*\*\*@mlflow.example:5000/"):
        mlflow_client.serve_ui(settings, "127.0.0.1", 5000)


def test_mlflow_is_given_the_user_of_a_server_beside_its_address(
    settings: MlflowConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages repeat the address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://usual:p%40ss@127.0.0.1:1/")
    client = SimpleNamespace(get_experiment_by_name=lambda _: object())
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: client)
    mlflow_client.connect(settings)
    assert mlflow.get_tracking_uri() == "http://127.0.0.1:1/"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("usual", "p@ss")
