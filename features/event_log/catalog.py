"""The item catalog of a log: how rows from catalogs and from events become one row per item.

A row without `updated_at` comes from a catalog and outranks rows derived from events; of the latter the later
outranks the earlier. That holds column by column, and null says nothing. So a log keeps, per item, every row that
holds the latest value of some column: a later ingest, in whatever order, cannot tell the difference from all rows.

The column `embedding` is there only in a catalog in which some item has a vector. Its vectors are what the shop's
own text or image model made of the items, all of one length. Vectors of another length are of another model: when
the first ones arrive, those the catalog has are dropped, so items that get no new one have none. Like every column it
has no past: the latest vector counts at every instant, also at instants before the shop had it.
"""

from collections.abc import Callable, Mapping
from typing import cast

import polars as pl

from features.common.counts import count
from features.common.errors import InputError
from features.event_log.schema import CATALOG_OPTIONAL, CATALOG_SCHEMA, EMBEDDING, conform

_NOT_VALUES = ("item_id", "first_seen", "updated_at")
_ROWS_HELD = 200_000


def conform_catalog(rows: pl.DataFrame) -> pl.DataFrame:
    """Bring `rows` to the columns of `CATALOG_SCHEMA`, and those of `CATALOG_OPTIONAL` in which a value is."""
    optional = {c: t for c, t in CATALOG_OPTIONAL.items() if c in rows.columns and rows[c].null_count() < rows.height}
    return conform(rows, CATALOG_SCHEMA | optional)


