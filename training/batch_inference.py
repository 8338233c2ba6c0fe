"""Batch inference: the served ranking, for many customers at once."""

from pathlib import Path

import polars as pl

from features.common.errors import InputError
from models.bundle import Bundle
from models.interface import Request
from models.recommender import BundleRecommender

BATCH = 2048  # customers a call, so that memory does not grow with their number


def read_customers(path: Path | None, bundle: Bundle) -> list[str]:
    """The ids in a file (Parquet or CSV with a column customer_id, else one id a line), or all of the bundle's."""
    if path is None:
        ids: list[str] = bundle.snapshot.customers.values.to_pylist()
        return ids
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        elif path.suffix == ".csv":
            table = pl.read_csv(path, infer_schema=False)
        else:
            lines = (line.strip() for line in path.read_text().splitlines())
            table = pl.DataFrame({"customer_id": [line for line in lines if line]}, schema={"customer_id": pl.String})
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if "customer_id" not in table.columns:
        raise InputError(f"{path} has no column customer_id; it has {', '.join(table.columns)}")
    customers = table["customer_id"].cast(pl.String).drop_nulls().unique(maintain_order=True)
    if customers.is_empty():
        raise InputError(f"{path} holds no customer id")
    return customers.to_list()


def recommend(bundle: Bundle, customers: list[str], k: int) -> pl.DataFrame:
    """customer_id, item_id, rank (1 = best), score, strategy: `k` rows a customer, or the whole catalog."""
    recommender = BundleRecommender(bundle)
    parts = []
    for start in range(0, len(customers), BATCH):
        asked = customers[start : start + BATCH]
        rankings = recommender.recommend([Request(limit=k, customer_id=c) for c in asked])
        sizes = [len(r.item_ids) for r in rankings]
        part = {
            "customer_id": [c for c, n in zip(asked, sizes, strict=True) for _ in range(n)],
            "item_id": [i for r in rankings for i in r.item_ids],
            "rank": [rank for n in sizes for rank in range(1, n + 1)],
            "score": [s for r in rankings for s in r.scores],
            "strategy": [r.strategy for r in rankings for _ in r.item_ids],
        }
        parts.append(pl.DataFrame(part, schema_overrides={"rank": pl.Int32}))
    return pl.concat(parts)


def write(table: pl.DataFrame, out: Path) -> None:
    """Parquet, or CSV if the name says so."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        table.write_csv(out)
    elif out.suffix == ".parquet":
        table.write_parquet(out)
    else:
        raise InputError(f"--out is {out}; its name must end in .parquet or .csv")
