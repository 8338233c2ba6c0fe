"""The ranker's feature matrix: one row per visitor and candidate item, assembled here for training and serving alike.

A row depends on its visitor, its item, the snapshot and the candidate scores, on nothing else: not on
the other rows of the call, the size of the batch or the process. Training, batch inference and the
server call the same function.

Which columns there are depends on the model's candidate generators: each has two; those about stated preferences are
there with the generator of that name, which is active where the log has answers; the others are always there.
"""

import hashlib
from functools import cache

import numpy as np

from features.common.arrays import Float32Array, Int64Array
from features.ranking import session_features, stated_preferences
from features.ranking.snapshot import CUSTOMER, CUSTOMER_COLUMNS, ITEM, ITEM_COLUMNS, Snapshot
from features.ranking.visitors import Visitors
from features.tables.columns import Column
from features.tables.columns import names as column_names
from features.tables.history import COLUMN as HISTORY
from features.tables.history import COLUMNS as HISTORY_COLUMNS

STATED = "stated"  # the candidate generator with which the columns about stated preferences are there

CROSS_COLUMNS = (
    Column("order_share", "0-1", "share of the customer's orders with the item"),
    Column("behind_last_order_days", "days", "since the item was bought, less since the last order"),
    Column("own_gap_days", "days", "mean gap between the customer's orders of the item"),
    Column("own_cycle", "ratio", "since the item was bought / own_gap_days"),
    Column("item_cycle", "ratio", "since the item was bought / the item's median repurchase gap"),
    Column("order_cycle", "ratio", "since the item was bought / the customer's gap between orders"),
    Column("price_to_paid", "ratio", "the item's price / the customer's mean price of a unit"),
    Column("units_per_order", "units", "the customer's units of the item an order"),
)

FIXED_COLUMNS = (
    *(Column(f"pair_{c.name}", c.unit, c.meaning) for c in HISTORY_COLUMNS),
    *CROSS_COLUMNS,
    *session_features.COLUMNS,
    *(Column(f"item_{c.name}", c.unit, c.meaning) for c in ITEM_COLUMNS),
    *(Column(f"customer_{c.name}", c.unit, c.meaning) for c in CUSTOMER_COLUMNS),
)


@cache
def score_columns(generators: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of the candidates' scores by each generator, all ranks first.

    A refitted generator shifts in scale, so the ranker sees the rank among the visitor's candidates (0 = best, ties
    share the better rank) and the score over the best one.
    """
    return (
        *(Column(f"{name}_rank", "rank", f"rank of the {name} score among the candidates") for name in generators),
        *(Column(f"{name}_score", "0-1", f"{name} score / the best of the candidates") for name in generators),
    )


@cache
def columns(generators: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of the matrix of a model with these generators, in order."""
    return (*score_columns(generators), *FIXED_COLUMNS, *(stated_preferences.COLUMNS if STATED in generators else ()))


@cache
def names(generators: tuple[str, ...]) -> tuple[str, ...]:
    """The names of `columns`."""
    return tuple(column_names(columns(generators)))


@cache
def schema_hash(generators: tuple[str, ...]) -> str:
    """16 hex digits that change when a feature is added, removed, renamed, moved or redefined in words."""
    text = "\n".join("\t".join(c) for c in columns(generators))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def assemble(
    snapshot: Snapshot,
    visitors: Visitors,
    query: Int64Array,
    item: Int64Array,
    ranks: Float32Array,
    scores: Float32Array,
    stated: bool = False,
) -> Float32Array:
    """Assemble the features of n candidates, `item[i]` for visitor `query[i]` (rising): float32[n × columns].

    `ranks` and `scores`, float32[n × generators], are the candidates' rank by each generator and their score over the
    best of the visitor's candidates. `stated`: whether `STATED` is among them. The columns are `columns(generators)`.
    """
    customer = visitors.customers[query]
    width = ranks.shape[1] + scores.shape[1] + len(FIXED_COLUMNS) + stated * len(stated_preferences.COLUMNS)
    out = np.empty((len(query), width), np.float32)
    at = 0

    def put(block: Float32Array) -> Float32Array:
        nonlocal at
        place = out[:, at : at + block.shape[1]]
        place[...] = block
        at += block.shape[1]
        return place

    put(ranks)
    put(scores)
    position = visitors.find(snapshot.history, query, item)
    pair = put(_rows(snapshot.history.values, position))
    of_item = snapshot.item_features[item]
    of_customer = _rows(snapshot.customer_features, customer)
    put(_cross(pair, of_item, of_customer))
    put(session_features.compute_session_features(snapshot, visitors, query, item))
    put(of_item)
    put(of_customer)
    if stated:
        put(_match_stated(snapshot, visitors, query, item))
    return out


def _match_stated(snapshot: Snapshot, visitors: Visitors, query: Int64Array, item: Int64Array) -> Float32Array:
    if not len(visitors.stated):  # the items' terms are not needed
        return stated_preferences.nothing_matches(len(query))
    terms, price = snapshot.item_terms, snapshot.item("price")
    return stated_preferences.compute_stated_features(terms, price, visitors.stated, query, item, len(visitors))


def _rows(table: Float32Array, positions: Int64Array) -> Float32Array:
    """The table's rows at `positions`, NaN at -1."""
    if not len(table):
        return np.full((len(positions), table.shape[1]), np.nan, np.float32)
    rows: Float32Array = table[np.maximum(positions, 0)]
    rows[positions < 0] = np.nan
    return rows


def _cross(pair: Float32Array, item: Float32Array, customer: Float32Array) -> Float32Array:
    orders, last = pair[:, HISTORY["orders"]], pair[:, HISTORY["bought_last_days"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        own_gap = (pair[:, HISTORY["bought_first_days"]] - last) / (orders - 1)
        columns = (
            orders / customer[:, CUSTOMER["frequency"]],
            last - customer[:, CUSTOMER["recency_days"]],
            own_gap,
            last / own_gap,
            last / item[:, ITEM["repeat_gap_days"]],
            last / customer[:, CUSTOMER["order_gap_days"]],
            item[:, ITEM["price"]] / customer[:, CUSTOMER["price_paid"]],
            pair[:, HISTORY["quantity"]] / orders,
        )
    cross = np.empty((len(pair), len(columns)), np.float32)
    for n, column in enumerate(columns):
        cross[:, n] = column
    cross[~np.isfinite(cross)] = np.nan
    return cross
