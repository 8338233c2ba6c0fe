"""A snapshot of items i0, i1, … that takes no time to make."""

from functools import cache

import numpy as np
import polars as pl
import pyarrow as pa

from features.common.clock import parse
from features.ranking.id_index import IdIndex
from features.ranking.snapshot import CUSTOMER_COLUMNS, ITEM, ITEM_COLUMNS, Snapshot, catalog_table
from features.tables.history import COLUMNS as HISTORY_COLUMNS
from features.tables.history import Histories
from features.tables.lifetime import COLUMNS as LIFETIME_COLUMNS
from features.tables.rfm import CutPoints

CATEGORIES = 10  # i0, i10, i20 … are in "shop/shelf 0"


@cache
def small_shop(items: int, as_of: str = "2026-11-20T00:00:00Z") -> Snapshot:
    """`items` items without customers: item n costs n, is in category n % 10 and of brand "odd" or "even"."""
    features = np.full((items, len(ITEM_COLUMNS)), np.nan, np.float32)
    features[:, ITEM["price"]] = np.arange(items)
    number, none = np.arange(items), np.zeros(0, np.int64)
    catalog = pl.DataFrame(
        {
            "title": [f"Item {n}" for n in number],
            "brand": [("even", "odd")[n % 2] for n in number],
            "currency": "EUR",
            "attributes": [f'{{"size": {n % 5}, "eco": {"true" if n % 4 == 0 else "false"}}}' for n in number],
            "available": True,
            "list_price": number.astype(float),
        }
    )
    return Snapshot(
        as_of=parse(as_of),
        customers=IdIndex.from_ids([]),
        segments=np.zeros(0, np.uint8),
        customer_features=np.zeros((0, len(CUSTOMER_COLUMNS)), np.float32),
        lifetime=np.zeros((0, len(LIFETIME_COLUMNS)), np.float32),
        items=IdIndex.from_ids([f"i{n}" for n in number]),
        categories=(number % CATEGORIES).astype(np.int32),
        category_names=pa.array([f"shop/shelf {n}" for n in range(CATEGORIES)]),
        departments=np.zeros(items, np.int32),
        brands=(number % 2).astype(np.int32),
        item_features=features,
        catalog=catalog_table(catalog),
        history=Histories.build(none, none, np.zeros((0, len(HISTORY_COLUMNS)), np.float32), 0),
        cut_points=CutPoints([], [], []),
    )
