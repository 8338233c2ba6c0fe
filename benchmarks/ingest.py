"""Time and memory to ingest a log, compared with the lower limit: Polars reading the same Parquet and nothing else.

    python benchmarks/ingest.py [--rows 250000 1000000] [--data online_retail_II.parquet] [--repeat 3]

Source `events` ingests simulated events, for each of --rows; its memory should not grow with them (compare 1, 4 and 16
million). Source `online-retail` follows if its file exists (../shared/data beside the checkout, or --data). Each row is
the best of --repeat runs, every run in its own process, so that its peak memory is its own.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import features as features  # noqa: E402, I001  fixes thread counts before any library starts its own
import polars as pl  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from features.event_log.schema import EVENT_SCHEMA, conform  # noqa: E402
from features.event_log.ingestion.ingest import Inputs, ingest  # noqa: E402
from features.sources import SimulatorConfig, read  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "online_retail_II.parquet"
EVENTS_PER_SHOP = 500_000


def _scan(source: str, file: Path, out: Path) -> int:
    rows = 0
    for batch in pl.scan_parquet(file).collect_batches(chunk_size=250_000):
        rows += batch.height
    return rows


def _ingest(source: str, file: Path, out: Path) -> int:
    return ingest(read(source, [file]), out / "log", inputs=Inputs(source, [file])).rows_read


def _simulate(rows: int, file: Path) -> None:
    """Write `rows` events: half a year of a simulated shop, repeated later with other ids."""
    # The default shop makes about 126 events per customer.
    config = SimulatorConfig(customers=max(1, min(rows, EVENTS_PER_SHOP) // 126))
    shop = pl.concat([conform(batch.events, EVENT_SCHEMA) for batch in read("simulated", config=config)])
    shop = shop.sort("timestamp")
    ids = pl.col("event_id", "customer_id", "client_id", "session_id", "order_id")
    writer, written, copy = None, 0, 0
    while written < rows:
        later = pl.col("timestamp") + pl.duration(days=config.days * copy)
        part = shop.with_columns(ids + f"-{copy}", later).head(rows - written).to_arrow()
        writer = writer or pq.ParquetWriter(file, part.schema)
        writer.write_table(part, row_group_size=100_000)
        written, copy = written + part.num_rows, copy + 1
    if writer:
        writer.close()


def _run(job: str, source: str, file: Path) -> tuple[int, float, float, float]:
    """Run one job in this process. Returns rows, seconds, core-seconds and peak GB."""
    with tempfile.TemporaryDirectory(dir=file.parent) as out:
        start, busy = time.perf_counter(), time.process_time()
        rows = JOBS[job](source, file, Path(out))
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return rows, seconds, busy, _peak_gb()


def _peak_gb() -> float:
    try:
        # Not getrusage, whose value in a new process starts at the peak of its parent.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS


JOBS = {"scan": _scan, "ingest": _ingest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[250_000, 1_000_000], help="sizes of simulated events")
    parser.add_argument("--data", type=Path, default=DATA, help="Online Retail II as Parquet")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    print(f"best of {args.repeat}")
    print(f"{'source':14}{'':8}{'rows':>12}{'seconds':>10}{'rows/s':>12}{'core s':>9}{'peak GB':>10}{'× scan':>9}")
    # One fresh interpreter per run.
    with (
        tempfile.TemporaryDirectory() as scratch,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
    ):
        inputs = [("events", rows, Path(scratch) / f"events-{rows}.parquet") for rows in args.rows]
        if args.data.exists():
            inputs.append(("online-retail", 0, args.data))
        for source, rows, file in inputs:
            if source == "events":
                pool.apply(_simulate, (rows, file))
            limit = None
            for job in JOBS:
                # What a run writes goes beside the input, on the same disk.
                at = Path(scratch) / file.name
                if not at.exists():
                    at.symlink_to(file.resolve())
                runs = [pool.apply(_run, (job, source, at)) for _ in range(args.repeat)]
                n, seconds, busy, peak = min(runs, key=lambda r: r[1])
                limit = limit or seconds
                print(
                    f"{source:14}{job:8}{n:>12,}{seconds:>10.2f}{n / seconds:>12,.0f}{busy:>9.2f}{peak:>10.2f}"
                    f"{seconds / limit:>9.1f}",
                    flush=True,
                )
            if source == "events":
                file.unlink()


if __name__ == "__main__":
    main()
