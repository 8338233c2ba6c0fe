"""Preference space: each customer as a point, by the shares of what they prefer, for clusters and lookalikes.

One block per facet: the shares over its most frequent values, square-rooted, so that distances are Hellinger's
and every facet has the same weight. A customer without a share in a facet gets the mean shares there. A catalog with
neither categories nor brands has few facets: there the `HABITS` of buyers are added, each as a facet with the values
low and high, whose shares are the buyer's rank among all buyers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

VALUES_PER_FACET = 40
CHUNK = 20_000


class Habit(NamedTuple):
    """A habit of ordering: `value` from the customer table; `low` and `high` are labels of the two ends."""

    name: str
    value: pl.Expr
    low: str
    high: str


# Without recency, frequency and money: RFM segments cover those.
HABITS = (
    Habit("basket_items", pl.col("basket_items"), "small baskets", "broad baskets"),
    Habit(
        "units_per_item", pl.col("basket_quantity") / pl.col("basket_items"), "few of each item", "many of each item"
    ),
    Habit(
        "repeat_share",
        pl.when(pl.col("order_gap_days").is_not_null()).then("repeat_share"),
        "always something new",
        "the same again",
    ),
)
_WORDS = {
    "price_tier": {
        "1": "cheap (tier 1)",
        "2": "low-priced (tier 2)",
        "3": "mid-priced (tier 3)",
        "4": "high-priced (tier 4)",
        "5": "dear (tier 5)",
    },
    "discount": {"none": "full price", "light": "light discounts", "deep": "deep discounts", "clearance": "clearance"},
    **{habit.name: {"low": habit.low, "high": habit.high} for habit in HABITS},
}


def label(facet: str, value: str) -> str:
    """Return the label of a value: of a category the last part of its path."""
    if facet in _WORDS:
        return _WORDS[facet].get(value, value)
    return value.rsplit("/", 1)[-1] if facet.startswith("category") else value


@dataclass(frozen=True)
class PreferenceSpace:
    """The dimensions of the space: columns sorted by facet.

    `columns`: (facet, value). `mean` float64[columns]: mean share among the customers with a share in the facet.
    `grids`: per habit the percentiles 0…100 of the buyers; empty where habits are not used.
    """

    columns: tuple[tuple[str, str], ...]
    mean: np.ndarray
    grids: Mapping[str, np.ndarray]

    @classmethod
    def fit(cls, customers: pl.DataFrame, affinities: pl.DataFrame) -> "PreferenceSpace":
        """Fit the columns to `customers` and `affinities` of `features.tables.build.Tables`."""
        frequent = (
            affinities.join(customers.select("customer_id"), on="customer_id", how="semi")
            .filter(pl.col("share") > 0)
            .group_by("facet", "value")
            .len()
            .sort("facet", "len", "value", descending=[False, True, False])
            .group_by("facet", maintain_order=True)
            .head(VALUES_PER_FACET)
        )
        columns = list(frequent.select("facet", "value").iter_rows())
        grids = {}
        if not any(facet == "brand" or facet.startswith("category") for facet, _ in columns):
            values = customers.select(h.value.cast(pl.Float64).alias(h.name) for h in HABITS)
            grids = {c.name: _grid(c) for c in values if c.count()}
            columns += [(habit, end) for habit in grids for end in ("low", "high")]
        blank = cls(tuple(sorted(columns)), np.zeros(len(columns)), grids)
        total, count = np.zeros(len(columns)), np.zeros(len(columns))
        for part in chunks(blank.shares(customers.sort("customer_id"), affinities)):
            total += part.sum(axis=0, dtype=np.float64)
            for block in blank.blocks():
                count[block] += part[:, block].any(axis=1).sum()
        return cls(blank.columns, total / np.maximum(count, 1), grids)

    def blocks(self) -> list[slice]:
        """Return the columns of each facet."""
        facets = [facet for facet, _ in self.columns]
        edges = [n for n in range(len(facets)) if n == 0 or facets[n] != facets[n - 1]]
        return [slice(a, b) for a, b in pairwise([*edges, len(facets)])]

    def shares(self, customers: pl.DataFrame, affinities: pl.DataFrame) -> sparse.csr_array:
        """Return the shares, float32[customers × columns], by row of `customers`; an empty row: no preferences."""
        number = {column: n for n, column in enumerate(self.columns)}
        texts = {"facet": pl.String, "value": pl.String}
        code = pl.DataFrame(self.columns, schema=texts, orient="row").with_row_index("column")
        ids = customers.select("customer_id").with_row_index("row")
        shares = affinities.join(code, on=["facet", "value"]).join(ids, on="customer_id")
        rows, columns, data = [shares["row"].to_numpy()], [shares["column"].to_numpy()], [shares["share"].to_numpy()]
        for habit in HABITS:
            if habit.name not in self.grids:
                continue
            values = customers.select(habit.value.cast(pl.Float64).fill_null(float("nan"))).to_series().to_numpy()
            buyers = np.flatnonzero(~np.isnan(values))
            high = _percentile_rank(values[buyers], self.grids[habit.name])
            for end, share in (("low", 1 - high), ("high", high)):
                rows.append(buyers)
                columns.append(np.full(len(buyers), number[habit.name, end]))
                data.append(share)
        cells = (np.concatenate(rows).astype(np.int64), np.concatenate(columns).astype(np.int64))
        shape = (customers.height, len(self.columns))
        matrix = sparse.csr_array((np.concatenate(data).astype(np.float32), cells), shape=shape)
        matrix.eliminate_zeros()
        return matrix

    def impute(self, shares: np.ndarray) -> np.ndarray:
        """Return the shares with the mean shares in facets where a customer has none, float64[n × columns]."""
        full = shares.astype(np.float64)
        for block in self.blocks():
            missing = ~full[:, block].any(axis=1)
            full[missing, block] = self.mean[block]
        return full

    def points(self, shares: np.ndarray) -> np.ndarray:
        """Return the points of customers, float64[n × columns]; Euclidean distances are Hellinger's, up to a factor."""
        return np.sqrt(self.impute(shares))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values that `from_dict` reads."""
        return {
            "columns": [list(c) for c in self.columns],
            "mean": self.mean.tolist(),
            "grids": {habit: grid.tolist() for habit, grid in self.grids.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PreferenceSpace":
        """Restore a space from `as_dict`. Raises `ValueError`, `TypeError` or `KeyError` where they do not fit."""
        columns = tuple((str(f), str(v)) for f, v in values["columns"])
        mean = np.asarray(values["mean"], np.float64)
        if mean.shape != (len(columns),) or list(columns) != sorted(columns):
            raise ValueError("columns and means do not fit")
        return cls(columns, mean, {str(h): np.asarray(g, np.float64) for h, g in values["grids"].items()})


def chunks(shares: sparse.csr_array) -> Iterator[np.ndarray]:
    """Yield dense rows, `CHUNK` at a time: memory does not grow with the number of customers."""
    return (shares[start : start + CHUNK].toarray() for start in range(0, shares.shape[0], CHUNK))


def _grid(values: pl.Series) -> np.ndarray:
    return np.quantile(values.drop_nulls().to_numpy(), np.linspace(0, 1, 101), method="nearest")


def _percentile_rank(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the mid-rank share of each value among the values of the percentiles."""
    below, upto = np.searchsorted(grid, values, side="left"), np.searchsorted(grid, values, side="right")
    return np.asarray((below + upto) / (2 * len(grid)))
