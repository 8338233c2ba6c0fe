"""How much of the reachable a recommender reaches, where the log was simulated and its truth kept.

The oracle ranks the very same queries by the probabilities that the shop was simulated from:

- customers: the chance that an item is bought in the window (`Truth.bought_within`);
- visits: what the visit is about is not said but can be inferred. A look is after one of the person's styles in one
  category, or wanders; what was touched so far makes each style and category more or less likely (Bayes' rule), and
  the next look's chances follow. What was seen may be seen again.

The first is exact, as `Truth` says. The second is close to it: repeats are taken at their average and reorders left
out, so on a few queries a recommender can come out above it. It also knows whose device it is, which a shop cannot:
before the first event of an anonymous visit its lead is out of reach. Of strangers, who never become customers, the
truth holds nothing; their queries are left out.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from features.common.clock import DAY
from features.common.errors import InputError
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from features.sources.simulator.frames import midnight
from features.sources.simulator.truth import DAY_STARTS, Truth
from training.dataset.queries import Queries

Oracle = Callable[[int, Visitors], np.ndarray]
"""Given the place of a batch's first query and the batch: float64[batch × items], NaN where it knows nothing."""


def oracle(truth: Truth, snapshot: Snapshot, asked: Queries, start: int, end: int) -> Oracle:
    """For the queries of one recommender on [start, end). Raises `InputError` where the truth is of another shop."""
    column = snapshot.items.find(truth.items)
    if len(snapshot.items) != (column >= 0).sum():
        raise InputError(
            f"the truth is of another shop: it knows {(column >= 0).sum()} of the log's {len(snapshot.items)} items; "
            "`usual ingest simulated --truth DIR` writes log and truth together, with the same settings"
        )
    if asked.about is None:
        raise InputError("these queries do not say who asked, so the truth cannot be looked up")
    who = _customers(asked.about, truth.config.customers)
    at = asked.about["at"].to_numpy()

    def chances(first: int, batch: Visitors) -> np.ndarray:
        rows = np.array([n for n in range(len(batch)) if who[first + n] is not None], np.int64)
        out = np.full((len(batch), len(snapshot.items)), np.nan)
        if not len(rows):
            return out
        names = [str(who[first + n]) for n in rows]
        if (batch.customers[rows] >= 0).all() and not len(batch.query):
            known = truth.bought_within(names, start, end)
        else:
            known = _inside_visits(truth, names, at[first + rows], *_touched(batch, rows, column))
        there = column >= 0
        out[np.ix_(rows, column[there])] = known[:, there]
        return out

    return chances


def _customers(about: pl.DataFrame, customers: int) -> list[str | None]:
    """The customer of each query: as the visit says, else the owner of its device; None for strangers."""
    owner = pl.col("client_id").str.extract(r"^d(\d+)$").cast(pl.Int64)
    known = pl.when(owner < customers).then(pl.format("c{}", owner.cast(pl.String).str.zfill(6)))
    return about.select(pl.coalesce("customer_id", known)).to_series().to_list()


def _touched(batch: Visitors, rows: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place in `rows`, column of the truth): each item a visit has touched, once."""
    place = np.full(len(batch), -1)
    place[rows] = np.arange(len(rows))
    of_item = np.full(column.max() + 1, -1)
    of_item[column[column >= 0]] = np.flatnonzero(column >= 0)
    keep = (batch.item >= 0) & (place[batch.query] >= 0)
    pairs = np.unique(np.stack([place[batch.query[keep]], of_item[batch.item[keep]]]), axis=1)
    return pairs[0], pairs[1]


def _inside_visits(truth: Truth, names: list[str], at: np.ndarray, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """float64[len(names) × items]: about the chance that each item is touched from `at` on in the visit.

    `query`, `item`: what was touched before, each pair once.
    """
    result = np.empty((len(names), truth.config.items))
    since = at - midnight(truth.config) - DAY_STARTS
    days = np.clip(since // DAY, 0, truth.config.days - 1)
    for day in np.unique(days):
        rows = np.flatnonzero(days == day)
        of_day = np.isin(query, rows)
        place = np.searchsorted(rows, query[of_day])
        result[rows] = _on_a_day(truth, int(day), [names[r] for r in rows], place, item[of_day])
    return result


def _on_a_day(truth: Truth, day: int, names: list[str], query: np.ndarray, item: np.ndarray) -> np.ndarray:
    items, config = truth.choice.items, truth.config
    who = np.array([truth.number(name) for name in names], np.int64)
    wish = truth.wish(truth.choice.today(day)[0], day, who)
    styles = np.stack(wish.styles, axis=1)  # [visits × styles × items]
    general = wish.category * (wish.mixture[:, :, None] * styles).sum(axis=1)
    free = 1 - wish.fond.sum(axis=1, keepdims=True)
    stray = wish.fond + free * config.wander * general  # a look at a favourite, or one that wanders
    about_it = (1 - config.wander) * free
    # Bayes: an item seen speaks for its category, and there for the styles that it suits.
    belief = wish.mixture[:, :, None] * wish.category[:, None, items.first[:-1]]  # [visits × styles × categories]
    for q, i in zip(query, item, strict=True):
        belief[q, :, items.category[i]] *= 1 + about_it[q] * styles[q, :, i] / max(stray[q, i], 1e-9)
        belief[q] /= belief[q].sum()
    next_look = stray + about_it * (belief[:, :, items.category] * styles).sum(axis=1)
    # One look is about to come, or something seen is seen again: repeats are 0 or more a look, with a known mean.
    never: np.ndarray = 1 - np.clip(next_look, 0, 1)
    never[query, item] *= np.exp(-config.repeat_views)
    return 1 - never
