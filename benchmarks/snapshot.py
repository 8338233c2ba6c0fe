"""Every feature table as of one instant, against a bare scan with one group-by of the same Parquet.

python benchmarks/snapshot.py [--log LOG] [--repeat 5]
"""

import tempfile
from pathlib import Path

import polars as pl
import shop

from features import tables
from features.clock import micros, next_midnight
from features.snapshot import Snapshot


def main() -> None:
    parser = shop.arguments(__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log, name = shop.event_log(args.log, Path(scratch))
        as_of = next_midnight(micros(log.last))
        catalog, rows = log.catalog(), log.info["rows"]
        made = tables.build(log.scan(), catalog, as_of)

        def scan() -> pl.DataFrame:
            return log.scan().group_by("customer_id").agg(pl.len(), pl.col("price").sum()).collect()

        limit = shop.median_ms(scan, args.repeat)
        build = shop.median_ms(lambda: tables.build(log.scan(), catalog, as_of), args.repeat)
        arrays = shop.median_ms(lambda: Snapshot.of(made), args.repeat)
        print(f"{name}, median of {args.repeat}, peak {shop.peak_gb():.2f} GB")
        shop.table(
            ["", "events", "ms", "events/s", "× scan"],
            [
                [what, f"{rows:,}", f"{ms:,.0f}", f"{rows / ms * 1e3:,.0f}", f"{ms / limit:.1f}"]
                for what, ms in (("scan + one group-by", limit), ("all tables", build), ("tables → arrays", arrays))
            ],
        )


if __name__ == "__main__":
    main()
