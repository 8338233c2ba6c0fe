"""Session features: the columns about the events of the current visit, the same in training and in serving."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.common.arrays import BoolArray, Float32Array, FloatArray, Int64Array, IntArray, ScalarT
from features.ranking.pair_index import find_keys
from features.ranking.snapshot import ITEM, Snapshot
from features.ranking.visitors import KIND, MOST_RECENT, Visitors
from features.tables.columns import Column

DECAY = 0.8  # of an event's weight per later event of the visit

# Order, not time: with times of events as features the metrics on a simulated shop's hold-out fell, as trees
# recognised the visits they were trained on; and events that a page sends along (`context`) have no time. Above all
# the pause before the request would mislead: in training it ends at the visitor's next event, on a page it has hardly
# begun.
_ITEM_COLUMNS = (
    Column("visit_item_events", "events", "events of the visit with the candidate itself"),
    Column("visit_item_back", "events", "events since the candidate was touched; null if it was not"),
    Column("visit_item_weight", "weight", "strongest event with the candidate: click < view < wish < cart < purchase"),
    Column("visit_item_views", "events", "times the candidate was viewed"),
    Column("visit_item_carts", "events", "times the candidate was put in the cart"),
    Column("visit_item_removals", "events", "times the candidate was taken out of the cart"),
    Column("visit_item_in_cart", "0/1", "the last time it was added, removed or bought, it was added"),
)
_KINDS = {"category": "category", "department": "category's first level", "brand": "brand"}
_KIN_COLUMNS = tuple(
    column
    for name, words in _KINDS.items()
    for column in (
        Column(f"visit_{name}_share", "0-1", f"share of the visit's touched items in the candidate's {words}"),
        Column(f"visit_{name}_recent", "0-1", f"the same, by weight of event and {DECAY} per later event"),
        Column(f"visit_{name}_last", "0/1", f"the last viewed item is of the candidate's {words}"),
    )
)
_PRICE_COLUMNS = (
    Column("visit_price_ratio", "ratio", "the candidate's price / mean price of what the visit touched"),
    Column("visit_price_to_min", "ratio", "the candidate's price / the lowest of these"),
    Column("visit_price_to_max", "ratio", "the candidate's price / the highest of these"),
    Column("visit_price_to_last", "ratio", "the candidate's price / that of the last viewed item"),
)
_VISIT_COLUMNS = (
    Column("visit_items", "items", "distinct items touched"),
    Column("visit_categories", "categories", "distinct categories touched"),
    Column("visit_carts", "events", "times something was put in the cart"),
    Column("visit_removals", "events", "times something was taken out of it"),
    Column("visit_purchases", "items", "bought in this visit"),
    Column("visit_searches", "events", "searches"),
    Column("visit_last_is_cart", "0/1", "the last event put something in the cart"),
)
COLUMNS = (
    Column("visit_events", "events", f"of the visit so far, {MOST_RECENT} at most; without any, all below are null"),
    *_ITEM_COLUMNS,
    *_KIN_COLUMNS,
    *_PRICE_COLUMNS,
    *_VISIT_COLUMNS,
)
_DECAY = (DECAY ** np.arange(MOST_RECENT)).astype(np.float32)


def compute_session_features(
    snapshot: Snapshot, visitors: Visitors, query: Int64Array, item: Int64Array
) -> Float32Array:
    """Compute the features of n candidates, `item[i]` for visitor `query[i]`: float32[n × len(COLUMNS)].

    Events are summed once per visitor and item, category or brand, and every candidate looks its sums up: the
    work grows with events plus candidates, not with their product.
    """
    counts = np.bincount(visitors.query, minlength=len(visitors))
    out = np.full((len(query), len(COLUMNS)), np.nan, np.float32)
    out[:, 0] = counts[query]
    if not len(visitors.query):
        return out
    last = np.cumsum(counts) - 1  # each visitor's last event; not used where there are none
    last_view = np.full(len(visitors), -1)
    views = np.flatnonzero((visitors.kind == KIND["view_item"]) & (visitors.item >= 0))
    last_view[visitors.query[views]] = views  # numpy keeps the last of equal indices
    blocks = (
        _item_block(snapshot, visitors, query, item),
        _kin_block(snapshot, visitors, query, item, last_view),
        _price_block(snapshot, visitors, query, item, last_view),
        _visit_block(snapshot, visitors, last)[query],
    )
    at = 1
    for block in blocks:
        out[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    out[counts[query] == 0, 1:] = np.nan
    return out


@dataclass(frozen=True)
class _EventGroups:
    """Events grouped by visitor and a code: `order` lists them group after group, each from `starts` on, oldest first.

    `keys` int64[groups] is rising: visitor × `size` + code. Events with code -1 are in no group.
    """

    size: int
    keys: Int64Array
    order: Int64Array
    starts: Int64Array

    @classmethod
    def build(cls, query: Int64Array, code: IntArray, size: int) -> "_EventGroups":
        rows = np.flatnonzero(code >= 0)
        key = query[rows] * size + code[rows]
        sort = np.argsort(key, kind="stable")
        key = key[sort]
        starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
        return cls(size, key[starts], rows[sort], starts)

    @property
    def newest(self) -> Int64Array:
        """int64[groups]: each group's last event."""
        newest: Int64Array = self.order[np.append(self.starts, len(self.order))[1:] - 1]
        return newest

    def reduce(self, operation: np.ufunc, values: npt.NDArray[ScalarT]) -> npt.NDArray[ScalarT]:
        """Reduce one value per event to one per group, always in the order of the visitor's own events."""
        if not len(self.starts):
            return np.zeros(0, values.dtype)
        reduced: npt.NDArray[ScalarT] = operation.reduceat(values[self.order], self.starts)
        return reduced

    def sum(self, values: BoolArray | FloatArray) -> Float32Array:
        return self.reduce(np.add, values.astype(np.float32))

    def find(self, query: Int64Array, code: IntArray) -> Int64Array:
        """Find the group of each visitor and code; -1 where there is none."""
        if not len(self.keys):
            return np.full(len(query), -1)
        slot, hit = find_keys(self.keys, query * self.size + code)
        return np.where(hit & (code >= 0), slot, -1)


