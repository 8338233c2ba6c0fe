"""MLflow client: connect to the configured tracking store, prepare its experiment, and serve its UI."""

import base64
import contextlib
import json
import logging
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # read when mlflow is imported

import mlflow

from features.common.addresses import hide_secrets_in
from features.common.errors import InputError
from training.config import MlflowConfig
from training.tracking.relocate import relocate

VIEW = "headline"  # key of the saved view that `usual ui` points to
_COLUMNS = (
    "metrics.`one_to_one_ndcg_at_10`",
    "metrics.`one_to_one_over_best_baseline`",
    "metrics.`one_to_one_new_ndcg_at_10`",
    "metrics.`one_to_one_visit_ndcg_at_10`",
    "metrics.`predictive_ndcg_at_10`",
    "metrics.`predictive_over_best_baseline`",
    "attributes.`Dataset`",
    "attributes.`Models`",
)
_ABOUT = """Training runs of The Usual: one row per `usual train`, and per study of `usual tune` with its trials nested.

Open the view **Headline** (button Views) for the most important metrics. `one_to_one` ranks for customers with history,
`one_to_one_visit` for them during a visit, `predictive` for everyone else; `over_best_baseline` is a recommender's
NDCG@10 minus that of the best baseline. In the charts, the part of a name before a slash is a section: candidate
recall, NDCG@10 by segment, learning curves.
The artifact `report.html` of a run summarises it on one page."""


def connect(config: MlflowConfig) -> "mlflow.MlflowClient":
    """Point MLflow at the configured store, and create the experiment on first use.

    The addresses in a local store follow its home. Raises `InputError` if the store cannot be reached.
    """
    if config.uri.startswith("sqlite:///"):
        Path(config.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    relocate(config)  # before MLflow reads an address
    try:
        # The first use of a SQLite store creates its tables and logs every step.
        with silence_logs():
            mlflow.set_tracking_uri(_without_user(config.uri))
            client = mlflow.MlflowClient()
            if client.get_experiment_by_name(config.experiment) is None:
                client.create_experiment(config.experiment, artifact_location=config.artifacts, tags=_experiment_tags())
                relocate(config)  # records the home
    except InputError:
        raise
    except Exception as error:  # of MLflow, of SQLAlchemy or of a driver; what they say may hold the password
        why = hide_secrets_in(str(error), config.uri)
        raise InputError(f"MLflow cannot be reached at {config.shown_uri}: {why}") from None
    return client


def serve_ui(config: MlflowConfig, host: str, port: int) -> None:
    """Replace this process by an MLflow server over the configured store; does not return.

    Raises `InputError` if runs are kept on a server already.
    """
    if config.uri.startswith(("http://", "https://")):
        raise InputError(f"runs are kept on a server already: open {config.shown_uri}")
    client = connect(config)  # creates the store on first use
    experiment = client.get_experiment_by_name(config.experiment)
    runs = f"#/experiments/{experiment.experiment_id}/runs" if experiment else ""
    has_view = experiment is not None and _headline_view_tag() in experiment.tags
    print(f"runs: http://{host}:{port}/{runs}{f'?viewStateShareKey={VIEW}' if has_view else ''}", flush=True)
    print(f"models: http://{host}:{port}/#/models/{config.registered_model}", flush=True)
    command = ["mlflow", "server", "--host", host, "--port", str(port)]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = config.uri  # every user of the machine may list the arguments of processes
    # One worker and no job processes: this serves one analyst from a local store.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["PYTHONSAFEPATH"] = "1"  # also of the server's own processes: the working directory holds no modules
    os.execv(sys.executable, [sys.executable, "-m", *command, "--workers", "1"])  # noqa: S606


def _without_user(uri: str) -> str:
    """Move user and password of a server's address to where MLflow looks for them; its messages repeat the address."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@contextlib.contextmanager
def silence_logs() -> Iterator[None]:
    """Silence notices of MLflow and Alembic that are of no use to the user."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _experiment_tags() -> dict[str, str]:
    """Return the tags of a new experiment: its description, its kind, and the columns of its table of runs."""
    return {
        "mlflow.note.content": _ABOUT,
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "one_to_one_ndcg_at_10",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        _headline_view_tag(): _headline_view(),
    }


def _headline_view_tag() -> str:
    return f"mlflow.sharedViewState.{VIEW}"


def _headline_view() -> str:
    """Return a saved view in the format of MLflow 3.17: the headline metrics as columns of the table of runs."""
    state: dict[str, Any] = {
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "searchFilter": "",
        "datasetsFilter": [],
        "selectedColumns": list(_COLUMNS),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": "Headline", "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})
