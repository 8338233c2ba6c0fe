"""Behavioural clusters: k-means over what customers lean to, each cluster named by what sets it apart.

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
from features.segments.preferences import CHUNK, Leanings, chunks, label
from features.tables.columns import Field

FIELDS = (
    Field("cluster", "int32", "number of the behavioural cluster, 1 = largest; null for who touched nothing"),
    Field("cluster_name", "string", "what sets the cluster apart from everybody"),
)

CLUSTERS = range(2, 13)
MOST_ROWS = 50_000  # that centres are fitted on; everybody is assigned
CHOICE_ROWS, SILHOUETTE_ROWS = 10_000, 2_000  # that k is chosen on
FEWEST = 20  # customers with leanings; fewer are one cluster
SEED = 7

# What sets a cluster apart: a value with at least this share, and so many times everybody's share.
LEAST_SHARE, LEAST_LIFT, MOST_WORDS = 0.2, 1.2, 3
DEEPER = 1.1  # a level of the category path counts as so much more lift
EVERYBODY = "like everybody"

Mark = tuple[str, str, float, float]  # facet, value, share in the cluster, everybody's share


@dataclass(frozen=True)
class Cluster:
    """`marks`: what sets it apart, highest lift first."""

    name: str
    customers: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Clustering:
    """A fitted clustering. `centres` float64[clusters × columns]; `silhouettes`: k tried → mean silhouette."""

    leanings: Leanings
    centres: np.ndarray
    clusters: tuple[Cluster, ...]
    silhouettes: Mapping[int, float]

    def assign(self, customers: pl.DataFrame, affinities: pl.DataFrame) -> pl.DataFrame:
        """customer_id and `FIELDS`, in the order of `customers`, who may be others than those it was fitted on."""
        shares = self.leanings.shares(customers, affinities)
        if not self.clusters:
            return customers.select("customer_id", cluster=pl.lit(None, pl.Int32), cluster_name=pl.lit(None, pl.String))
        touched = pl.Series(np.diff(shares.indptr) > 0)
        near = _nearest(self.leanings, shares, self.centres)
        number = pl.Series("cluster", near + 1, pl.Int32)
        named = pl.Series("cluster_name", [self.clusters[n].name for n in near], pl.String)
        return customers.select("customer_id").with_columns(
            pl.when(touched).then(c).alias(c.name) for c in (number, named)
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `of` undoes it."""
        return {
            "leanings": self.leanings.as_dict(),
            "centres": self.centres.tolist(),
            "clusters": [{"name": c.name, "customers": c.customers, "marks": list(c.marks)} for c in self.clusters],
            "silhouettes": {str(k): s for k, s in self.silhouettes.items()},
        }

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_dict()) + "\n")

    @classmethod
    def read(cls, file: Path) -> "Clustering":
        """What `write` wrote. Raises `InputError` where it is something else."""
        try:
            return cls.of(json.loads(file.read_text()))
        except ValueError as error:
            raise InputError(f"{file} holds no clusters ({error}); remove it to find them anew") from error

    @classmethod
    def of(cls, made: Mapping[str, Any]) -> "Clustering":
        """What `as_dict` gave. Raises `InputError` where it is something else."""
        try:
            leanings = Leanings.of(made["leanings"])
            clusters = tuple(
                Cluster(str(c["name"]), int(c["customers"]), tuple((f, v, s, e) for f, v, s, e in c["marks"]))
                for c in made["clusters"]
            )
            centres = np.asarray(made["centres"], np.float64).reshape(len(clusters), len(leanings.columns))
            silhouettes = {int(k): float(s) for k, s in made["silhouettes"].items()}
            whole = bool(np.isfinite(centres).all())
        except (KeyError, TypeError, ValueError, AttributeError):
            whole = False
        if not whole:
            raise InputError("the clustering is damaged: its columns, centres and names do not fit; fit it again")
        return cls(leanings, centres, clusters, silhouettes)


