"""The result of a study as text for the terminal, as a dictionary for JSON, and as the header of a recipe file."""

from pathlib import Path

from features.common.clock import iso
from training.tuning.log_study import LoggedStudy
from training.tuning.study_result import StudyResult


def recipe_header(result: StudyResult) -> list[str]:
    """Describe the result in the lines of the comment above the recipe."""
    start, end = (iso(t)[:10] for t in result.holdout)
    mean, low, high = result.difference
    summary = (
        f"Made by `usual tune`: the best of {result.trials} trials"
        if result.better
        else f"Left as it was by `usual tune`: none of {result.trials} trials was better by more than chance"
    )
    return [
        f"{summary}.",
        f"{result.metric} on the hold-out {start} to {end}: {result.best:.4f} against {result.default:.4f};",
        f"difference {mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f}, optimistic: the best was chosen there.",
    ]


def render_study(result: StudyResult, logged: LoggedStudy, out: Path) -> str:
    """Describe the result for the terminal."""
    start, end = (iso(t)[:10] for t in result.holdout)
    mean, low, high = result.difference
    lines = [
        f"study {result.study}: {result.complete} trials complete, {result.pruned} pruned",
        f"{result.metric} on the hold-out {start} to {end}, {result.queries:,} queries:",
        f"  the recipe to begin with  {result.default:.4f}",
        f"  the best, trial {result.best_trial:<9} {result.best:.4f}",
        f"  difference                {mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f} (paired bootstrap)",
    ]
    if result.better:
        lines.append("The best is better by more than chance explains; it differs in:")
        lines += [
            f"  {name}: {result.initial_settings[name]} -> {value}" for name, value in sorted(result.changes.items())
        ]
        lines.append(
            f"It was chosen as the best of {result.trials} on this very window, so its number is optimistic, "
            "and the other recommender, which shares the generators, was not measured: train with it and let "
            "`usual promote` compare it on newer events."
        )
    elif result.changes:
        lines.append(
            "The recipe to begin with stands: the interval holds zero, so chance may have made the difference, the "
            f"more so as the best was chosen out of {result.trials} on this very window."
        )
    else:
        lines.append("The recipe to begin with stands: no trial did better.")
    return "\n".join(
        [
            *lines,
            *result.left_out.describe(),
            f"\nrecipe written to {out}; train with: usual train --recipe {out}",
            f"MLflow run {logged.run_id} in experiment {logged.experiment} at {logged.tracking_uri}",
        ]
    )


def study_to_dict(result: StudyResult, logged: LoggedStudy, out: Path) -> dict[str, object]:
    """Return the result as a JSON-ready dictionary."""
    mean, low, high = result.difference
    return {
        "study": result.study,
        "metric": result.metric,
        "holdout": [iso(t) for t in result.holdout],
        "queries": result.queries,
        "trials": {"complete": result.complete, "pruned": result.pruned},
        "default": result.default,
        "best": result.best,
        "best_trial": result.best_trial,
        "difference": {"mean": mean, "low": low, "high": high},
        "better": result.better,
        "best_settings": result.changes,
        "left_out": result.left_out.as_dict(),
        "recipe": str(out),
        "run_id": logged.run_id,
        "tracking_uri": logged.tracking_uri,
    }
