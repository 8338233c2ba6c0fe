"""Time per step and peak memory of a training run, without MLflow; optionally for logs of growing size.

python benchmarks/train.py [--log LOG] [--until T] [--recipe FILE]
python benchmarks/train.py --sizes 1 3 10      simulated logs of that many million events, each in its own process
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import shop

from features.common import clock
from features.event_log.ingestion.ingest import ingest
from features.sources import SimulatorConfig, read
from training import recipe
from training.stopwatch import Stopwatch
from training.train import train

CUSTOMERS_PER_MILLION = 8300  # of the simulated general shop


def main() -> None:
    parser = shop.build_parser(__doc__)
    parser.add_argument("--until")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--sizes", nargs="+", type=float, help="simulated logs, in millions of events")
    args = parser.parse_args()
    if args.sizes:
        for millions in args.sizes:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "log"
                config = SimulatorConfig(customers=round(millions * CUSTOMERS_PER_MILLION))
                ingest(read("simulated", config=config), path)
                # In its own process, so that the peak of memory is that of this run alone.
                subprocess.run([sys.executable, __file__, "--log", str(path)], check=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        log, name = shop.open_log(args.log, Path(scratch))
        watch = Stopwatch()
        result = train(log, recipe.load(args.recipe), clock.parse(args.until) if args.until else None, watch)
        steps = watch.seconds()
        total = sum(seconds for _, seconds in steps)
        rows = [[text, f"{seconds:.1f}", f"{seconds / total:.0%}"] for text, seconds in steps]
        sizes = ", ".join(f"{n:,} rows for {name}" for name, n in result.rows.items())
        print(f"{name}: {result.events:,} events, {sizes}; peak {shop.peak_gb():.2f} GB")
        shop.print_table(["step", "s", "share"], [*rows, ["total", f"{total:.1f}", "100%"]])


if __name__ == "__main__":
    main()
