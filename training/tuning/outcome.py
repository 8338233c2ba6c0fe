"""What came of a study."""

from dataclasses import dataclass, field

from training.tuning.space import Settings


@dataclass(frozen=True)
class Outcome:
    """`difference`: best minus default, mean and 95% interval; `settings`: the best's own."""

    study: str
    metric: str
    holdout: tuple[int, int]
    queries: int
    complete: int
    pruned: int
    default: float
    best: float
    best_trial: int
    difference: tuple[float, float, float]
    settings: Settings
    before: Settings = field(repr=False)

    @property
    def better(self) -> bool:
        """Whether the best is better than the default by more than chance explains."""
        return self.difference[1] > 0

    @property
    def changed(self) -> Settings:
        return {name: value for name, value in self.settings.items() if value != self.before[name]}

    def metrics(self) -> dict[str, float]:
        """For MLflow. Its pages show the last value of a metric, so the best has a name of its own."""
        mean, low, high = self.difference
        return {
            f"best_{self.metric}": self.best,
            f"default_{self.metric}": self.default,
            f"best_minus_default_{self.metric}": mean,
            f"best_minus_default_{self.metric}_low": low,
            f"best_minus_default_{self.metric}_high": high,
            "best_trial": self.best_trial,
            "trials_complete": self.complete,
            "trials_pruned": self.pruned,
        }
