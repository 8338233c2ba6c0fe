"""Batch inference: rank for many customers at once, with the same result as the server."""

from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.common.memory import keep_freed_memory
from features.event_log.customer_ids import read_customer_ids
from models.bundle import Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender

BATCH = 2048  # customers per call, which bounds memory


def read_customers(path: Path | None, bundle: Bundle) -> list[str]:
    """Read customer ids from a file, or return all customers of the bundle if `path` is None.

    Parquet or CSV with a column customer_id, else text with one id per line; without duplicates, in order. Raises
    `InputError` if the file cannot be read or holds no id.
    """
    if path is None:
        ids: list[str] = bundle.snapshot.customers.values.to_pylist()
        return ids
    return read_customer_ids(path)


def recommend(bundle: Bundle, customers: list[str], k: int) -> pl.DataFrame:
    """Rank for the customers: `k` rows each, or the whole catalog if it is smaller.

    Columns: customer_id, item_id, rank (1 = best), score, strategy. Unknown customers are ranked for as anonymous
    visitors.
    """
    keep_freed_memory()
    recommender = BundleRecommender(bundle)
    parts = []
    for start in range(0, len(customers), BATCH):
        batch = customers[start : start + BATCH]
        rankings = recommender.recommend([RankingRequest(limit=k, customer_id=c) for c in batch])
        sizes = [len(r.item_ids) for r in rankings]
        part = {
            "customer_id": [c for c, n in zip(batch, sizes, strict=True) for _ in range(n)],
            "item_id": [i for r in rankings for i in r.item_ids],
            "rank": [rank for n in sizes for rank in range(1, n + 1)],
            "score": [s for r in rankings for s in r.scores],
            "strategy": [r.strategy for r in rankings for _ in r.item_ids],
        }
        parts.append(pl.DataFrame(part, schema_overrides={"rank": pl.Int32}))
    return pl.concat(parts)


def write(table: pl.DataFrame, out: Path) -> None:
    """Write Parquet or CSV, as the suffix of `out` says. Raises `InputError` for any other suffix."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        table.write_csv(out)
    elif out.suffix == ".parquet":
        table.write_parquet(out)
    else:
        raise InputError(f"--out is {out}; its name must end in .parquet or .csv")
