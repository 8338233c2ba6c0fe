"""What events say of the items they name, and when they said it."""

from collections.abc import Sequence

import polars as pl

from features.event_log.schema import CATALOG_SCHEMA, conform

Said = Sequence[Sequence[str]]  # columns that are said together


def from_events(
    rows: pl.DataFrame, said: Said = (("price", "currency"),), available: bool | None = True
) -> pl.DataFrame:
    """Rows of the catalog: for each item the last each group of columns says, at the time it was said.

    `rows` has item_id, timestamp and the columns of `said`; a group says something where its first column
    is not null. An item has a row for each time at which something that still holds was said.
    """
    held = [c for c in rows.columns if c in {"timestamp", *(c for group in said for c in group)}]
    # Numbers in place of texts, in a numbering of its own: items are looked up several times.
    numbered = pl.col("item_id").cast(pl.Categorical(pl.Categories.random()))
    rows = rows.select(numbered, *held).drop_nulls("item_id")
    seen = rows.group_by("item_id").agg(updated_at=pl.col("timestamp").max(), first_seen=pl.col("timestamp").min())
    parts = [seen.with_columns(available=pl.lit(available, pl.Boolean()))]
    parts += [latest(rows, group) for group in said if group[0] in rows.columns]
    return together(parts)


def latest(rows: pl.DataFrame, group: Sequence[str]) -> pl.DataFrame:
    """item_id, updated_at and the columns `group` as they were said last; at equal times the greatest."""
    rows = rows.select("item_id", "timestamp", *group).drop_nulls([group[0]])
    last = rows.filter(pl.col("timestamp") == pl.col("timestamp").max().over("item_id"))
    return (
        last.sort(group, nulls_last=False)
        .group_by("item_id")
        .agg(pl.col("timestamp").first().alias("updated_at"), *(pl.col(c).last() for c in group))
    )


def together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One catalog row per item and time from rows that say different things of it."""
    rows = pl.concat([conform(part, CATALOG_SCHEMA) for part in parts])
    first = [pl.col(c).drop_nulls().first() for c in CATALOG_SCHEMA if c not in ("item_id", "updated_at")]
    merged = rows.group_by("item_id", "updated_at").agg(first)
    return conform(merged.sort("item_id", "updated_at"), CATALOG_SCHEMA)
