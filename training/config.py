"""mlflow.yml: where runs are kept, and the promotion gate."""

import os

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from features.common import yaml_config
from features.common.paths import home, project_file


class GuardRailsConfig(BaseModel):
    """What must not get worse while the gate's metric gets better. Empty: not checked."""

    model_config = ConfigDict(extra="forbid")

    segment_drop: NonNegativeFloat | None = 0.03
    """How much the metric may fall within one RFM segment."""
    segment_queries: PositiveInt = 50
    """Smaller segments are not judged."""
    new_items_drop: NonNegativeFloat | None = 0.01
    """How much the metric may fall on items new to the customer."""
    other_recommender_drop: NonNegativeFloat | None = 0.01
    """How much NDCG@10 of the recommender that the gate's metric is not about may fall."""
    coverage_drop_share: float | None = Field(0.3, ge=0, le=1)
    """By which share of the champion's the items recommended to anyone may become fewer."""
    latency_ratio: PositiveFloat | None = 1.5
    """How many times as long as the champion the challenger may take to rank a batch."""
    latency_batch: PositiveInt = 64
    """Requests in that batch."""


class GateConfig(BaseModel):
    """When a challenger may become champion."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    """Hold-out metric that decides."""
    margin: float
    """How much worse than the champion's the challenger's mean may be; below zero: how much better it must be."""
    worst_case: NonNegativeFloat = 0.02
    """How much worse it may be at the lower end of the difference's 95% interval."""
    min_queries: PositiveInt = 30
    """On fewer queries nothing is decided, and no guard rail judged."""
    holdout_days: PositiveInt = 28
    """Most days of newer events that both models are compared on."""
    rails: GuardRailsConfig = GuardRailsConfig()
    """The guard rails."""


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
    gate: GateConfig
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
    """Read mlflow.yml of the working directory, else the one that ships with the code. Raises `InputError`."""
    return yaml_config.read(project_file("mlflow.yml"), MlflowConfig, "the MLflow settings")
