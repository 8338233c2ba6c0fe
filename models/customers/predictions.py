"""What each customer is expected to do next: order, stay away, be worth, and from which category.

All of it follows from a snapshot and the propensity classifiers, so a refresh needs no event log.

The next category is where a customer's decayed purchases, carts and views fall, plus `PRIOR` times what the shop
sold lately, which decides for those who have touched little. Measured as the category of the next order within
28 days, on simulated shops of 2000 customers (general: 24 categories; grocery, of 1500: 9), at a boundary eight weeks
before the end, by which it was chosen, and at one four weeks later:

    hit-rate@1 / @3                      general, chosen by    later          grocery, chosen by    later
    the shop's best-selling category     .251 / .483           .268 / .460    .409 / .696           .403 / .693
    category of the most orders          .557 / .773           .570 / .706    .679 / .954           .724 / .948
    category bought last                 .498 / .754           .515 / .702    .532 / .929           .547 / .921
    decayed affinity                     .591 / .882           .634 / .877    .720 / .972           .726 / .952
    … with the prior (this)              .586 / .882           .638 / .872    .720 / .968           .729 / .952
    … half through co-touched categories .581 / .882           .647 / .868    .728 / .970           .722 / .950

Affinity is well ahead of the rest; transitions between categories add nothing that can be told from chance.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from features.ranking.snapshot import Snapshot
from features.tables import lifetime
from features.tables.columns import names, pick
from models.candidates.user_profile import taste
from models.customers import propensity
from models.customers.propensity import Propensity

COLUMNS = (*propensity.COLUMNS, *pick(lifetime.COLUMNS, "churn_risk_90d expected_value_365d"))
COLUMN = {name: i for i, name in enumerate(names(COLUMNS))}
NEXT = 3  # categories told of a customer
PRIOR = 0.5  # decayed purchases that the shop's recent sales count as


@dataclass(frozen=True)
class Predictions:
    """By position of the customer in the snapshot they were made of.

    `values` float32[customers × len(COLUMNS)], NaN where not defined. `next_categories` int32[customers × NEXT]:
    codes of the snapshot's categories, the likeliest first, -1 where there is none.
    """

    values: np.ndarray
    next_categories: np.ndarray

    @classmethod
    def of(cls, model: Propensity, snapshot: Snapshot) -> "Predictions":
        reused = [names(lifetime.COLUMNS).index(c) for c in names(COLUMNS)[len(propensity.COLUMNS) :]]
        values = np.hstack([model.predict(snapshot), snapshot.lifetime[:, reused]])
        return cls(values, next_categories(snapshot))

    def table(self, snapshot: Snapshot) -> pl.DataFrame:
        """customer_id, the propensities and next_category: what a table that has the rest does not know yet."""
        paths = pl.Series(snapshot.category_names.to_pylist(), dtype=pl.String)
        code = pl.Series(self.next_categories[:, 0], dtype=pl.Int64)
        return pl.DataFrame(
            {
                "customer_id": pl.Series(snapshot.customers.values.to_pylist(), dtype=pl.String),
                **{name: pl.Series(self.values[:, COLUMN[name]]).fill_nan(None) for name in names(propensity.COLUMNS)},
                "next_category": paths.gather(code.set(code < 0, None)),
            }
        )


def profile(made: Predictions, snapshot: Snapshot, customer: int) -> dict[str, Any]:
    """JSON values of the customer at a position: None where a value is not defined."""
    values = {name: float(value) for name, value in zip(names(COLUMNS), made.values[customer], strict=True)}
    likely = [snapshot.category_names[int(code)].as_py() for code in made.next_categories[customer] if code >= 0]
    return {
        "segment": snapshot.segment(customer),
        **{name: None if math.isnan(value) else value for name, value in values.items()},
        "next_category": likely[0] if likely else None,
        "next_categories": likely,
    }


def in_words(told: Mapping[str, Any]) -> list[str]:
    """A `profile` in a few lines for people; what is not defined is left out."""
    chances = [
        f"{told[f'propensity_{d}d']:.0%} to order within {d} days"
        for d in propensity.HORIZONS_DAYS
        if told[f"propensity_{d}d"] is not None
    ]
    if told["churn_risk_90d"] is not None:
        chances.append(f"{told['churn_risk_90d']:.0%} not to order within 90 days")
    lines = [", ".join(chances)]
    if told["expected_value_365d"] is not None:
        lines.append(f"expected to spend {told['expected_value_365d']:,.2f} within 365 days")
    if told["next_categories"]:
        lines.append(f"next from {', then '.join(told['next_categories'])}")
    return [line for line in lines if line]


def next_categories(snapshot: Snapshot, weight: np.ndarray | None = None) -> np.ndarray:
    """int32[customers × NEXT]: codes of the categories a customer is likeliest to order from, -1 beyond the last.

    `weight`: how much each pair of the history counts, in purchases; default: its `taste`.
    """
    size, shelves = len(snapshot.customers), len(snapshot.category_names)
    out = np.full((size, NEXT), -1, np.int32)
    if not shelves:
        return out
    known = snapshot.categories >= 0
    buyers = np.nan_to_num(snapshot.item("buyers_28d")[known]).astype(np.float64)
    sold = np.bincount(snapshot.categories[known], buyers, minlength=shelves)
    prior = PRIOR * (sold / sold.sum() if sold.any() else np.full(shelves, 1 / shelves))
    # Of the categories a customer never touched only the best-selling can be among the first.
    usual = np.argsort(-prior, kind="stable")[:NEXT]
    for start in range(0, size, propensity.CHUNK):
        part = np.arange(start, min(size, start + propensity.CHUNK))
        who, pair = snapshot.history.gather(part)
        category = snapshot.categories[snapshot.history.items[pair]]
        counts = np.nan_to_num(taste(snapshot.history, pair) if weight is None else weight[pair]).astype(np.float64)
        touched = category >= 0
        key = who[touched] * shelves + category[touched]
        every = (np.arange(len(part))[:, None] * shelves + usual).ravel()
        cells, at = np.unique(np.concatenate([key, every]), return_inverse=True)
        who, category = np.divmod(cells, shelves)
        score = prior[category] + np.bincount(at[: len(key)], counts[touched], minlength=len(cells))
        order = np.lexsort((category, -score, who))
        place = np.arange(len(order)) - np.searchsorted(who, who)  # `who` rises, so it is the same sorted
        shown = place < NEXT
        out[part[who[shown]], place[shown]] = category[order][shown]
    return out
