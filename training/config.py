"""Settings of MLflow and of the promotion gate, as mlflow.yml gives them."""

import os

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from features.common import yaml_config
from features.common.addresses import hide_secrets
from features.common.paths import home, project_file


class GuardRailsConfig(BaseModel):
    """Limits on what may get worse while the gate's metric gets better. Null: not checked."""

    model_config = ConfigDict(extra="forbid")

    segment_drop: NonNegativeFloat | None = 0.03
    """How much the metric may fall within one RFM segment."""
    segment_queries: PositiveInt = 50
    """Segments with fewer queries are not checked."""
    new_items_drop: NonNegativeFloat | None = 0.01
    """How much the metric may fall on items new to the customer."""
    other_recommender_drop: NonNegativeFloat | None = 0.01
    """How much NDCG@10 may fall of the recommenders that the gate's metric is not of."""
    coverage_drop_share: float | None = Field(0.3, ge=0, le=1)
    """How far the number of items recommended to anyone may fall, as a share of the champion's."""
    latency_ratio: PositiveFloat | None = 1.5
    """Longest time of the challenger to rank a batch, as a multiple of the champion's."""
    latency_batch: PositiveInt = 64
    """Requests in that batch."""
    empty_share: float | None = Field(0.02, ge=0, le=1)
    """How many visitors, of a sample, may get an empty list. Also checked without a champion, as the next two."""
    filled_share: float | None = Field(0.5, ge=0, le=1)
    """How full their lists of ten must be on average: less, and hardly anything may be shown."""
    available_share: float | None = Field(0.05, ge=0, le=1)
    """How much of what was viewed, put into carts and bought in the last 28 days must be available: with less, catalog
    and events do not speak of the same items."""
    sample: PositiveInt = 200
    """Customers in that sample."""


class GateConfig(BaseModel):
    """When a challenger may become champion."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    """Name of the hold-out metric that decides."""
    margin: float
    """How far the challenger's mean may be below the champion's; negative: how far above it must be."""
    worst_case: NonNegativeFloat = 0.02
    """How far below it may be at the lower end of the difference's 95% interval."""
    min_queries: PositiveInt = 30
    """With fewer queries nothing is decided, and no guard rail is checked."""
    holdout_days: PositiveInt = 28
    """Most days of newer events that both models are compared on."""
    rails: GuardRailsConfig = GuardRailsConfig()
    """The guard rails."""


class MlflowConfig(BaseModel):
    """The content of mlflow.yml."""

    model_config = ConfigDict(extra="forbid")

    tracking_uri: str | None = Field(None, repr=False)
    """URI of the tracking store; a SQLite database in USUAL_HOME if empty."""
    artifact_location: str | None = None
    """Location of models and plots; USUAL_HOME/artifacts if empty."""
    experiment: str
    """Name of the MLflow experiment."""
    registered_model: str
    """Name of the registered model whose versions are bundles."""
    gate: GateConfig
    """The promotion gate."""

    @property
    def uri(self) -> str:
        """URI of the tracking store. Never empty: MLflow's own default depends on files in the working directory."""
        configured = os.environ.get("MLFLOW_TRACKING_URI") or self.tracking_uri
        return configured or f"sqlite:///{home() / 'mlflow.db'}"

    @property
    def shown_uri(self) -> str:
        """`uri` without user, password and tokens: what messages and results say."""
        return hide_secrets(self.uri)

    @property
    def artifacts(self) -> str | None:
        """Artifact location for a new experiment; None where a shared server decides."""
        if self.artifact_location:
            return self.artifact_location
        return (home() / "artifacts").as_uri() if self.uri.startswith("sqlite:///") else None


def load() -> MlflowConfig:
    """Read mlflow.yml of the working directory, else the one that ships with the code. Raises `InputError`."""
    return yaml_config.load_yaml(project_file("mlflow.yml"), MlflowConfig, "the MLflow settings")
