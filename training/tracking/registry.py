"""The registered model: its versions, and the bundles behind them."""

from pathlib import Path

from training.tracking.mlflow_client import connect, quiet  # first: it fixes what mlflow reads when it is imported

import mlflow  # isort: skip
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.common.errors import InputError
from models.bundle import Bundle, read_manifest
from models.publishing import current, place, publish
from training.config import MlflowConfig

_DESCRIPTION = 5000  # characters of a version's description that MLflow's tables hold; PostgreSQL refuses more
_ABOUT = """Bundles of The Usual: the recommenders, their features and the catalog they rank, as one directory.

- **champion**: what is served. `usual promote` gives it to the challenger, `usual rollback` takes it back.
- **challenger**: what was trained last. It waits for the promotion gate in `mlflow.yml`.

Each version's description is its model card. The tags say on which log and hold-out it was measured, and what the
gate said (`gate…`)."""


def register(
    client: "mlflow.MlflowClient", name: str, uri: str, run_id: str, tags: dict[str, str], card: str
) -> ModelVersion:
    """A new version of the registered model `name`, which is made if it is not there; `card` describes the version."""
    with quiet():
        if not client.search_registered_models(filter_string=f"name = '{name}'"):
            client.create_registered_model(name, description=_ABOUT)
        model_id = uri.removeprefix("models:/")
        fitting = card if len(card) <= _DESCRIPTION else card[: card.rindex("\n", 0, _DESCRIPTION)]
        return client.create_model_version(
            name, source=uri, run_id=run_id, tags=tags, description=fitting, model_id=model_id
        )


def champion(config: MlflowConfig) -> str:
    """The URI of the version that is served."""
    return f"models:/{config.registered_model}@champion"


def bundle(uri: str | None, config: MlflowConfig) -> Bundle:
    """The bundle behind a model (see `bundle_path`), None for the champion."""
    return Bundle.load(bundle_path(uri or champion(config), config))


def bundle_path(uri: str, config: MlflowConfig) -> Path:
    """The bundle directory behind a model: a directory, or an MLflow URI such as models:/usual@champion."""
    if (Path(uri) / "manifest.json").is_file():
        return Path(uri)
    if not uri.startswith(("models:/", "runs:/")):
        raise InputError(f"{uri} is neither a bundle directory nor a model URI; try {champion(config)}")
    connect(config)
    try:
        with quiet():
            found = Path(mlflow.artifacts.download_artifacts(uri))
    except MlflowException as error:
        raise InputError(
            f"{uri} was not found at {config.uri} ({error.message}); `usual train` registers a model as "
            "challenger, `usual promote` makes it champion"
        ) from error
    return found / "artifacts" / "bundle"


def publish_champion(config: MlflowConfig) -> str | None:
    """Put the champion where running servers look for it; what there is to say of that, if anything."""
    uri, where = champion(config), place()
    before = current(where)
    was = read_manifest(before.path).as_of if before and (before.path / "manifest.json").is_file() else ""
    now = read_manifest(publish(bundle_path(uri, config), version_label(uri, config), where).path).as_of
    if now >= was:
        return None
    return f"its snapshot is of {now}, the one before was of {was}: bring it up to date with `usual refresh --log LOG`"


def version_label(uri: str, config: MlflowConfig) -> str:
    """A short name for the model behind `uri`: its version in the registry, else `local`."""
    prefix = f"models:/{config.registered_model}"
    if uri.startswith(f"{prefix}@"):
        alias = uri.removeprefix(f"{prefix}@")
        return str(connect(config).get_model_version_by_alias(config.registered_model, alias).version)
    return uri.removeprefix(f"{prefix}/") if uri.startswith(f"{prefix}/") else "local"
