"""Time to ingest, against the least it could take: Polars reading the same Parquet and nothing else.

    python benchmarks/ingest.py [--data online_retail_II.parquet] [--rows N] [--repeat 3]

Reads Online Retail II where it is found (../shared/data beside the checkout, or --data), else a
simulated log. Each line is the best of --repeat runs, every run in a process of its own, so that the
peak of memory is that run's alone.
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

import polars as pl  # noqa: E402

from features.ingest import ingest  # noqa: E402
from features.sources import SimulatorConfig, read  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "online_retail_II.parquet"


def _scan(source: str, file: Path, out: Path) -> int:
    return pl.scan_parquet(file).collect().height


def _ingest(source: str, file: Path, out: Path) -> int:
    return ingest(read(source, [file]), out / "log").rows_read


def _run(job: str, source: str, file: Path) -> tuple[int, float, float]:
    """Rows, seconds and peak GB of one run in this process."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        rows = JOBS[job](source, file, Path(out))
        seconds = time.perf_counter() - start
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return rows, seconds, kilobytes / (1e9 if sys.platform == "darwin" else 1e6)


JOBS = {"scan and collect": _scan, "ingest": _ingest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="Online Retail II as Parquet")
    parser.add_argument("--rows", type=int, help="only the first N rows; without --data, about as many simulated")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        file, source = Path(scratch) / "input.parquet", "online-retail"
        if args.data.exists():
            table = pl.read_parquet(args.data)
        else:
            # The default shop makes 126 events per customer.
            config = SimulatorConfig(customers=max(1, (args.rows or 1_000_000) // 126))
            table, source = next(read("simulated", config=config)).events, "events"
        table.head(args.rows or table.height).write_parquet(file)
        del table
        # One fresh interpreter per run.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            best = {
                job: min((pool.apply(_run, (job, source, file)) for _ in range(args.repeat)), key=lambda r: r[1])
                for job in JOBS
            }
    limit = best["scan and collect"][1]
    print(f"{source}, {file.suffix[1:]}, best of {args.repeat}")
    print(f"{'':18}{'rows':>12}{'seconds':>10}{'rows/s':>14}{'peak GB':>10}{'× limit':>10}")
    for job, (rows, seconds, peak) in best.items():
        speed = f"{rows / seconds:>14,.0f}{peak:>10.2f}{seconds / limit:>10.1f}"
        print(f"{job:18}{rows:>12,}{seconds:>10.3f}{speed}")


if __name__ == "__main__":
    main()
