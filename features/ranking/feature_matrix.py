"""(visitors × candidate items) → float32 matrix: the one place where ranker features are made.

A row depends on its visitor, its item, the snapshot and the candidate scores, on nothing else: not on
the other rows of the call, the size of the batch or the process. Training, batch inference and the
server call the same function.
"""

import hashlib

import numpy as np

from features.ranking import session_features
from features.ranking.snapshot import CUSTOMER, CUSTOMER_COLUMNS, ITEM, ITEM_COLUMNS, Snapshot
from features.ranking.visitors import Visitors
from features.tables.columns import Column, names
from features.tables.history import COLUMN as HISTORY
from features.tables.history import COLUMNS as HISTORY_COLUMNS

# Scores that candidates come with. A refitted generator shifts in scale, so the ranker sees the rank among
# the visitor's candidates (0 = best, ties share the better rank) and the score over the best one.
SCORES = (
    "history", "visit", "neighbours", "als", "item_knn", "item_knn_last", "item_knn_visit", "covisit_last",
    "covisit_visit", "content", "content_visit", "popular", "popular_segment", "popular_category", "arrivals",
)  # fmt: skip

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

SCORE_COLUMNS = (
    *(Column(f"{s}_rank", "rank", f"rank of the {s} score among the candidates") for s in SCORES),
    *(Column(f"{s}_score", "0-1", f"{s} score / the best of the candidates") for s in SCORES),
)

COLUMNS = (
    *SCORE_COLUMNS,
    *(Column(f"pair_{c.name}", c.unit, c.meaning) for c in HISTORY_COLUMNS),
    *CROSS_COLUMNS,
    *session_features.COLUMNS,
    *(Column(f"item_{c.name}", c.unit, c.meaning) for c in ITEM_COLUMNS),
    *(Column(f"customer_{c.name}", c.unit, c.meaning) for c in CUSTOMER_COLUMNS),
)
NAMES = names(COLUMNS)


def schema_hash() -> str:
    """16 hex digits that change when a feature is added, removed, renamed, moved or redefined in words."""
    text = "\n".join("\t".join(c) for c in COLUMNS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def assemble(
    snapshot: Snapshot,
    visitors: Visitors,
    query: np.ndarray,
    item: np.ndarray,
    ranks: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """float32[n × len(COLUMNS)] for n candidates: `item[i]` for visitor `query[i]` (rising).

    `ranks` and `scores`, float32[n × len(SCORES)], are the candidates' place by each score.
    """
    customer = visitors.customers[query]
    out = np.empty((len(query), len(COLUMNS)), np.float32)
    at = 0

    def put(block: np.ndarray) -> np.ndarray:
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
    put(session_features.realtime(snapshot, visitors, query, item))
    put(of_item)
    put(of_customer)
    return out


def _rows(table: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The table's rows at `positions`, NaN at -1."""
    if not len(table):
        return np.full((len(positions), table.shape[1]), np.nan, np.float32)
    rows: np.ndarray = table[np.maximum(positions, 0)]
    rows[positions < 0] = np.nan
    return rows


def _cross(pair: np.ndarray, item: np.ndarray, customer: np.ndarray) -> np.ndarray:
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
