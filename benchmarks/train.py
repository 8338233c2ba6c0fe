"""Where a training run spends its time, step by step, without MLflow.

python benchmarks/train.py [--log LOG] [--until T] [--recipe FILE]
"""

import tempfile
import time
from pathlib import Path

import shop

from features import clock
from training import recipe
from training.train import train


def main() -> None:
    parser = shop.arguments(__doc__)
    parser.add_argument("--until")
    parser.add_argument("--recipe", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log, name = shop.event_log(args.log, Path(scratch))
        marks: list[tuple[str, float]] = []
        until = clock.parse(args.until) if args.until else None
        result = train(log, recipe.load(args.recipe), until, lambda text, *_: marks.append((text, time.perf_counter())))
        ends = [*(t for _, t in marks[1:]), time.perf_counter()]
        total = ends[-1] - marks[0][1]
        rows = [
            [text, f"{end - start:.1f}", f"{(end - start) / total:.0%}"]
            for (text, start), end in zip(marks, ends, strict=True)
        ]
        sizes = ", ".join(f"{n:,} rows for {what}" for what, n in result.rows.items())
        print(f"{name}: {result.events:,} events, {sizes}; peak {shop.peak_gb():.2f} GB")
        shop.table(["step", "s", "share"], [*rows, ["all", f"{total:.1f}", "100%"]])


if __name__ == "__main__":
    main()
