"""Behavioural clusters: k-means over customers' preferences, each cluster named by what sets it apart.

k is the one with the best mean silhouette, unless it is given. Nothing depends on the order of rows or the number
of threads.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from features.common.errors import InputError
from features.segments.preferences import CHUNK, PreferenceSpace, chunks, label
from features.tables.columns import Field

FIELDS = (
    Field("cluster", "int32", "number of the behavioural cluster, 1 = largest; null for who touched nothing"),
    Field("cluster_name", "string", "what sets the cluster apart from everybody"),
)

CLUSTERS = range(2, 13)
MOST_ROWS = 50_000  # that centres are fitted on; all customers are assigned
CHOICE_ROWS, SILHOUETTE_ROWS = 10_000, 2_000  # that k is chosen on
FEWEST = 20  # customers with preferences; fewer are one cluster
SEED = 7

# What sets a cluster apart: a value with at least this share, and at least so many times the share of all customers.
LEAST_SHARE, LEAST_LIFT, MOST_WORDS = 0.2, 1.2, 3
DEEPER = 1.1  # a level of the category path counts as so much more lift
EVERYBODY = "like everybody"

Mark = tuple[str, str, float, float]  # facet, value, share in the cluster, share among all customers


@dataclass(frozen=True)
class Cluster:
    """`marks`: what sets it apart, highest lift first."""

    name: str
    customers: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Clustering:
    """A fitted clustering. `centres` float64[clusters × columns]; `silhouettes`: k tried → mean silhouette."""

    preferences: PreferenceSpace
    centres: np.ndarray
    clusters: tuple[Cluster, ...]
    silhouettes: Mapping[int, float]

    def assign(self, customers: pl.DataFrame, affinities: pl.DataFrame) -> pl.DataFrame:
        """Assign customers, known from fitting or not: customer_id and `FIELDS`, in the order of `customers`."""
        shares = self.preferences.shares(customers, affinities)
        if not self.clusters:
            return customers.select("customer_id", cluster=pl.lit(None, pl.Int32), cluster_name=pl.lit(None, pl.String))
        touched = pl.Series(np.diff(shares.indptr) > 0)
        near = _nearest(self.preferences, shares, self.centres)
        number = pl.Series("cluster", near + 1, pl.Int32)
        named = pl.Series("cluster_name", [self.clusters[n].name for n in near], pl.String)
        return customers.select("customer_id").with_columns(
            pl.when(touched).then(c).alias(c.name) for c in (number, named)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values that `from_dict` reads."""
        return {
            "leanings": self.preferences.as_dict(),
            "centres": self.centres.tolist(),
            "clusters": [{"name": c.name, "customers": c.customers, "marks": list(c.marks)} for c in self.clusters],
            "silhouettes": {str(k): s for k, s in self.silhouettes.items()},
        }

    def write(self, file: Path) -> None:
        """Write the clustering as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_dict()) + "\n")

    @classmethod
    def read(cls, file: Path) -> "Clustering":
        """Read what `write` wrote. Raises `InputError` where it is something else."""
        try:
            return cls.from_dict(json.loads(file.read_text()))
        except ValueError as error:
            raise InputError(f"{file} holds no clusters ({error}); remove it to find them anew") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Clustering":
        """Restore a clustering from `as_dict`. Raises `InputError` where the values do not fit."""
        try:
            preferences = PreferenceSpace.from_dict(values["leanings"])
            clusters = tuple(
                Cluster(str(c["name"]), int(c["customers"]), tuple((f, v, s, e) for f, v, s, e in c["marks"]))
                for c in values["clusters"]
            )
            centres = np.asarray(values["centres"], np.float64).reshape(len(clusters), len(preferences.columns))
            silhouettes = {int(k): float(s) for k, s in values["silhouettes"].items()}
            valid = bool(np.isfinite(centres).all())
        except (KeyError, TypeError, ValueError, AttributeError):
            valid = False
        if not valid:
            raise InputError("the clustering is damaged: its columns, centres and names do not fit; fit it again")
        return cls(preferences, centres, clusters, silhouettes)


def fit_clusters(customers: pl.DataFrame, affinities: pl.DataFrame, k: int | None = None) -> Clustering:
    """Fit clusters to the customers of `features.tables.build.Tables` who have preferences.

    Without any there are no clusters. `k` is the most clusters there will be; default: as many as have the best mean
    silhouette.
    """
    customers = customers.sort("customer_id")
    preferences = PreferenceSpace.fit(customers, affinities)
    shares = preferences.shares(customers, affinities)
    shares = shares[np.diff(shares.indptr) > 0]
    n = shares.shape[0]
    if not n:
        return Clustering(preferences, np.zeros((0, len(preferences.columns))), (), {})
    sample = np.random.default_rng(SEED).permutation(n)[:MOST_ROWS]
    rows = preferences.points(shares[sample].toarray())
    silhouettes = _silhouettes(rows[:CHOICE_ROWS]) if k is None else {}
    best = max(silhouettes, key=lambda k: (silhouettes[k], -k), default=1)
    centres = _centres(rows, min(best if k is None else k, len(np.unique(rows, axis=0))))
    near = _nearest(preferences, shares, centres)
    sizes = np.bincount(near, minlength=len(centres))
    order = np.lexsort((*centres.T[::-1], -sizes))
    order = order[sizes[order] > 0]
    marks = [_marks(preferences, mean) for mean in _means(preferences, shares, near, sizes)[order]]
    clusters = tuple(
        Cluster(name, int(size), tuple(cluster_marks[:MOST_WORDS]))
        for name, size, cluster_marks in zip(_names(marks), sizes[order], marks, strict=True)
    )
    return Clustering(preferences, centres[order], clusters, silhouettes)


def _silhouettes(rows: np.ndarray) -> dict[int, float]:
    """Compute the mean silhouette of a clustering of `rows` for each possible k."""
    from sklearn.metrics import silhouette_score

    silhouettes: dict[int, float] = {}
    if len(rows) < FEWEST:
        return silhouettes
    sample, distinct = rows[:SILHOUETTE_ROWS], len(np.unique(rows, axis=0))
    for k in (k for k in CLUSTERS if k < distinct):
        labels = _closest(sample, _centres(rows, k))
        with _one_thread():
            scored = 1 < len(np.unique(labels)) < len(sample)
            silhouettes[k] = float(silhouette_score(sample, labels)) if scored else -1.0
    return silhouettes


def _centres(rows: np.ndarray, k: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    with _one_thread():
        return np.asarray(KMeans(k, n_init=5, random_state=SEED).fit(rows).cluster_centers_)


def _one_thread() -> AbstractContextManager[Any]:
    """With several threads the order of sums, and so their last bits, would vary."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _closest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the index of each point's nearest centre, int64[n]; of equally near ones the first."""
    return np.asarray(np.argmin((centres**2).sum(axis=1) - 2 * points @ centres.T, axis=1))


