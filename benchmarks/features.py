"""Time and memory to build all feature tables as the log grows, compared with a plain scan and with pandas.

    python benchmarks/features.py [--sizes 2.5 10 40] [--pandas-at 10] [--log LOG]

Sizes are millions of simulated events; simulating and ingesting them is not timed. The lower limit is a scan with one
group-by of the same Parquet. At one size, a straightforward pandas version of RFM and windowed behaviour is timed
against the same tables of this project. Every row is measured in its own process, so that its peak memory is its own.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shop  # first: BLAS reads its threads when numpy is imported

import numpy as np  # isort: skip
import polars as pl
import with_pandas

from features.common.clock import DAY, micros, next_midnight
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.sources import SimulatorConfig, read
from features.tables import behaviour, items, orders, rfm, sessions
from features.tables.build import Tables, build_tables
from features.tables.engine import PolarsEngine
from features.tables.visibility import select_visible

EVENTS_PER_CUSTOMER = 126  # of the default shop


def as_of(log: EventLog) -> int:
    """Return the midnight before the last day, so that later events have to be left out."""
    return next_midnight(micros(log.last)) - DAY


def scan_events(log: EventLog) -> pl.DataFrame:
    return log.scan().group_by("customer_id").agg(pl.len(), pl.col("price").sum()).collect()


def build_all_tables(log: EventLog) -> Tables:
    return build_tables(log, as_of(log))


def build_rfm_and_behaviour(log: EventLog) -> pl.DataFrame:
    """Build the tables that `with_pandas` builds, with this project's functions."""
    engine, at = PolarsEngine(), as_of(log)
    visible = select_visible(engine, engine.scan(log), engine.frame(log.links()), at)
    past, lines = visible.events, engine.materialize(orders.without_guests(visible.lines))
    placed, refunds = engine.materialize(orders.build_orders(lines)), orders.without_guests(visible.refunds)
    prices = engine.materialize(items.build_usual_prices(past))
    rfm_table, behaviour_table = engine.collect(
        [
            rfm.build_rfm(placed, refunds, at),
            behaviour.build_behaviour(past, sessions.build_sessions(past), lines, placed, refunds, prices, at),
        ]
    )
    return behaviour_table.join(rfm_table, on="customer_id", how="left").sort("customer_id")


def differing_columns(log: EventLog) -> list[str]:
    """Return the columns in which both versions differ by more than float32 precision."""
    polars_table = build_rfm_and_behaviour(log)
    pandas_rows = pl.from_pandas(with_pandas.build_table(log, as_of(log)).reset_index()).sort("customer_id")
    assert polars_table["customer_id"].to_list() == pandas_rows["customer_id"].to_list()
    wrong = []
    for column in polars_table.columns[1:]:
        a, b = (t[column].cast(pl.Float64).fill_null(-1).fill_nan(-1).to_numpy() for t in (polars_table, pandas_rows))
        if not np.allclose(a, b, rtol=1e-5, atol=1e-5):
            wrong.append(column)
    return wrong


def build_with_pandas(log: EventLog) -> Any:
    return with_pandas.build_table(log, as_of(log))


JOBS: dict[str, Callable[[EventLog], Any]] = {
    "scan + one group-by": scan_events,
    "every table": build_all_tables,
    "pandas: RFM + behaviour": build_with_pandas,
    "this project: RFM + behaviour": build_rfm_and_behaviour,
}


def run_job(job: str, path: Path) -> tuple[int, float, float]:
    """Run one job in this process. Returns events, seconds and peak GB."""
    log = EventLog.open(path)
    start = time.perf_counter()
    JOBS[job](log)
    return log.info["rows"], time.perf_counter() - start, shop.peak_gb()


def check_columns(path: Path) -> list[str]:
    return differing_columns(EventLog.open(path))


def simulate(millions: float, out: Path) -> None:
    """Simulate a log whose number of customers is proportional to its number of events."""
    config = SimulatorConfig(customers=max(1, round(millions * 1e6 / EVENTS_PER_CUSTOMER)), items=5000)
    ingest(read("simulated", config=config), out)


def main() -> None:
    parser = shop.build_parser(__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0], help="millions of events")
    parser.add_argument("--scratch", type=Path, help="directory for the logs; default: the system's")
    parser.add_argument("--pandas-at", type=float, default=1.0, help="the size pandas is tried at")
    args = parser.parse_args()
    rows: list[list[str]] = []
    spawn = multiprocessing.get_context("spawn")

    def time_job(job: str, path: Path) -> tuple[int, float, float]:
        with spawn.Pool(1) as pool:
            measurement: tuple[int, float, float] = pool.apply(run_job, (job, path))
        return measurement

    for size in args.sizes if args.log is None else [0.0]:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            path = args.log or Path(scratch) / "log"
            if args.log is None:
                with spawn.Pool(1) as pool:
                    pool.apply(simulate, (size, path))
            jobs: list[str] = list(JOBS) if args.log or size == args.pandas_at else list(JOBS)[:2]
            timings: dict[str, Any] = {job: time_job(job, path) for job in jobs}
            limit = timings["scan + one group-by"][1]
            for job, (events, seconds, peak) in timings.items():
                cells = [f"{seconds:.2f}", f"{events / seconds:,.0f}", f"{seconds / limit:.0f}", f"{peak:.2f}"]
                rows.append([job, f"{events:,}", *cells])
            if len(jobs) == len(JOBS):
                faster = timings["pandas: RFM + behaviour"][1] / timings["this project: RFM + behaviour"][1]
                with spawn.Pool(1) as pool:
                    wrong = pool.apply(check_columns, (path,))
                print(f"at {events:,} events: {faster:.1f}× faster than pandas; columns that differ: {wrong or 'none'}")
    shop.print_table(["", "events", "seconds", "events/s", "× scan", "peak GB"], rows)


if __name__ == "__main__":
    main()
