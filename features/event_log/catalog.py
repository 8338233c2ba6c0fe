"""What is known of each item, from catalogs a shop gives and from what its events say.

A row without `updated_at` is of a given catalog and outranks rows of events; among those the later
outranks the earlier. That holds column by column, null being nothing said. So a log keeps, per item,
every row that has the last word on some column: what is read later, in whatever order, cannot tell
the difference from all rows ever read.
"""

import polars as pl

from features.event_log.schema import CATALOG_SCHEMA, conform

VALUES = [c for c in CATALOG_SCHEMA if c not in ("item_id", "first_seen", "updated_at")]
_ROWS_HELD = 200_000


def layers(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that have the last word on some column, the other columns null; `first_seen` is the earliest.

    Among given rows a later one in `rows` outranks an earlier one; of several values that events of one
    instant say of a column, the greatest stands.
    """
    given = pl.col("updated_at").is_null()
    instants = (
        rows.filter(~given).group_by("item_id", "updated_at").agg(pl.col(VALUES).max(), pl.col("first_seen").min())
    )
    numbered = pl.concat([conform(instants, CATALOG_SCHEMA), rows.filter(given)]).with_row_index("_nth")
    sorted_ = numbered.sort("item_id", given, "updated_at", pl.when(given).then("_nth"))
    said = pl.col(VALUES).is_not_null()
    last_word = said & (said.cast(pl.UInt32).cum_sum(reverse=True).over("item_id") == 1)
    kept = sorted_.with_columns(
        pl.when(last_word).then(pl.col(VALUES)).name.keep(), first_seen=pl.col("first_seen").min().over("item_id")
    )
    any_word = pl.any_horizontal(pl.col(VALUES).is_not_null())
    silent = ~any_word.any().over("item_id") & pl.col("item_id").is_last_distinct()
    return kept.filter(any_word | silent).select(CATALOG_SCHEMA.keys())


def flat(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per item from its `layers`; `updated_at` is null where a given catalog has a word in it."""
    values = [pl.col(c).drop_nulls().last() for c in VALUES]
    updated = pl.when(pl.col("updated_at").is_null().any()).then(None).otherwise(pl.col("updated_at").max())
    merged = rows.group_by("item_id", maintain_order=True).agg(
        *values, pl.col("first_seen").min(), updated.alias("updated_at")
    )
    return conform(merged.sort("item_id"), CATALOG_SCHEMA)


class Catalog:
    """Layers that catalogs are added to, one by one; memory is bounded by the number of items."""

    def __init__(self, rows: pl.DataFrame | None = None) -> None:
        self._rows = [pl.DataFrame(schema=CATALOG_SCHEMA) if rows is None else rows]
        self._settled = self._rows[0].height

    def add(self, rows: pl.DataFrame) -> None:
        self._rows.append(conform(rows, CATALOG_SCHEMA))
        if sum(r.height for r in self._rows) > 2 * self._settled + _ROWS_HELD:
            self.layers()

    def layers(self) -> pl.DataFrame:
        self._rows = [layers(pl.concat(self._rows))]
        self._settled = self._rows[0].height
        return self._rows[0]


def merge_catalogs(old: list[pl.DataFrame], new: list[pl.DataFrame]) -> pl.DataFrame:
    """One row per item from catalogs in the order in which they came."""
    catalog = Catalog()
    for rows in [*old, *new]:
        catalog.add(rows)
    return flat(catalog.layers())
