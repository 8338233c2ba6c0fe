"""The result of a study: the best trial against the recipe that the study began with."""

from dataclasses import dataclass, field

from features.tables.left_out import LeftOut
from training.tuning.recipe_space import Settings


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    `default` and `best`: the metric of the initial recipe and of the best trial; `difference`: best minus default, mean
    and 95% interval; `settings`: those of the best trial; `initial_settings`: all of the initial recipe, flat.
    """

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
    initial_settings: Settings = field(repr=False)
    left_out: LeftOut = field(default_factory=LeftOut)
    """The events before the hold-out that count in no table."""

    @property
    def trials(self) -> int:
        """Number of finished trials."""
        return self.complete + self.pruned

    @property
    def better(self) -> bool:
        """Whether the best is better than the default by more than chance explains."""
        return self.difference[1] > 0

    @property
    def changes(self) -> Settings:
        """Settings of the best trial that differ from the initial recipe."""
        return {name: value for name, value in self.settings.items() if value != self.initial_settings[name]}

    def metrics(self) -> dict[str, float]:
        """Name the results for MLflow, whose pages show the last value of a metric: so the best has its own name."""
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