def _nearest(preferences: PreferenceSpace, shares: sparse.csr_array, centres: np.ndarray) -> np.ndarray:
    near = (_closest(preferences.points(part), centres) for part in chunks(shares))
    return np.concatenate([np.zeros(0, np.int64), *near])


def _means(preferences: PreferenceSpace, shares: sparse.csr_array, near: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the mean shares of each cluster's members, float64[clusters × columns]."""
    sums = np.zeros((len(sizes), len(preferences.columns)))
    for n, part in enumerate(chunks(shares)):
        one = np.ones(len(part))
        of = near[n * CHUNK : (n + 1) * CHUNK]
        sums += sparse.csr_array((one, (of, np.arange(len(part)))), (len(sizes), len(part))) @ preferences.impute(part)
    means: np.ndarray = sums / np.maximum(sizes, 1)[:, None]
    return means


def _marks(preferences: PreferenceSpace, mean: np.ndarray) -> list[Mark]:
    """Return one value per facet, of a category path one level; highest lift first."""
    lift = np.divide(mean, preferences.mean, out=np.zeros_like(mean), where=preferences.mean > 0)
    # A deeper level is more specific, so of nearly equal lifts it goes before those above it.
    weight = np.array(
        [DEEPER ** int(f.rpartition("_")[2]) if f.startswith("category") else 1.0 for f, _ in preferences.columns]
    )
    marks: list[Mark] = []
    for n in np.lexsort((np.arange(len(lift)), -(lift * weight).round(9))):
        facet, value = preferences.columns[n]
        if lift[n] < LEAST_LIFT or mean[n] < LEAST_SHARE:
            continue
        if any(facet == f or _same_branch(facet, value, f, v) for f, v, *_ in marks):
            continue
        marks.append((facet, value, float(mean[n]), float(preferences.mean[n])))
    return marks


def _same_branch(facet: str, value: str, other_facet: str, other: str) -> bool:
    if not (facet.startswith("category") and other_facet.startswith("category")):
        return False
    return f"{value}/".startswith(f"{other}/") or f"{other}/".startswith(f"{value}/")


def _names(marks: list[list[Mark]]) -> list[str]:
    """Name the clusters, all differently: with more words where the first few name another one, then with a number."""
    names: list[str] = []
    for cluster_marks in marks:
        words = [label(facet, value) for facet, value, *_ in cluster_marks]
        tries = [" · ".join(words[:n]) or EVERYBODY for n in range(min(MOST_WORDS, len(words)), len(words) + 1)]
        tries += [f"{tries[-1]} ({n})" for n in range(2, len(marks) + 2)]
        names.append(next(name for name in tries if name not in names))
    return names
