"""The event log as an MLflow data set, which records what a run was trained on."""

import hashlib
import json
from typing import Any

from mlflow.data import sources
from mlflow.data.dataset import Dataset

from features.common.clock import iso
from features.event_log.log import EventLog
from training.result import TrainingResult


class EventLogDataset(Dataset):
    """The events of a training run: log, end of training and number of rows.

    The digest is the log's fingerprint and a hash of the rest: of data sets with one name and digest MLflow keeps the
    first alone, and two runs on a log may end at different times.
    """

    def __init__(self, event_log: EventLog, result: TrainingResult) -> None:
        start, end = result.holdout
        self._profile = {
            "events_in_log": event_log.info["rows"],
            "events_before_cut_off": result.events,
            "cut_off": iso(result.until),
            "first_event": event_log.info["first"],
            "last_event": event_log.info["last"],
            "holdout_from": iso(start),
            "holdout_to": iso(end),
            "boundaries": [iso(at) for at in result.boundaries],
            "customers": len(result.bundle.snapshot.customers),
            "items": len(result.bundle.snapshot.items),
            **{f"training_rows_{name}": n for name, n in result.rows.items()},
            **{f"holdout_queries_{name}": e.per_query.height for name, e in result.evaluations.items()},
        }
        # MLflow creates this class at import time, where mypy cannot see it.
        source = sources.LocalArtifactDatasetSource(str(event_log.path.resolve()))  # type: ignore[attr-defined]
        rest = hashlib.sha256(json.dumps(self._profile).encode()).hexdigest()[:8]
        super().__init__(source, event_log.path.name, f"{event_log.fingerprint}-{rest}")

    def _compute_digest(self) -> str:
        return str(self.digest)

    @property
    def schema(self) -> None:
        return None

    @property
    def profile(self) -> dict[str, Any]:
        return self._profile

    def to_dict(self) -> dict[str, str]:
        return {**super().to_dict(), "profile": json.dumps(self._profile)}
