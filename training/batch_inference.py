"""Batch inference: rank for many customers at once, with the same result as the server."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from features.common.arrays import BoolArray
from features.common.memory import keep_freed_memory
from features.common.paths import check_out_file
from features.common.spreadsheets import write_csv
from features.sources.customer_ids import read_customer_ids
from models.bundle import Bundle
from models.interface import RankingRequest, RankingRules
from models.recommender import BundleRecommender

BATCH = 2048  # customers per call, which bounds memory
SUFFIXES = (".parquet", ".csv")


def read_customers(path: Path | None, bundle: Bundle) -> list[str]:
    """Read customer ids from a file, or return all customers of the bundle if `path` is None.

    Parquet or CSV with a column customer_id, else text with one id per line; without duplicates, in order. Raises
    `InputError` if the file cannot be read or holds no id.
    """
    if path is None:
        ids: list[str] = bundle.snapshot.customers.values.to_pylist()
        return ids
    return read_customer_ids(path)


def find_unknown(bundle: Bundle, customers: Sequence[str]) -> list[str]:
    """Return the customers that the bundle's snapshot does not know; they are ranked for as anonymous visitors."""
    positions = bundle.snapshot.customers.find(list(customers)).tolist()
    return [c for c, position in zip(customers, positions, strict=True) if position < 0]


def recommend(bundle: Bundle, customers: list[str], k: int, allowed: BoolArray | None = None) -> pl.DataFrame:
    """Rank for the customers: `k` rows each, or as many as there are items that may be shown.

    Columns: customer_id, item_id, rank (1 = best), score, strategy. Unknown customers are ranked for as anonymous
    visitors. `allowed` bool[items]: what may be shown; default: what the snapshot's catalog has as available.
    """
    keep_freed_memory()
    recommender, rules = BundleRecommender(bundle), RankingRules(allowed=allowed)
    parts = []
    for start in range(0, len(customers), BATCH):
        batch = customers[start : start + BATCH]
        rankings = recommender.recommend([RankingRequest(limit=k, customer_id=c, rules=rules) for c in batch])
        ranked = zip(batch, rankings, strict=True)
        parts.append(to_table((customer, r.item_ids, r.scores, r.strategy) for customer, r in ranked))
    return pl.concat(parts) if parts else to_table(())


def to_table(lists: Iterable[tuple[str, list[str], list[float], str]]) -> pl.DataFrame:
    """Return one row per customer and item of `lists`: customer, items best first, their scores, strategy."""
    rows = [*lists]
    sizes = [len(item_ids) for _, item_ids, _, _ in rows]
    return pl.DataFrame(
        {
            "customer_id": [row[0] for row, n in zip(rows, sizes, strict=True) for _ in range(n)],
            "item_id": [i for row in rows for i in row[1]],
            "rank": [rank for n in sizes for rank in range(1, n + 1)],
            "score": [score for row in rows for score in row[2]],
            "strategy": [row[3] for row, n in zip(rows, sizes, strict=True) for _ in range(n)],
        },
        schema=_SCHEMA,
    )


_SCHEMA: dict[str, pl.DataType] = {
    "customer_id": pl.String(),
    "item_id": pl.String(),
    "rank": pl.Int32(),
    "score": pl.Float64(),
    "strategy": pl.String(),
}


def check_out(out: Path) -> None:
    """Raise `InputError` unless `out` can be written; called before the work, as `write` is called after it."""
    check_out_file(out, *SUFFIXES)


def write(table: pl.DataFrame, out: Path) -> None:
    """Write Parquet or CSV, as the suffix of `out` says. Raises `InputError` for any other suffix."""
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        write_csv(table, out)
    else:
        table.write_parquet(out)
