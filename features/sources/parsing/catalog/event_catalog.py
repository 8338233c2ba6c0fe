"""Catalog rows from events: the latest values that events carry for their items, with their times."""

from collections.abc import Sequence

import polars as pl

from features.event_log.schema import CATALOG_SCHEMA, conform

ColumnGroups = Sequence[Sequence[str]]  # columns whose values belong together, as price and currency


def from_events(
    rows: pl.DataFrame, groups: ColumnGroups = (("price", "currency"),), available: bool | None = True
) -> pl.DataFrame:
    """Build catalog rows: for each item the latest values of each group of columns, with their time.

    `rows` has item_id, timestamp and the columns of `groups`; a group has values where its first column
    is not null. An item has a row for each time from which some value is the latest.
    """
    columns = [c for c in rows.columns if c in {"timestamp", *(c for group in groups for c in group)}]
    # Codes in place of texts, with categories of their own: items are grouped several times.
    coded = pl.col("item_id").cast(pl.Categorical(pl.Categories.random()))
    rows = rows.select(coded, *columns).drop_nulls("item_id")
    spans = rows.group_by("item_id").agg(updated_at=pl.col("timestamp").max(), first_seen=pl.col("timestamp").min())
    parts = [spans.with_columns(available=pl.lit(available, pl.Boolean()))]
    parts += [select_latest(rows, group) for group in groups if group[0] in rows.columns]
    return merge_parts(parts)


def select_latest(rows: pl.DataFrame, group: Sequence[str]) -> pl.DataFrame:
    """Select item_id, updated_at and the latest values of the columns `group`; at equal times the greatest."""
    rows = rows.select("item_id", "timestamp", *group).drop_nulls([group[0]])
    last = rows.filter(pl.col("timestamp") == pl.col("timestamp").max().over("item_id"))
    return (
        last.sort(group, nulls_last=False)
        .group_by("item_id")
        .agg(pl.col("timestamp").first().alias("updated_at"), *(pl.col(c).last() for c in group))
    )


def merge_parts(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Merge rows that hold different columns of the catalog into one row per item and time."""
    rows = pl.concat([conform(part, CATALOG_SCHEMA) for part in parts])
    first = [pl.col(c).drop_nulls().first() for c in CATALOG_SCHEMA if c not in ("item_id", "updated_at")]
    merged = rows.group_by("item_id", "updated_at").agg(first)
    return conform(merged.sort("item_id", "updated_at"), CATALOG_SCHEMA)
