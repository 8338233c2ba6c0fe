"""What a study came to, in words: for the terminal, for a script, and on top of the recipe that is written."""

from pathlib import Path

from features.common.clock import iso
from training.tuning.outcome import Outcome
from training.tuning.tracking import Logged


def header(o: Outcome) -> list[str]:
    """Lines of the comment above the recipe."""
    start, end = (iso(t)[:10] for t in o.holdout)
    mean, low, high = o.difference
    what = (
        f"Made by `usual tune`: the best of {o.complete + o.pruned} trials"
        if o.better
        else f"Left as it was by `usual tune`: none of {o.complete + o.pruned} trials was better by more than chance"
    )
    return [
        f"{what}.",
        f"{o.metric} on the hold-out {start} to {end}: {o.best:.4f} against {o.default:.4f};",
        f"difference {mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f}, optimistic: the best was chosen there.",
    ]


def text(o: Outcome, logged: Logged, out: Path) -> str:
    """What the command prints."""
    start, end = (iso(t)[:10] for t in o.holdout)
    mean, low, high = o.difference
    lines = [
        f"study {o.study}: {o.complete} trials complete, {o.pruned} pruned",
        f"{o.metric} on the hold-out {start} to {end}, {o.queries:,} queries:",
        f"  the recipe to begin with  {o.default:.4f}",
        f"  the best, trial {o.best_trial:<9} {o.best:.4f}",
        f"  difference                {mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f} (paired bootstrap)",
    ]
    if o.better:
        lines.append("The best is better by more than chance explains; it differs in:")
        lines += [f"  {name}: {o.before[name]} -> {value}" for name, value in sorted(o.changed.items())]
        lines.append(
            f"It was chosen as the best of {o.complete + o.pruned} on this very window, so its number is optimistic, "
            "and the other recommender, which shares the generators, was not measured: train with it and let "
            "`usual promote` compare it on newer events."
        )
    elif o.changed:
        lines.append(
            "The recipe to begin with stands: the interval holds zero, so chance may have made the difference, the "
            f"more so as the best was chosen out of {o.complete + o.pruned} on this very window."
        )
    else:
        lines.append("The recipe to begin with stands: no trial did better.")
    return "\n".join(
        [
            *lines,
            f"\nrecipe written to {out}; train with: usual train --recipe {out}",
            f"MLflow run {logged.run_id} in experiment {logged.experiment} at {logged.tracking_uri}",
        ]
    )


def as_dict(o: Outcome, logged: Logged, out: Path) -> dict[str, object]:
    mean, low, high = o.difference
    return {
        "study": o.study,
        "metric": o.metric,
        "holdout": [iso(t) for t in o.holdout],
        "queries": o.queries,
        "trials": {"complete": o.complete, "pruned": o.pruned},
        "default": o.default,
        "best": o.best,
        "best_trial": o.best_trial,
        "difference": {"mean": mean, "low": low, "high": high},
        "better": o.better,
        "best_settings": o.changed,
        "recipe": str(out),
        "run_id": logged.run_id,
        "tracking_uri": logged.tracking_uri,
    }
