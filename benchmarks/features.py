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

import pandas as pd
import polars as pl
import shop

from features import behaviour, items, orders, rfm, sessions, tables
from features.clock import DAY, micros, moment, next_midnight
from features.engine import Polars
from features.ingest import ingest
from features.log import EventLog
from features.seen import seen
from features.sources import SimulatorConfig, read

EVENTS_PER_CUSTOMER = 126  # of the default shop


def as_of(log: EventLog) -> int:
    """A day before the end, so that there is something to leave out."""
    return next_midnight(micros(log.last)) - DAY


def scan(log: EventLog) -> int:
    made = log.scan().group_by("customer_id").agg(pl.len(), pl.col("price").sum()).collect()
    return made.height


def every_table(log: EventLog) -> int:
    made = tables.at(log, as_of(log))
    return made.customers.height


def rfm_and_behaviour(log: EventLog) -> int:
    """Ours of what `with_pandas` makes, and more: identity, bots and sessions come first."""
    engine, at = Polars(), as_of(log)
    past = seen(engine, engine.events(log), engine.frame(log.links()), at).events
    lines = engine.keep(orders.lines(past))
    placed, refunds = engine.keep(orders.orders(lines)), engine.keep(orders.refunds(past))
    prices = engine.keep(items.prices(past))
    made = engine.collect(
        [
            rfm.rfm(placed, refunds, at),
            behaviour.behaviour(past, sessions.sessions(past), lines, placed, refunds, prices, at),
        ]
    )
    return made[1].height


def with_pandas(log: EventLog) -> int:
    """Frequency, monetary value, recency, and counts of each kind of event over each window, the usual way."""
    columns = ["name", "timestamp", "customer_id", "session_id", "item_id", "quantity", "price", "order_id", "consent"]
    events = pd.read_parquet(log.path / "events", columns=columns)
    at = pd.Timestamp(moment(as_of(log)))
    events = events[(events["timestamp"] < at) & (events["consent"] != False) & events["customer_id"].notna()]  # noqa: E712
    by = "customer_id"
    table = pd.DataFrame(index=events[by].unique())
    sales = events[events["name"] == "purchase"].assign(value=lambda f: f["quantity"] * f["price"])
    refunds = events[events["name"] == "refund"].assign(value=lambda f: f["quantity"] * f["price"])
    placed = sales.groupby([by, "order_id"]).agg(
        t=("timestamp", "min"), value=("value", "sum"), quantity=("quantity", "sum"), items=("item_id", "nunique")
    )
    placed = placed.reset_index()
    spent = placed.groupby(by)["value"].sum()
    table["recency_days"] = (at - placed.groupby(by)["t"].max()).dt.total_seconds() / 86_400
    table["frequency"] = placed.groupby(by).size()
    table["monetary"] = spent.sub(refunds.groupby(by)["value"].sum(), fill_value=0)
    table["tenure_days"] = (at - placed.groupby(by)["t"].min()).dt.total_seconds() / 86_400
    for days in behaviour.WINDOWS_DAYS:
        recent = events[events["timestamp"] >= at - pd.Timedelta(days=days)]
        for kind, (name, _) in behaviour.KINDS.items():
            table[f"{kind}_{days}d"] = recent[recent["name"] == name].groupby(by).size()
        table[f"orders_{days}d"] = placed[placed["t"] >= at - pd.Timedelta(days=days)].groupby(by).size()
    for kind, (name, _) in behaviour.KINDS.items():
        last = events[events["name"] == name].groupby(by)["timestamp"].max()
        table[f"last_{kind}_days"] = (at - last).dt.total_seconds() / 86_400
    visits = events.groupby([by, "session_id"]).agg(
        start=("timestamp", "min"), end=("timestamp", "max"), events=("timestamp", "size")
    )
    visits["seconds"] = (visits["end"] - visits["start"]).dt.total_seconds()
    table["sessions"] = visits.groupby(level=0).size()
    table["session_seconds"] = visits.groupby(level=0)["seconds"].mean()
    table["session_events"] = visits.groupby(level=0)["events"].mean()
    hours = events.groupby([by, events["timestamp"].dt.hour // 6]).size().unstack(fill_value=0)
    weekdays = events.groupby([by, events["timestamp"].dt.weekday]).size().unstack(fill_value=0)
    table = table.join(hours.div(hours.sum(axis=1), axis=0).add_prefix("part_"))
    table = table.join(weekdays.div(weekdays.sum(axis=1), axis=0).add_prefix("weekday_"))
    table["basket_items"] = placed.groupby(by)["items"].mean()
    table["basket_value"] = placed.groupby(by)["value"].mean()
    gaps = placed.sort_values([by, "t"]).groupby(by)["t"].diff().dt.total_seconds() / 86_400
    table["order_gap_days"] = gaps.groupby(placed.sort_values([by, "t"])[by]).mean()
    return len(table)


JOBS: dict[str, Callable[[EventLog], int]] = {
    "scan + one group-by": scan,
    "every table": every_table,
    "pandas: RFM + behaviour": with_pandas,
    "ours: RFM + behaviour": rfm_and_behaviour,
}


def run(job: str, path: Path) -> tuple[int, float, float]:
    """Events, seconds and peak GB of one job in this process."""
    log = EventLog.open(path)
    start = time.perf_counter()
    JOBS[job](log)
    return log.info["rows"], time.perf_counter() - start, shop.peak_gb()


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
                rows.append(["", f"{events:,}", f"{faster:.1f}× faster than pandas", "", "", ""])
    shop.table(["", "events", "seconds", "events/s", "× scan", "peak GB"], rows)


if __name__ == "__main__":
    main()
