"""Snapshot: what the shop knew at one instant, as arrays that generators, `assemble` and the server read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from features.common.arrays import BoolArray, Float32Array, Int32Array, Int64Array, UInt8Array
from features.ranking.id_index import IdIndex
from features.ranking.stated_preferences import NO_ANSWERS, CustomerAnswers, ItemTerms
from features.tables import interactions, lifetime
from features.tables.build import CUSTOMER_COLUMNS as ALL_CUSTOMER_COLUMNS
from features.tables.build import ITEM_COLUMNS as ALL_ITEM_COLUMNS
from features.tables.build import Tables
from features.tables.columns import names, pick
from features.tables.history import COLUMNS as HISTORY_COLUMNS
from features.tables.history import Histories
from features.tables.rfm import PROSPECT, SEGMENTS, CutPoints

# The columns of the tables that rankers were measured to use; the others are for segments and for people.
CUSTOMER_COLUMNS = pick(
    ALL_CUSTOMER_COLUMNS,
    "recency_days frequency monetary average_order_value tenure_days r_score f_score m_score views_7d views_30d "
    "views_90d carts_7d carts_30d carts_90d orders_7d orders_30d orders_90d sessions active_days_ago known_days "
    "basket_items basket_quantity price_paid distinct_items repeat_share order_gap_days gap_ratio refund_share",
)
ITEM_COLUMNS = pick(
    ALL_ITEM_COLUMNS,
    "buyers_1d buyers_3d buyers_7d buyers_28d buyers_90d buyers buyers_last_year trend trend_90d views_7d views_28d "
    "carts_28d cart_rate buy_rate age_days sold_last_days price price_mean price_change repeat_share repeat_gap_days "
    "quantity_per_order basket_items refund_share",
)
CUSTOMER = {name: i for i, name in enumerate(names(CUSTOMER_COLUMNS))}
ITEM = {name: i for i, name in enumerate(names(ITEM_COLUMNS))}
SEGMENT_NAMES = (PROSPECT, *SEGMENTS)
CATALOG_COLUMNS: dict[str, pl.DataType] = {
    **dict.fromkeys(("title", "brand", "currency", "attributes"), pl.String()),
    "available": pl.Boolean(),
    "list_price": pl.Float64(),
}


@dataclass(frozen=True)
class FittingData:
    """What generators are fitted on besides the tables that are shipped.

    `anonymous` (client int32[n], item int64[n], weight float32[n]): interactions of visitors without an account.
    `recent` (visitor int32[n], item int64[n], kind uint8[n] as `interactions.TOUCHES`, t int64[n] in microseconds):
    recent interactions, by visitor, then time. `descriptions`: title, category and brand of each item, None where
    unknown.
    `embeddings` (float32[items × d]): the catalog's vector of each item, a row of NaN where it has none; None where
    the catalog has no vectors. Like titles they are the catalog's latest at every `as_of`: the catalog has no past.
    """

    anonymous: tuple[Int32Array, Int64Array, Float32Array]
    recent: tuple[Int32Array, Int64Array, UInt8Array, Int64Array]
    descriptions: list[tuple[str | None, str | None, str | None]]
    embeddings: Float32Array | None = None


@dataclass(frozen=True)
class Snapshot:
    """What the shop knew just before `as_of` (microseconds).

    Customers and items are referred to by position, in the order of their ids.
    `customer_features` float32[customers × len(CUSTOMER_COLUMNS)] and `item_features`
    float32[items × len(ITEM_COLUMNS)] hold NaN where a value is not defined, as does `lifetime`
    float32[customers × len(lifetime.COLUMNS)], for people and predictions, not for rankers. `segments`
    uint8[customers] points into `SEGMENT_NAMES`; `categories`, `departments` (the first level of the category's path)
    and `brands` int32[items] are codes, -1 where there is none. `category_names` holds the path of each code of
    `categories`. `catalog` has the item's row of the catalog, in `CATALOG_COLUMNS`.
    `cut_points` are those that `segments` were scored with, for scoring a new order.
    `answers`: what the customers had said they like.
    `fitting_data` is read by fitting alone; a shipped snapshot has none.
    """

    as_of: int
    customers: IdIndex
    segments: UInt8Array
    customer_features: Float32Array
    lifetime: Float32Array
    items: IdIndex
    categories: Int32Array
    category_names: pa.StringArray
    departments: Int32Array
    brands: Int32Array
    item_features: Float32Array
    catalog: pa.Table
    history: Histories
    cut_points: CutPoints
    fitting_data: FittingData | None = None
    answers: CustomerAnswers = NO_ANSWERS

    @classmethod
    def from_tables(cls, tables: Tables) -> "Snapshot":
        """Convert the tables of one instant to arrays."""
        customer_ids, item_ids = tables.customers["customer_id"], tables.items["item_id"]
        codes = {segment: code for code, segment in enumerate(SEGMENT_NAMES)}
        history = tables.history
        return cls(
            as_of=tables.as_of,
            customers=IdIndex.from_ids(customer_ids.to_list()),
            segments=_positions(tables.customers["segment"], codes).astype(np.uint8),
            customer_features=_matrix(tables.customers, names(CUSTOMER_COLUMNS)),
            lifetime=_matrix(tables.customers, names(lifetime.COLUMNS)),
            items=IdIndex.from_ids(item_ids.to_list()),
            categories=_codes(tables.items["category"]),
            category_names=pa.array(tables.items["category"].drop_nulls().unique().sort().to_list(), pa.string()),
            departments=_codes(tables.items["category"].str.split("/").list.first()),
            brands=_codes(tables.items["brand"]),
            item_features=_matrix(tables.items, names(ITEM_COLUMNS)),
            catalog=catalog_table(tables.items),
            history=Histories.build(
                _positions(history["customer_id"], _position_of(customer_ids)),
                _positions(history["item_id"], _position_of(item_ids)),
                _matrix(history, names(HISTORY_COLUMNS)),
                customers=len(customer_ids),
            ),
            cut_points=tables.cut_points,
            fitting_data=_fitting_data(tables),
            answers=CustomerAnswers.build(
                tables.answers,
                _positions(tables.answers["customer_id"], _position_of(customer_ids), -1),
                len(customer_ids),
                tables.as_of,
            ),
        )

    @cached_property
    def item_terms(self) -> ItemTerms:
        """The values of each item that answers may match; made when they are first asked for."""
        names = [*self.category_names.to_pylist(), None]  # the last is for -1
        categories = [names[code] for code in self.categories.tolist()]
        return ItemTerms.from_texts(
            categories, self.catalog["brand"].to_pylist(), self.catalog["attributes"].to_pylist()
        )

    @property
    def embeddings(self) -> Float32Array | None:
        """float32[items × d], see `FittingData.embeddings`; None in a shipped snapshot too."""
        return self.fitting_data.embeddings if self.fitting_data else None

    def item(self, name: str) -> Float32Array:
        """Return one item feature, float32[items]."""
        column: Float32Array = self.item_features[:, ITEM[name]]
        return column

    def has_history(self, customers: Int64Array) -> BoolArray:
        """Return whether each customer has bought, carted or viewed anything, bool; -1 has not."""
        row = np.maximum(customers, 0)
        if not len(self.customers):
            return np.zeros(len(customers), bool)
        mask: BoolArray = (customers >= 0) & (self.history.indptr[row + 1] > self.history.indptr[row])
        return mask

    def segment(self, customer: int) -> str:
        """Return the RFM segment of the customer at a position; `PROSPECT` at -1."""
        return SEGMENT_NAMES[int(self.segments[customer])] if customer >= 0 else PROSPECT


def catalog_table(items: pl.DataFrame) -> pa.Table:
    """Return `CATALOG_COLUMNS` of a table of items, in Arrow types that old readers know."""
    table = items.select(CATALOG_COLUMNS.keys()).cast(CATALOG_COLUMNS)  # type: ignore[arg-type]
    return table.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def _fitting_data(tables: Tables) -> FittingData:
    positions, kinds = (
        _position_of(tables.items["item_id"]),
        {name: code for code, name in enumerate(interactions.TOUCHES)},
    )
    anonymous, recent = tables.anonymous, tables.interactions
    return FittingData(
        anonymous=(
            _codes(anonymous["client_id"]),
            _positions(anonymous["item_id"], positions),
            anonymous["weight"].to_numpy(),
        ),
        recent=(
            _codes(recent["visitor"]),
            _positions(recent["item_id"], positions),
            _positions(recent["name"], kinds).astype(np.uint8),
            recent["t"].to_numpy(),
        ),
        descriptions=tables.items.select("title", "category", "brand").rows(),
        embeddings=_embeddings(tables),
    )


def _embeddings(tables: Tables) -> Float32Array | None:
    if tables.embeddings is None or tables.embeddings.is_empty():
        return None
    vectors = tables.items.select("item_id").join(tables.embeddings, on="item_id", how="left", maintain_order="left")
    size = int(tables.embeddings["embedding"].list.len()[0])
    matrix = np.full((vectors.height, size), np.nan, np.float32)
    filled = vectors["embedding"].is_not_null().to_numpy()
    matrix[filled] = vectors["embedding"].drop_nulls().list.to_array(size).to_numpy()
    return matrix


def _matrix(table: pl.DataFrame, columns: list[str]) -> Float32Array:
    return np.ascontiguousarray(table.select(columns).to_numpy(), dtype=np.float32)


def _position_of(ids: pl.Series) -> dict[str, int]:
    return {i: n for n, i in enumerate(ids)}


def _positions(values: pl.Series, positions: Mapping[str, int], unknown: int | None = None) -> Int64Array:
    # The cast is for an empty mapping, which replace_strict hands back in the type of the ids.
    known = values if unknown is None else values.set(~values.is_in(list(positions)).fill_null(False), None)
    found = known.replace_strict(positions, return_dtype=pl.Int64).cast(pl.Int64)
    return (found if unknown is None else found.fill_null(unknown)).to_numpy()


def _codes(values: pl.Series) -> Int32Array:
    """0…k-1 in the order of the values, -1 for null."""
    return values.rank("dense").cast(pl.Int64).fill_null(0).to_numpy().astype(np.int32) - 1
