"""mlflow.yml: where runs are kept, and the promotion gate."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from features import yaml_file
from features.home import home

_BESIDE_THE_CODE = Path(__file__).resolve().parent.parent / "mlflow.yml"


class Gate(BaseModel):
    """When a challenger may become champion."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    """Hold-out metric that decides."""
    margin: float
    """How much worse than the champion's the challenger's may be."""


class MlflowConfig(BaseModel):
    """The content of mlflow.yml."""

    model_config = ConfigDict(extra="forbid")

    tracking_uri: str | None = None
    """Where runs are kept; a SQLite database in USUAL_HOME if empty."""
    artifact_location: str | None = None
    """Where models and plots are kept; USUAL_HOME/artifacts if empty."""
    experiment: str
    """Name of the MLflow experiment."""
    registered_model: str
    """Name of the registered model whose versions are bundles."""
    gate: Gate
    """The promotion gate."""

    @property
    def uri(self) -> str:
        """Where to track. Always set: MLflow's own default depends on what lies in the working directory."""
        chosen = os.environ.get("MLFLOW_TRACKING_URI") or self.tracking_uri
        return chosen or f"sqlite:///{home() / 'mlflow.db'}"

    @property
    def artifacts(self) -> str | None:
        """Artifact location for a new experiment; None where a shared server decides."""
        if self.artifact_location:
            return self.artifact_location
        return (home() / "artifacts").as_uri() if self.uri.startswith("sqlite:///") else None


def load() -> MlflowConfig:
    """mlflow.yml of the working directory, else the one beside the code. Raises `InputError`."""
    here = Path("mlflow.yml")
    return yaml_file.read(here if here.is_file() else _BESIDE_THE_CODE, MlflowConfig, "the MLflow settings")
