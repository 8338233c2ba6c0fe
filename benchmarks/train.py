"""Where a training run spends its time, step by step, without MLflow.

python benchmarks/train.py [--log LOG] [--until T] [--recipe FILE]
"""

import tempfile
from pathlib import Path

import shop

from features import clock
from training import recipe
from training.stopwatch import Stopwatch
from training.train import train


def main() -> None:
    parser = shop.arguments(__doc__)
    parser.add_argument("--until")
    parser.add_argument("--recipe", type=Path)
    args = parser.parse_args()
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
