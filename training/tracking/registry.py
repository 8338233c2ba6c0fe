"""Model registry: the versions of the registered MLflow model, and the bundles behind them."""

import re
from pathlib import Path

from training.tracking.mlflow_client import (
    connect,
    silence_logs,
)  # first: it fixes what mlflow reads when it is imported

import mlflow  # isort: skip
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.common.addresses import hide_secrets_in
from features.common.errors import InputError
from models.bundle import Bundle, read_manifest
from models.publishing import publish, publishing_dir, read_current
from training.config import MlflowConfig

CHALLENGER, CHAMPION = "challenger", "champion"  # aliases of versions
_URI = re.compile(r"models:/[^/@]+(?:/[^/@]+|@[^/@]+)|models:/m-[0-9a-f]+|runs:/[^/]+/.+")
_DESCRIPTION = 5000  # characters of a version's description that MLflow's tables hold; PostgreSQL refuses more
_ABOUT = """Bundles of The Usual: the recommenders, their features and the catalog they rank, as one directory.

- **champion**: the version that is served. `usual promote` moves this alias to the challenger, `usual rollback` moves
  it back.
- **challenger**: the version trained last. The promotion gate in `mlflow.yml` decides about it.

Each version's description is its model card. Its tags record the log and hold-out that it was measured on, and the
decision of the gate (`gate…`)."""


def register(
    client: "mlflow.MlflowClient", name: str, uri: str, run_id: str, tags: dict[str, str], card: str
) -> ModelVersion:
    """Create a version of the registered model `name`, which is created on first use; `card` describes the version."""
    with silence_logs():
        if not client.search_registered_models(filter_string=f"name = '{name}'"):
            client.create_registered_model(name, description=_ABOUT)
        model_id = uri.removeprefix("models:/")
        description = card if len(card) <= _DESCRIPTION else card[: card.rindex("\n", 0, _DESCRIPTION)]
        return client.create_model_version(
            name, source=uri, run_id=run_id, tags=tags, description=description, model_id=model_id
        )


def champion_uri(config: MlflowConfig) -> str:
    """Return the URI of the version that is served."""
    return f"models:/{config.registered_model}@champion"


def load_bundle(uri: str | None, config: MlflowConfig) -> Bundle:
    """Load the bundle of a model (see `resolve_bundle`), by default of the champion."""
    return Bundle.load(resolve_bundle(uri or champion_uri(config), config))


def resolve_bundle(uri: str, config: MlflowConfig) -> Path:
    """Return the bundle directory of a model: a directory, or an MLflow URI such as models:/usual@champion.

    Raises `InputError` if `uri` is neither, or the model cannot be downloaded.
    """
    if (Path(uri) / "manifest.json").is_file():
        return Path(uri)
    if not uri.startswith(("models:/", "runs:/")):
        raise InputError(f"{uri} is neither a bundle directory nor a model URI; try {champion_uri(config)}")
    if not _URI.fullmatch(uri):
        raise InputError(
            f"{uri} is no model URI: write models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/NAME, such as "
            f"{champion_uri(config)}"
        )
    connect(config)
    try:
        with silence_logs():
            path = Path(mlflow.artifacts.download_artifacts(uri))
    except MlflowException as error:
        why = hide_secrets_in(error.message, config.uri)
        raise InputError(
            f"{uri} was not found at {config.shown_uri} ({why}); `usual train` registers a model as "
            "challenger, `usual promote` makes it champion"
        ) from error
    return path / "artifacts" / "bundle"


def publish_champion(config: MlflowConfig) -> str | None:
    """Publish the champion where running servers look for it. Returns a warning if its snapshot is the older one."""
    uri, directory = champion_uri(config), publishing_dir()
    previous = read_current(directory)
    previous_as_of = ""
    if previous and (previous.path / "manifest.json").is_file():
        previous_as_of = read_manifest(previous.path).as_of
    as_of = read_manifest(publish(resolve_bundle(uri, config), version_label(uri, config), directory).path).as_of
    if as_of >= previous_as_of:
        return None
    return (
        f"its snapshot is of {as_of}, older than the previous one of {previous_as_of}: update it with "
        "`usual refresh --log LOG`"
    )


def version_label(uri: str, config: MlflowConfig) -> str:
    """Return a short name for the model of `uri`: its version in the registry, else `local`."""
    prefix = f"models:/{config.registered_model}"
    if uri.startswith(f"{prefix}@"):
        alias = uri.removeprefix(f"{prefix}@")
        return str(connect(config).get_model_version_by_alias(config.registered_model, alias).version)
    return uri.removeprefix(f"{prefix}/") if uri.startswith(f"{prefix}/") else "local"
