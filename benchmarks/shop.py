"""Shared parts of the benchmarks: event log, bundle, timing, memory and output tables."""

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

from features.event_log.ingestion.ingest import ingest  # noqa: E402
from features.event_log.log import EventLog  # noqa: E402
from features.sources import SimulatorConfig, read  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from training import recipe  # noqa: E402
from training.train import train  # noqa: E402

ONLINE_RETAIL = ROOT.parent / "shared" / "data" / "online_retail_II.parquet"


def build_parser(doc: str | None) -> argparse.ArgumentParser:
    """Build the parser of a benchmark that runs on an event log; `doc` is its module docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, help="event log; default: Online Retail II if found, else simulated")
    return parser


def open_log(path: Path | None, scratch: Path) -> tuple[EventLog, str]:
    """Open the log at `path`, or ingest one into `scratch`. Returns the log and its name."""
    if path is not None:
        return EventLog.open(path), str(path)
    if ONLINE_RETAIL.exists():
        return ingest(read("online-retail", [ONLINE_RETAIL]), scratch / "log").log, "Online Retail II"
    return simulate_log(scratch), "a simulated shop"


def simulate_log(scratch: Path) -> EventLog:
    """Simulate a shop of 8,000 customers into `scratch`."""
    return ingest(read("simulated", config=SimulatorConfig(customers=8000)), scratch / "log").log


def train_bundle(log: EventLog) -> Bundle:
    """Train a bundle with the default recipe, but on fewer boundaries to save time."""
    return train(log, recipe.load().model_copy(update={"boundaries": 3})).bundle


def median_ms(call: Callable[[], Any], repeat: int = 15) -> float:
    """Return the median milliseconds of a call, after a warm-up call."""
    return medians_ms({"": call}, repeat)[""]


def medians_ms(calls: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Return the median milliseconds of each call; the calls alternate, after a warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(seconds[1:]) for name, seconds in times.items()}


def peak_gb() -> float:
    """Return the peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table of formatted cells."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    for row in (header, ["-" * w for w in widths], *rows):
        cells = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print(f"| {' | '.join(cells)} |")
