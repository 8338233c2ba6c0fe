"""What the commands print of a training run."""

from collections.abc import Mapping
from typing import Any

from features.clock import iso
from models.bundle import RecommenderName
from training.evaluate import Evaluation
from training.tracking import Logged
from training.train import Result

_COLUMNS = ("ndcg_at_10", "recall_at_20", "map_at_12", "hit_rate_at_10", "mrr")


def metrics_table(evaluations: Mapping[RecommenderName, Evaluation]) -> str:
    """One row per recommender, for all items and for those new to the customer."""
    lines = [f"{'':<24}{'queries':>8}" + "".join(f"{c:>16}" for c in _COLUMNS)]
    for name, evaluation in evaluations.items():
        s = evaluation.summary
        lines.append(f"{name:<24}{int(s['queries']):>8,}" + "".join(f"{s[c]:>16.4f}" for c in _COLUMNS))
        lines.append(f"{'  new to the customer':<24}{'':>8}" + "".join(f"{s['new_' + c]:>16.4f}" for c in _COLUMNS))
    return "\n".join(lines)


def text(result: Result, logged: Logged) -> str:
    start, end = (iso(t)[:10] for t in result.holdout)
    return "\n".join(
        [
            f"hold-out {start} to {end}, ranked by the same recipe trained before it:",
            metrics_table(result.evaluations),
            "",
            f"registered {logged.model_uri} as challenger",
            f"MLflow run {logged.run_id} in experiment {logged.experiment} at {logged.tracking_uri}",
            "look at it with: make ui",
        ]
    )


def as_dict(result: Result, logged: Logged) -> dict[str, Any]:
    return {
        "model_uri": logged.model_uri,
        "run_id": logged.run_id,
        "tracking_uri": logged.tracking_uri,
        "until": iso(result.until),
        "holdout": [iso(t) for t in result.holdout],
        "metrics": result.bundle.metrics,
    }
