"""What the events of the current visit say about a candidate. Training and serving call this one function."""

import numpy as np

from features.columns import Column
from features.snapshot import ITEM, Snapshot
from features.visitors import Visitors

COLUMNS = (
    Column("visit_events", "events", "items touched in this visit so far"),
    Column("visit_item_events", "events", "of these, the candidate itself"),
    Column("visit_item_back", "events", "events since the candidate was touched; null if it was not"),
    Column("visit_item_weight", "weight", "strongest event with the candidate: view < cart < purchase"),
    Column("visit_category_share", "0-1", "share of the visit's events in the candidate's category"),
    Column("visit_brand_share", "0-1", "share of the visit's events with the candidate's brand"),
    Column("visit_price_ratio", "ratio", "the candidate's price / mean price of what the visit touched"),
)


def realtime(snapshot: Snapshot, visitors: Visitors, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """float32[len(query) × len(COLUMNS)] for candidates `item` of visitors `query` (rising).

    Every candidate meets every event of its visitor: with at most 50 events and 300 candidates a visitor
    that is a small product, and it needs no loop.
    """
    out = np.full((len(query), len(COLUMNS)), np.nan, np.float32)
    counts = np.bincount(visitors.query, minlength=len(visitors))
    out[:, 0] = counts[query]
    active = np.flatnonzero(counts[query])
    if not len(active):
        return out
    n = counts[query[active]]
    starts = np.searchsorted(visitors.query, query[active])
    pair = np.repeat(np.arange(len(active)), n)
    first = np.cumsum(n) - n
    event = np.repeat(starts, n) + np.arange(len(pair)) - first[pair]
    candidate, touched = item[active][pair], visitors.item[event]

    same = candidate == touched
    out[active, 1] = np.add.reduceat(same.astype(np.float32), first)
    back = np.where(same, visitors.back[event], np.inf).astype(np.float32)
    nearest = np.minimum.reduceat(back, first)
    out[active, 2] = np.where(np.isinf(nearest), np.nan, nearest)
    out[active, 3] = np.maximum.reduceat(np.where(same, visitors.weight[event], np.float32(0)), first)
    for column, codes in ((4, snapshot.categories), (5, snapshot.brands)):
        alike = (codes[candidate] == codes[touched]) & (codes[candidate] >= 0)
        out[active, column] = np.add.reduceat(alike.astype(np.float32), first) / n
    price = snapshot.item_features[:, ITEM["price"]]
    known = ~np.isnan(price[touched])
    paid = np.add.reduceat(np.where(known, price[touched], np.float32(0)), first)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = paid / np.add.reduceat(known.astype(np.float32), first)
        ratio = price[item[active]] / mean
    out[active, 6] = np.where(np.isfinite(ratio), ratio, np.nan)
    return out
