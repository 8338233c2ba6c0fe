"""What a benchmark is: its files, its protocol, the figures that others published, and the function that runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.common.progress import Progress

Figures = Mapping[str, float]  # metric → value, as the protocol prints it


@dataclass(frozen=True)
class Row:
    """One method's figures: `source` says where they are from, empty for what this run measured."""

    method: str
    figures: Figures
    source: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run measured: our row first, then those of simple methods on the same queries."""

    rows: Sequence[Row]
    queries: int
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Benchmark:
    """A public data set with a protocol.

    `run` takes the published files or the directory that holds them, a directory for the log, and a progress.
    """

    name: str
    title: str
    protocol: str
    files: str
    metrics: Sequence[str]
    published: Sequence[Row]
    run: Callable[[Sequence[Path], Path, Progress], Outcome]
    notes: Sequence[str] = field(default_factory=tuple)

    def render(self, outcome: Outcome) -> str:
        """Render our figures and the published ones as one table, the best of the first metric first."""
        rows = sorted([*outcome.rows, *self.published], key=lambda row: -row.figures.get(self.metrics[0], -1.0))
        width = max(len(row.method) for row in rows)
        lines = [self.title, self.protocol, ""]
        lines.append(" " * (width + 2) + "".join(f"{metric:>14}" for metric in self.metrics))
        for row in rows:
            cells = (f"{row.figures[m]:>14.2f}" if m in row.figures else f"{'':>14}" for m in self.metrics)
            lines.append(f"{row.method:<{width}}  {''.join(cells)}  {row.source or 'this run'}".rstrip())
        return "\n".join([*lines, "", f"{outcome.queries:,} queries", *outcome.notes, *self.notes])

    def as_dict(self, outcome: Outcome) -> dict[str, object]:
        """The same for `--json`."""

        def rows(results: Sequence[Row]) -> list[dict[str, object]]:
            return [{"method": r.method, **r.figures, **({"source": r.source} if r.source else {})} for r in results]

        return {
            "benchmark": self.name,
            "protocol": self.protocol,
            "queries": outcome.queries,
            "measured": rows(outcome.rows),
            "published": rows(self.published),
            "notes": [*outcome.notes, *self.notes],
        }