def _item_block(snapshot: Snapshot, v: Visitors, query: Int64Array, item: Int64Array) -> Float32Array:
    groups = _EventGroups.build(v.query, v.item, len(snapshot.items))
    add, removal = v.kind == KIND["add_to_cart"], v.kind == KIND["remove_from_cart"]
    order = np.arange(1, len(v.query) + 1)
    # The latest event decides. Counting would go wrong with items that were in the cart before the visit.
    last_add = groups.reduce(np.maximum, np.where(add, order, 0))
    last_removal = groups.reduce(np.maximum, np.where(removal | (v.kind == KIND["purchase"]), order, 0))
    table = np.zeros((len(groups.keys) + 1, len(_ITEM_COLUMNS)), np.float32)
    table[-1, 1] = np.nan
    columns = (
        np.diff(groups.starts, append=len(groups.order)),
        v.back[groups.newest],
        groups.reduce(np.maximum, v.weight),
        groups.sum(v.kind == KIND["view_item"]),
        groups.sum(add),
        groups.sum(removal),
        last_add > last_removal,
    )
    for n, column in enumerate(columns):
        table[:-1, n] = column
    rows: Float32Array = table[groups.find(query, item)]  # the last row is for -1
    return rows


def _kin_block(
    snapshot: Snapshot, v: Visitors, query: Int64Array, item: Int64Array, last_view: Int64Array
) -> Float32Array:
    """Share, decayed share and last view of the candidate's category, department and brand."""
    touched = v.item >= 0
    weight = v.weight * _DECAY[v.back]
    visits = _EventGroups.build(v.query, np.where(touched, 0, -1), 1)
    n, total = np.full((2, len(v)), np.nan, np.float32)
    n[visits.keys], total[visits.keys] = visits.sum(touched), visits.sum(weight)
    last_item = np.where(last_view >= 0, v.item[last_view], -1)
    out = np.empty((len(query), len(_KIN_COLUMNS)), np.float32)
    for k, codes in enumerate((snapshot.categories, snapshot.departments, snapshot.brands)):
        groups = _EventGroups.build(v.query, np.where(touched, codes[v.item], -1), len(snapshot.items))
        table = np.zeros((len(groups.keys) + 1, 2), np.float32)
        table[:-1, 0] = groups.sum(touched)
        table[:-1, 1] = groups.sum(weight)
        code = codes[item]
        group = groups.find(query, code)
        last_code = np.where(last_item >= 0, codes[last_item], np.int32(-2))[query]
        with np.errstate(divide="ignore", invalid="ignore"):
            out[:, 3 * k] = table[group, 0] / n[query]
            out[:, 3 * k + 1] = table[group, 1] / total[query]
        out[:, 3 * k + 2] = np.where(last_code == -2, np.float32(np.nan), (last_code == code) & (code >= 0))
    return out


def _price_block(
    snapshot: Snapshot, v: Visitors, query: Int64Array, item: Int64Array, last_view: Int64Array
) -> Float32Array:
    price = snapshot.item_features[:, ITEM["price"]]
    # As shown or paid; where the event does not say, the item's current price.
    event_price = np.where(np.isnan(v.price) & (v.item >= 0), price[v.item], v.price)
    visits = _EventGroups.build(v.query, np.where(np.isnan(event_price), -1, 0), 1)
    base = np.full((len(v), len(_PRICE_COLUMNS)), np.nan, np.float32)
    base[visits.keys, 0] = visits.sum(event_price) / visits.sum(np.ones(len(event_price)))
    base[visits.keys, 1] = visits.reduce(np.minimum, event_price)
    base[visits.keys, 2] = visits.reduce(np.maximum, event_price)
    base[:, 3] = np.where(last_view >= 0, event_price[last_view], np.nan)
    base[base <= 0] = np.nan
    ratio: Float32Array = price[item][:, None] / base[query]
    return ratio


def _visit_block(snapshot: Snapshot, v: Visitors, last: Int64Array) -> Float32Array:
    """Compute the columns about the whole visit: float32[len(v) × len(_VISIT_COLUMNS)]."""
    n, items = len(v), len(snapshot.items)
    touched = v.item >= 0
    columns = (
        _distinct(v.query, v.item, items, n),
        _distinct(v.query, np.where(touched, snapshot.categories[v.item], -1), items, n),
        *(
            np.bincount(v.query[v.kind == KIND[name]], minlength=n)
            for name in ("add_to_cart", "remove_from_cart", "purchase", "search")
        ),
        v.kind[last] == KIND["add_to_cart"],
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _distinct(query: Int64Array, code: IntArray, size: int, visitors: int) -> Int64Array:
    return np.bincount(np.unique((query * size + code)[code >= 0]) // size, minlength=visitors)
