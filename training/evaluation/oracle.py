"""Oracle: the best possible ranking of the same queries, for simulated logs whose true probabilities are kept.

It ranks items by the probabilities that the shop was simulated from:

- customers: the probability that an item is bought in the window (`Truth.bought_within`);
- visits: the topic of a visit is hidden and has to be inferred. A look is aimed at one of the person's styles in one
  category, or wanders; the items touched so far make each style and category more or less likely (Bayes' rule), and
  the probabilities of the next look follow. An item that was looked at may be looked at again.

The first is exact (see `Truth`). The second is an approximation: repeats enter with their average and reorders are left
out, so a recommender can come out above it on a few queries. The oracle also knows who owns a device, which a shop
cannot: its lead before the first event of an anonymous visit is out of reach. The truth holds nothing about strangers,
who never become customers; their queries are left out.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from features.common.clock import DAY
from features.common.errors import InputError
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.sources.simulator.frames import log_start
from features.sources.simulator.truth import DAY_STARTS, Truth
from training.dataset.queries import Queries

Oracle = Callable[[int, Visitors], np.ndarray]
"""(position of the batch's first query, batch) → float64[batch × items], NaN for queries that it cannot answer."""


def build_oracle(truth: Truth, snapshot: Snapshot, queries: Queries, start: int, end: int) -> Oracle:
    """Build the oracle for one recommender's queries on [start, end), microseconds.

    Raises `InputError` if the truth belongs to another shop, or the queries do not say whose they are.
    """
    column = snapshot.items.find(truth.items)
    if len(snapshot.items) != (column >= 0).sum():
        raise InputError(
            f"the truth is of another shop: it knows {(column >= 0).sum()} of the log's {len(snapshot.items)} items; "
            "`usual ingest simulated --truth DIR` writes log and truth together, with the same settings"
        )
    if queries.context is None:
        raise InputError("these queries do not name their customers, so the truth cannot be looked up")
    customers = _find_customers(queries.context, truth.config.customers)
    at = queries.context["at"].to_numpy()

    def score_batch(first: int, batch: Visitors) -> np.ndarray:
        rows = np.array([n for n in range(len(batch)) if customers[first + n] is not None], np.int64)
        out = np.full((len(batch), len(snapshot.items)), np.nan)
        if not len(rows):
            return out
        names = [str(customers[first + n]) for n in rows]
        if (batch.customers[rows] >= 0).all() and not len(batch.query):
            row_chances = truth.bought_within(names, start, end)
        else:
            row_chances = _visit_chances(truth, names, at[first + rows], *_touched_items(batch, rows, column))
        in_catalog = column >= 0
        out[np.ix_(rows, column[in_catalog])] = row_chances[:, in_catalog]
        return out

    return score_batch


def _find_customers(about: pl.DataFrame, customers: int) -> list[str | None]:
    """Return the customer of each query: the visit's own, else the owner of its device; None for strangers."""
    owner = pl.col("client_id").str.extract(r"^d(\d+)$").cast(pl.Int64)
    customer = pl.when(owner < customers).then(pl.format("c{}", owner.cast(pl.String).str.zfill(6)))
    return about.select(pl.coalesce("customer_id", customer)).to_series().to_list()


def _touched_items(batch: Visitors, rows: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (position in `rows`, column of the truth) of the distinct items that each visit has touched."""
    position = np.full(len(batch), -1)
    position[rows] = np.arange(len(rows))
    of_item = np.full(column.max() + 1, -1)
    of_item[column[column >= 0]] = np.flatnonzero(column >= 0)
    keep = (batch.item >= 0) & (position[batch.query] >= 0)
    pairs = np.unique(np.stack([position[batch.query[keep]], of_item[batch.item[keep]]]), axis=1)
    return pairs[0], pairs[1]


def _visit_chances(truth: Truth, names: list[str], at: np.ndarray, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return float64[len(names) × items]: approximate probability that each item is touched in the visit after `at`.

    `query`, `item`: the distinct items touched before.
    """
    result = np.empty((len(names), truth.config.items))
    since = at - log_start(truth.config) - DAY_STARTS
    days = np.clip(since // DAY, 0, truth.config.days - 1)
    for day in np.unique(days):
        rows = np.flatnonzero(days == day)
        on_day = np.isin(query, rows)
        position = np.searchsorted(rows, query[on_day])
        result[rows] = _day_chances(truth, int(day), [names[r] for r in rows], position, item[on_day])
    return result


def _day_chances(truth: Truth, day: int, names: list[str], query: np.ndarray, item: np.ndarray) -> np.ndarray:
    items, config = truth.choice.items, truth.config
    customers = np.array([truth.customer_row(name) for name in names], np.int64)
    demand = truth.demand(truth.choice.weights_on(day)[0], day, customers)
    styles = np.stack(demand.styles, axis=1)  # [visits × styles × items]
    general = demand.category * (demand.mixture[:, :, None] * styles).sum(axis=1)
    free = 1 - demand.fond.sum(axis=1, keepdims=True)
    stray = demand.fond + free * config.wander * general  # a look at a favourite, or a wandering one
    on_topic = (1 - config.wander) * free
    # Bayes' rule: a touched item is evidence for its category, and within it for the styles that it suits.
    belief = demand.mixture[:, :, None] * demand.category[:, None, items.first[:-1]]  # [visits × styles × categories]
    for q, i in zip(query, item, strict=True):
        belief[q, :, items.category[i]] *= 1 + on_topic[q] * styles[q, :, i] / max(stray[q, i], 1e-9)
        belief[q] /= belief[q].sum()
    next_look = stray + on_topic * (belief[:, :, items.category] * styles).sum(axis=1)
    # Either the next look, or a repeated one: the number of repeats per look has a known mean.
    never: np.ndarray = 1 - np.clip(next_look, 0, 1)
    never[query, item] *= np.exp(-config.repeat_views)
    return 1 - never
