"""Where a training run spends its time, step by step, without MLflow; or how time and memory grow with the log.

python benchmarks/train.py [--log LOG] [--until T] [--recipe FILE]
python benchmarks/train.py --sizes 1 3 10      simulated logs of so many million events, a process for each
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import shop

from features.common import clock
from features.event_log.ingest import ingest
from features.sources import SimulatorConfig, read
from training import recipe
from training.stopwatch import Stopwatch
from training.train import train

CUSTOMERS_PER_MILLION = 8300  # of the general simulated shop


def main() -> None:
    parser = shop.arguments(__doc__)
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
                # A process of its own: memory that one run gave back would count for the next.
                subprocess.run([sys.executable, __file__, "--log", str(path)], check=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        log, name = shop.event_log(args.log, Path(scratch))
        watch = Stopwatch()
        result = train(log, recipe.load(args.recipe), clock.parse(args.until) if args.until else None, watch)
        steps = watch.seconds()
        total = sum(seconds for _, seconds in steps)
        rows = [[text, f"{seconds:.1f}", f"{seconds / total:.0%}"] for text, seconds in steps]
        sizes = ", ".join(f"{n:,} rows for {what}" for what, n in result.rows.items())
        print(f"{name}: {result.events:,} events, {sizes}; peak {shop.peak_gb():.2f} GB")
        shop.table(["step", "s", "share"], [*rows, ["all", f"{total:.1f}", "100%"]])


if __name__ == "__main__":
    main()
