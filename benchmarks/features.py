"""Every feature table as of one instant: time and memory as the log grows, against two yardsticks.

    python benchmarks/features.py [--sizes 2.5 10 40] [--pandas-at 10] [--log LOG]

Sizes are millions of simulated events, each log made by the simulator and ingested first (not timed). Beside the
tables, in the same run: the least that reading could take (a scan with one group-by of the same Parquet), and, at
one size, a straightforward pandas version of RFM and windowed behaviour beside ours of just these. Every line is a
process of its own, so that its peak of memory is its own.
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
from features.event_log.ingest import ingest
from features.event_log.log import EventLog
from features.sources import SimulatorConfig, read
from features.tables import behaviour, build, items, orders, rfm, sessions
from features.tables.engine import PolarsEngine
from features.tables.visibility import select_visible

EVENTS_PER_CUSTOMER = 126  # of the default shop


def as_of(log: EventLog) -> int:
    """A day before the end, so that there is something to leave out."""
    return next_midnight(micros(log.last)) - DAY


def scan(log: EventLog) -> pl.DataFrame:
    return log.scan().group_by("customer_id").agg(pl.len(), pl.col("price").sum()).collect()


def every_table(log: EventLog) -> build.Tables:
    return build.build_tables(log, as_of(log))


def rfm_and_behaviour(log: EventLog) -> pl.DataFrame:
    """Ours of what `with_pandas` makes."""
    engine, at = PolarsEngine(), as_of(log)
    past = select_visible(engine, engine.scan(log), engine.frame(log.links()), at).events
    lines = engine.materialize(orders.build_lines(past))
    placed, refunds = engine.materialize(orders.build_orders(lines)), engine.materialize(orders.build_refunds(past))
    prices = engine.materialize(items.build_usual_prices(past))
    bought, made = engine.collect(
        [
            rfm.build_rfm(placed, refunds, at),
            behaviour.build_behaviour(past, sessions.build_sessions(past), lines, placed, refunds, prices, at),
        ]
    )
    return made.join(bought, on="customer_id", how="left").sort("customer_id")


def differing(log: EventLog) -> list[str]:
    """Columns in which pandas and ours disagree by more than float32 can tell apart."""
    ours = rfm_and_behaviour(log)
    theirs = pl.from_pandas(with_pandas.table(log, as_of(log)).reset_index()).sort("customer_id")
    assert ours["customer_id"].to_list() == theirs["customer_id"].to_list()
    wrong = []
    for column in ours.columns[1:]:
        a, b = (t[column].cast(pl.Float64).fill_null(-1).fill_nan(-1).to_numpy() for t in (ours, theirs))
        if not np.allclose(a, b, rtol=1e-5, atol=1e-5):
            wrong.append(column)
    return wrong


def pandas_table(log: EventLog) -> Any:
    return with_pandas.table(log, as_of(log))


JOBS: dict[str, Callable[[EventLog], Any]] = {
    "scan + one group-by": scan,
    "every table": every_table,
    "pandas: RFM + behaviour": pandas_table,
    "ours: RFM + behaviour": rfm_and_behaviour,
}


def run(job: str, path: Path) -> tuple[int, float, float]:
    """Events, seconds and peak GB of one job in this process."""
    log = EventLog.open(path)
    start = time.perf_counter()
    JOBS[job](log)
    return log.info["rows"], time.perf_counter() - start, shop.peak_gb()


def differing_in(path: Path) -> list[str]:
    return differing(EventLog.open(path))


def simulate(millions: float, out: Path) -> None:
    """A shop that grows with the log: twice the events, twice the customers."""
    config = SimulatorConfig(customers=max(1, round(millions * 1e6 / EVENTS_PER_CUSTOMER)), items=5000)
    ingest(read("simulated", config=config), out)


def main() -> None:
    parser = shop.arguments(__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0], help="millions of events")
    parser.add_argument("--scratch", type=Path, help="directory for the logs; default: the system's")
    parser.add_argument("--pandas-at", type=float, default=1.0, help="the size pandas is tried at")
    args = parser.parse_args()
    rows: list[list[str]] = []
    fresh = multiprocessing.get_context("spawn")

    def timed(job: str, path: Path) -> tuple[int, float, float]:
        with fresh.Pool(1) as pool:
            found: tuple[int, float, float] = pool.apply(run, (job, path))
        return found

    for size in args.sizes if args.log is None else [0.0]:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            path = args.log or Path(scratch) / "log"
            if args.log is None:
                with fresh.Pool(1) as pool:
                    pool.apply(simulate, (size, path))
            jobs: list[str] = list(JOBS) if args.log or size == args.pandas_at else list(JOBS)[:2]
            found: dict[str, Any] = {job: timed(job, path) for job in jobs}
            limit = found["scan + one group-by"][1]
            for job, (events, seconds, peak) in found.items():
                cells = [f"{seconds:.2f}", f"{events / seconds:,.0f}", f"{seconds / limit:.0f}", f"{peak:.2f}"]
                rows.append([job, f"{events:,}", *cells])
            if len(jobs) == len(JOBS):
                faster = found["pandas: RFM + behaviour"][1] / found["ours: RFM + behaviour"][1]
                with fresh.Pool(1) as pool:
                    wrong = pool.apply(differing_in, (path,))
                print(f"at {events:,} events: {faster:.1f}× faster than pandas; columns that differ: {wrong or 'none'}")
    shop.table(["", "events", "seconds", "events/s", "× scan", "peak GB"], rows)


if __name__ == "__main__":
    main()