def compact(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the rows that hold the latest value of some column, other columns null; `first_seen` is the earliest.

    Among rows of catalogs a later one in `rows` outranks an earlier one; of several values that events of one
    instant have for a column, the greatest stands.
    """
    rows = conform_catalog(rows)
    columns = _values(rows)
    from_catalog = pl.col("updated_at").is_null()
    instants = (
        rows.filter(~from_catalog)
        .group_by("item_id", "updated_at")
        # Lists have no maximum.
        .agg(
            *(pl.col(c).drop_nulls().sort().last() if c == EMBEDDING else pl.col(c).max() for c in columns),
            pl.col("first_seen").min(),
        )
        .select(rows.columns)
    )
    numbered = pl.concat([instants, rows.filter(from_catalog)]).with_row_index("_nth")
    ascending = numbered.sort("item_id", from_catalog, "updated_at", pl.when(from_catalog).then("_nth"))
    filled = pl.col(columns).is_not_null()
    latest = filled & (filled.cast(pl.UInt32).cum_sum(reverse=True).over("item_id") == 1)
    reduced = ascending.with_columns(
        pl.when(latest).then(pl.col(columns)).name.keep(), first_seen=pl.col("first_seen").min().over("item_id")
    )
    any_value = pl.any_horizontal(pl.col(columns).is_not_null())
    empty = ~any_value.any().over("item_id") & pl.col("item_id").is_last_distinct()
    return reduced.filter(any_value | empty).select(rows.columns)


def flatten(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per item from `compact` rows; `updated_at` is null where a catalog has a value in it."""
    values = [pl.col(c).drop_nulls().last() for c in _values(rows)]
    updated = pl.when(pl.col("updated_at").is_null().any()).then(None).otherwise(pl.col("updated_at").max())
    merged = rows.group_by("item_id", maintain_order=True).agg(
        *values, pl.col("first_seen").min(), updated.alias("updated_at")
    )
    return conform_catalog(merged.sort("item_id"))


class Catalog:
    """Compact rows that catalogs are added to, one by one; memory is bounded by the number of items."""

    def __init__(self, rows: pl.DataFrame | None = None) -> None:
        self._rows = [pl.DataFrame(schema=CATALOG_SCHEMA) if rows is None else rows]
        self._compacted = self._rows[0].height
        self._length = _vector_length(self._rows[0])  # of all vectors in `_rows`
        self._dropped: list[pl.DataFrame] = []  # item_id, length

    def add(self, rows: pl.DataFrame) -> None:
        """Add `rows`; if they have vectors, those of another length that came before are dropped.

        Raises `InputError` for a vector that is empty or has a number that is not finite, and where vectors of `rows`
        differ in length.
        """
        rows = conform_catalog(rows)
        if EMBEDDING in rows.columns:
            _check_vectors(rows)
            self._set_length(_vector_length(rows))
        self._rows.append(rows)
        if sum(r.height for r in self._rows) > 2 * self._compacted + _ROWS_HELD:
            self._compact()

    def compact(self) -> pl.DataFrame:
        """All rows as `compact` reduces them."""
        self._compact()
        return self._rows[0]

    def map(self, function: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Apply `function` to all rows."""
        self._rows = [function(rows) for rows in self._rows]

    def dropped_vectors(self) -> dict[int, int]:
        """Length of the vector dropped last → number of items, of those items that have no vector now."""
        if not self._dropped:
            return {}
        last = pl.concat(self._dropped).unique("item_id", keep="last", maintain_order=True)
        for rows in self._rows:
            if EMBEDDING in rows.columns:
                last = last.join(rows.drop_nulls(EMBEDDING), on="item_id", how="anti")
        return dict(cast("list[tuple[int, int]]", last.group_by("length").len().sort("length").rows()))

    def _set_length(self, length: int | None) -> None:
        if self._length not in (None, length):
            # At once, not when all rows are known: else the result would depend on which catalogs come in one ingest.
            with_vectors = [rows.drop_nulls(EMBEDDING) for rows in self._rows if EMBEDDING in rows.columns]
            self._dropped += [rows.select("item_id", length=pl.lit(self._length, pl.Int64)) for rows in with_vectors]
            self._rows = [rows.drop(EMBEDDING, strict=False) for rows in self._rows]
        self._length = length

    def _compact(self) -> None:
        self._rows = [compact(pl.concat(self._rows, how="diagonal"))]
        self._compacted = self._rows[0].height


def are_vectors(values: pl.Series) -> pl.Series:
    """Whether each list of numbers is a vector: not empty, and nothing in it null, NaN or infinite; null for null."""
    finite = values.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return finite & (values.list.len() > 0)


def describe_dropped_vectors(dropped: Mapping[int, int]) -> str:
    """Say in one line what `Catalog.dropped_vectors` counts."""
    counts = (
        f"{count(n, 'item')} lost {'its vector' if n == 1 else 'their vectors'} of length {length:,}"
        for length, n in dropped.items()
    )
    return f"{EMBEDDING}: {'; '.join(counts)}, since newer vectors have another length"


def _values(rows: pl.DataFrame) -> list[str]:
    return [c for c in rows.columns if c not in _NOT_VALUES]


def _check_vectors(rows: pl.DataFrame) -> None:
    bad = rows.filter(~are_vectors(rows[EMBEDDING]))
    if bad.height:
        raise InputError(
            f"item {bad['item_id'][0]!r} has an {EMBEDDING} that is empty or holds what is no finite number "
            f"(float32); correct it or leave it out"
        )
    length = pl.col(EMBEDDING).list.len().alias("length")
    lengths = rows.drop_nulls(EMBEDDING).group_by(length).agg(pl.len(), pl.col("item_id").min()).sort("length")
    if lengths.height > 1:
        counts = "; ".join(
            f"{count(n, 'item')} of length {length:,}, such as {item!r}"
            for length, n, item in cast("list[tuple[int, int, str]]", lengths.rows())
        )
        raise InputError(
            f"the catalog's {EMBEDDING} vectors differ in length: {counts}. Vectors of one catalog come from one model "
            "and have one length"
        )


def _vector_length(rows: pl.DataFrame) -> int | None:
    """The length of the vectors in `rows`; None if there are none."""
    return cast("int | None", rows[EMBEDDING].list.len().max()) if EMBEDDING in rows.columns else None