def fit(customers: pl.DataFrame, affinities: pl.DataFrame, k: int | None = None) -> Clustering:
    """Cluster the customers of `features.tables.build.Tables` who lean to anything; if nobody does there are no clusters.

    `k` is the most clusters there will be; default: as many as have the best mean silhouette.
    """
    customers = customers.sort("customer_id")
    leanings = Leanings.fit(customers, affinities)
    shares = leanings.shares(customers, affinities)
    shares = shares[np.diff(shares.indptr) > 0]
    n = shares.shape[0]
    if not n:
        return Clustering(leanings, np.zeros((0, len(leanings.columns))), (), {})
    chosen = np.random.default_rng(SEED).permutation(n)[:MOST_ROWS]
    rows = leanings.points(shares[chosen].toarray())
    silhouettes = _silhouettes(rows[:CHOICE_ROWS]) if k is None else {}
    best = max(silhouettes, key=lambda k: (silhouettes[k], -k), default=1)
    centres = _centres(rows, min(best if k is None else k, len(np.unique(rows, axis=0))))
    near = _nearest(leanings, shares, centres)
    sizes = np.bincount(near, minlength=len(centres))
    order = np.lexsort((*centres.T[::-1], -sizes))
    order = order[sizes[order] > 0]
    marks = [_marks(leanings, mean) for mean in _means(leanings, shares, near, sizes)[order]]
    clusters = tuple(
        Cluster(name, int(size), tuple(found[:MOST_WORDS]))
        for name, size, found in zip(_names(marks), sizes[order], marks, strict=True)
    )
    return Clustering(leanings, centres[order], clusters, silhouettes)


def _silhouettes(rows: np.ndarray) -> dict[int, float]:
    """Mean silhouette of the clusterings of `rows`, for every k that could be tried."""
    from sklearn.metrics import silhouette_score

    found: dict[int, float] = {}
    if len(rows) < FEWEST:
        return found
    few, distinct = rows[:SILHOUETTE_ROWS], len(np.unique(rows, axis=0))
    for k in (k for k in CLUSTERS if k < distinct):
        labels = _closest(few, _centres(rows, k))
        with _one_thread():
            found[k] = float(silhouette_score(few, labels)) if 1 < len(np.unique(labels)) < len(few) else -1.0
    return found


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
    """int64[n]; of equally near centres the first."""
    return np.asarray(np.argmin((centres**2).sum(axis=1) - 2 * points @ centres.T, axis=1))


def _nearest(leanings: Leanings, shares: sparse.csr_array, centres: np.ndarray) -> np.ndarray:
    near = (_closest(leanings.points(part), centres) for part in chunks(shares))
    return np.concatenate([np.zeros(0, np.int64), *near])


def _means(leanings: Leanings, shares: sparse.csr_array, near: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """float64[clusters × columns]: mean shares of the members."""
    sums = np.zeros((len(sizes), len(leanings.columns)))
    for n, part in enumerate(chunks(shares)):
        one = np.ones(len(part))
        of = near[n * CHUNK : (n + 1) * CHUNK]
        sums += sparse.csr_array((one, (of, np.arange(len(part)))), (len(sizes), len(part))) @ leanings.filled(part)
    means: np.ndarray = sums / np.maximum(sizes, 1)[:, None]
    return means


def _marks(leanings: Leanings, mean: np.ndarray) -> list[Mark]:
    """One value a facet, of a category path one level; highest lift first."""
    lift = np.divide(mean, leanings.mean, out=np.zeros_like(mean), where=leanings.mean > 0)
    # A deeper level says more, so of nearly equal lifts it goes before those above it.
    weight = np.array(
        [DEEPER ** int(f.rpartition("_")[2]) if f.startswith("category") else 1.0 for f, _ in leanings.columns]
    )
    found: list[Mark] = []
    for n in np.lexsort((np.arange(len(lift)), -(lift * weight).round(9))):
        facet, value = leanings.columns[n]
        if lift[n] < LEAST_LIFT or mean[n] < LEAST_SHARE:
            continue
        if any(facet == f or _same_branch(facet, value, f, v) for f, v, *_ in found):
            continue
        found.append((facet, value, float(mean[n]), float(leanings.mean[n])))
    return found


def _same_branch(facet: str, value: str, other_facet: str, other: str) -> bool:
    if not (facet.startswith("category") and other_facet.startswith("category")):
        return False
    return f"{value}/".startswith(f"{other}/") or f"{other}/".startswith(f"{value}/")


def _names(marks: list[list[Mark]]) -> list[str]:
    """One name a cluster, all different: more words where the first few are another's, then a number."""
    names: list[str] = []
    for found in marks:
        words = [label(facet, value) for facet, value, *_ in found]
        tries = [" · ".join(words[:n]) or EVERYBODY for n in range(min(MOST_WORDS, len(words)), len(words) + 1)]
        tries += [f"{tries[-1]} ({n})" for n in range(2, len(marks) + 2)]
        names.append(next(name for name in tries if name not in names))
    return names
