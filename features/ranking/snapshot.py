"""The tables of one instant as arrays: what generators, `assemble` and the server read."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from features.ranking.id_index import Ids
from features.tables import build, lifetime
from features.tables import interactions as recent
from features.tables.columns import names, pick
from features.tables.history import COLUMNS as HISTORY_COLUMNS
from features.tables.history import Histories
from features.tables.rfm import PROSPECT, SEGMENTS, CutPoints

# Of all that the tables know, what rankers have been found to use; the rest is for segments and for people.
CUSTOMER_COLUMNS = pick(
    build.CUSTOMER_COLUMNS,
    "recency_days frequency monetary average_order_value tenure_days r_score f_score m_score views_7d views_30d "
    "views_90d carts_7d carts_30d carts_90d orders_7d orders_30d orders_90d sessions active_days_ago known_days "
    "basket_items basket_quantity price_paid distinct_items repeat_share order_gap_days gap_ratio refund_share",
)
ITEM_COLUMNS = pick(
    build.ITEM_COLUMNS,
    "buyers_1d buyers_3d buyers_7d buyers_28d buyers_90d buyers buyers_last_year trend trend_90d views_7d views_28d "
    "carts_28d cart_rate buy_rate age_days sold_last_days price price_mean price_change repeat_share repeat_gap_days "
    "quantity_per_order basket_items refund_share",
)
CUSTOMER = {name: i for i, name in enumerate(names(CUSTOMER_COLUMNS))}
ITEM = {name: i for i, name in enumerate(names(ITEM_COLUMNS))}
SEGMENT_NAMES = (PROSPECT, *SEGMENTS)
ABOUT: dict[str, pl.DataType] = {
    **dict.fromkeys(("title", "brand", "currency", "attributes"), pl.String()),
    "available": pl.Boolean(),
    "list_price": pl.Float64(),
}


@dataclass(frozen=True)
class Material:
    """What generators learn from beside the tables that are shipped.

    `anonymous` (client int32[n], item int64[n], weight float32[n]): what visitors without an account have touched.
    `recent` (visitor int32[n], item int64[n], kind uint8[n] as `recent.TOUCHES`, t int64[n]): what was touched
    lately, by visitor, then time. `descriptions`: title, category and brand of each item, None where not known.
    `embeddings` (float32[items × d]): the catalog's vector of each item, a row of NaN where it has none; None where
    the catalog has no vectors. Like titles they are the catalog's latest at every `as_of`: the catalog has no past.
    """

    anonymous: tuple[np.ndarray, np.ndarray, np.ndarray]
    recent: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    descriptions: list[tuple[str | None, str | None, str | None]]
    embeddings: np.ndarray | None = None


@dataclass(frozen=True)
class Snapshot:
    """What the shop knew just before `as_of` (microseconds).

    Customers and items are known by position, in the order of their ids.
    `customer_features` float32[customers × len(CUSTOMER_COLUMNS)] and `item_features`
    float32[items × len(ITEM_COLUMNS)] hold NaN where a value is not defined, as does `lifetime`
    float32[customers × len(lifetime.COLUMNS)], which people and predictions read, but no ranker. `segments`
    uint8[customers] points into `SEGMENT_NAMES`; `categories`, `departments` (the first level of the category's path)
    and `brands` int32[items] are codes, -1 where none is known. `category_names` holds the path of each code of
    `categories`. `about` has what the catalog says of each item: `items.FIELDS` but the category.
    `cut_points` are those that `segments` were scored with: a new order is scored against them too.
    `material` is what only fitting reads; a shipped snapshot has none.
    """

    as_of: int
    customers: Ids
    segments: np.ndarray
    customer_features: np.ndarray
    lifetime: np.ndarray
    items: Ids
    categories: np.ndarray
    category_names: pa.StringArray
    departments: np.ndarray
    brands: np.ndarray
    item_features: np.ndarray
    about: pa.Table
    history: Histories
    cut_points: CutPoints
    material: Material | None = None

    @classmethod
    def of(cls, made: build.Tables) -> "Snapshot":
        customer_ids, item_ids = made.customers["customer_id"], made.items["item_id"]
        codes = {segment: code for code, segment in enumerate(SEGMENT_NAMES)}
        history = made.history
        return cls(
            as_of=made.as_of,
            customers=Ids.of(customer_ids.to_list()),
            segments=_positions(made.customers["segment"], codes).astype(np.uint8),
            customer_features=_matrix(made.customers, names(CUSTOMER_COLUMNS)),
            lifetime=_matrix(made.customers, names(lifetime.COLUMNS)),
            items=Ids.of(item_ids.to_list()),
            categories=_codes(made.items["category"]),
            category_names=pa.array(made.items["category"].drop_nulls().unique().sort().to_list(), pa.string()),
            departments=_codes(made.items["category"].str.split("/").list.first()),
            brands=_codes(made.items["brand"]),
            item_features=_matrix(made.items, names(ITEM_COLUMNS)),
            about=about(made.items),
            history=Histories.build(
                _positions(history["customer_id"], _numbered(customer_ids)),
                _positions(history["item_id"], _numbered(item_ids)),
                _matrix(history, names(HISTORY_COLUMNS)),
                customers=len(customer_ids),
            ),
            cut_points=made.cut_points,
            material=_material(made),
        )

    @property
    def embeddings(self) -> np.ndarray | None:
        """float32[items × d], see `Material.embeddings`; None in a shipped snapshot too."""
        return self.material.embeddings if self.material else None

    def item(self, name: str) -> np.ndarray:
        """float32[items]: one item feature."""
        column: np.ndarray = self.item_features[:, ITEM[name]]
        return column

    def has_history(self, customers: np.ndarray) -> np.ndarray:
        """bool: whether each customer has bought, carted or viewed anything; -1 has not."""
        row = np.maximum(customers, 0)
        if not len(self.customers):
            return np.zeros(len(customers), bool)
        touched: np.ndarray = (customers >= 0) & (self.history.indptr[row + 1] > self.history.indptr[row])
        return touched

    def segment(self, customer: int) -> str:
        return SEGMENT_NAMES[int(self.segments[customer])] if customer >= 0 else PROSPECT


def about(items: pl.DataFrame) -> pa.Table:
    """`ABOUT` of a table of items, in Arrow types that old readers know."""
    table = items.select(ABOUT.keys()).cast(ABOUT)  # type: ignore[arg-type]
    return table.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def _material(made: build.Tables) -> Material:
    positions, kinds = _numbered(made.items["item_id"]), {name: code for code, name in enumerate(recent.TOUCHES)}
    anonymous, touches = made.anonymous, made.recent
    return Material(
        anonymous=(
            _codes(anonymous["client_id"]),
            _positions(anonymous["item_id"], positions),
            anonymous["weight"].to_numpy(),
        ),
        recent=(
            _codes(touches["visitor"]),
            _positions(touches["item_id"], positions),
            _positions(touches["name"], kinds).astype(np.uint8),
            touches["t"].to_numpy(),
        ),
        descriptions=made.items.select("title", "category", "brand").rows(),
        embeddings=_embeddings(made),
    )


def _embeddings(made: build.Tables) -> np.ndarray | None:
    if made.embeddings is None or made.embeddings.is_empty():
        return None
    vectors = made.items.select("item_id").join(made.embeddings, on="item_id", how="left", maintain_order="left")
    size = int(made.embeddings["embedding"].list.len()[0])
    matrix = np.full((vectors.height, size), np.nan, np.float32)
    filled = vectors["embedding"].is_not_null().to_numpy()
    matrix[filled] = vectors["embedding"].drop_nulls().list.to_array(size).to_numpy()
    return matrix


def _matrix(table: pl.DataFrame, columns: list[str]) -> np.ndarray:
    return np.ascontiguousarray(table.select(columns).to_numpy(), dtype=np.float32)


def _numbered(ids: pl.Series) -> dict[str, int]:
    return {i: n for n, i in enumerate(ids)}


def _positions(values: pl.Series, positions: Mapping[str, int]) -> np.ndarray:
    # The cast is for an empty mapping, which replace_strict hands back in the type of the ids.
    return values.replace_strict(positions, return_dtype=pl.Int64).cast(pl.Int64).to_numpy()


def _codes(values: pl.Series) -> np.ndarray:
    """int32: 0…k-1 in the order of the values, -1 for null."""
    return values.rank("dense").cast(pl.Int64).fill_null(0).to_numpy().astype(np.int32) - 1
