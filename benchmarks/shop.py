"""What the benchmarks run on: a log, a bundle, a clock, a table."""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from features.event_log.ingest import ingest  # noqa: E402
from features.event_log.log import EventLog  # noqa: E402
from features.sources import SimulatorConfig, read  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from training import recipe  # noqa: E402
from training.train import train  # noqa: E402

ONLINE_RETAIL = ROOT.parent / "shared" / "data" / "online_retail_II.parquet"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, help="event log; default: Online Retail II if found, else simulated")
    return parser


def event_log(path: Path | None, scratch: Path) -> tuple[EventLog, str]:
    """The log at `path`, or one made in `scratch`, and what to call it."""
    if path is not None:
        return EventLog.open(path), str(path)
    if ONLINE_RETAIL.exists():
        return ingest(read("online-retail", [ONLINE_RETAIL]), scratch / "log").log, "Online Retail II"
    return simulated(scratch), "a simulated shop"


def simulated(scratch: Path) -> EventLog:
    """A log made in `scratch`."""
    return ingest(read("simulated", config=SimulatorConfig(customers=8000)), scratch / "log").log


def bundle(log: EventLog) -> Bundle:
    """A bundle of the default recipe, with fewer boundaries: as many trees and candidates, sooner."""
    return train(log, recipe.load().model_copy(update={"boundaries": 3})).bundle


def median_ms(call: Callable[[], Any], repeat: int = 15) -> float:
    """Median milliseconds of a call, after one that is not counted."""
    return medians_ms({"": call}, repeat)[""]


def medians_ms(calls: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Median milliseconds of each of some calls, which take turns, after a round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(took[1:]) for name, took in times.items()}


def peak_gb() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table; numbers come formatted."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for row in (head, ["-" * w for w in widths], *rows):
        cells = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print(f"| {' | '.join(cells)} |")
