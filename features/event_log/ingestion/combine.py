"""Combination of a log's rows with fresh ones: one row per event and item, lines of orders merged.

A fresh row with `schema.FILE` is a line of an order that has no event id of its own: its id is that of its order, so
the lines of one order that name the same item share the key. Within one file their quantities add up and the price
is their mean, weighted by quantity. The same line in several files of a command is an overlap of exports: the file
with the larger quantity counts. What a log has already stands.

Of other rows that share a key the earliest is kept, then the least by the other columns. So the same rows give the
same result in whatever order they arrive.
"""

from dataclasses import dataclass

import polars as pl

from features.event_log.consent import forget_refused
from features.event_log.ingestion.readings import Origins
from features.event_log.schema import FILE, ORIGIN, STORED_SCHEMA, sort_by_time

_KEY = ["event_id", "item_id"]
_OLD = "_old"
# Lines are compared by their values, so that the order of files does not count.
_VALUES = [c for c in STORED_SCHEMA if c not in (*_KEY, "timestamp", ORIGIN)]
_AMOUNTS = ("quantity", "price")
_NO_FILE = pl.lit(None, pl.Int32).alias(FILE)


@dataclass
class Tally:
    """What became of fresh rows that share their key with others."""

    merged: int = 0  # lines added to another line
    in_log: int = 0  # rows that the log had
    repeated: int = 0  # rows that came more than once in this command
    in_several_files: int = 0  # of `repeated`: lines of orders that another file of the command has too
    free_lines: int = 0  # lines at price 0 beside the same item at a price in the same order
    free_example: str | None = None  # an order with such lines, or where it has no id its event id

    def add(self, other: "Tally") -> None:
        """Add the counts of another range of days."""
        self.merged += other.merged
        self.in_log += other.in_log
        self.repeated += other.repeated
        self.in_several_files += other.in_several_files
        self.free_lines += other.free_lines
        examples = [e for e in (self.free_example, other.free_example) if e is not None]
        self.free_example = min(examples, default=None)


def combine(old: pl.DataFrame, fresh: pl.DataFrame, origins: Origins) -> tuple[pl.DataFrame, Tally]:
    """Combine `old` (`STORED_SCHEMA`) and `fresh` (`STAGED_SCHEMA`) rows of the same days.

    Returns the rows in `STORED_SCHEMA` by time, and what became of the fresh ones.
    """
    no_lines = fresh[FILE].null_count() == fresh.height
    rows = pl.concat([old, fresh.drop(FILE)]) if no_lines else pl.concat([old, fresh], how="diagonal")
    hashes = rows.select(pl.col("event_id").hash(1) ^ pl.col("item_id").hash(2)).to_series()
    in_order = hashes.sort()
    shared = in_order.filter(in_order == in_order.shift(1))
    tally = Tally()
    if shared.len():
        # Few rows share a key as a rule, and only those need the long comparisons.
        several = hashes.is_in(shared.implode())
        position = pl.int_range(rows.height, dtype=pl.UInt32, eager=True)
        subset = rows.with_columns((position < old.height).alias(_OLD)).filter(several)
        winners = _choose(subset if FILE in rows.columns else subset.with_columns(_NO_FILE), origins, tally)
        rest = rows.filter(~several)
        rows = pl.concat([rest.select(*STORED_SCHEMA), winners.select(*STORED_SCHEMA)])
    # Also of lines merged with one that refuses, and of rows that an earlier version let in.
    rows, _ = forget_refused(rows.select(*STORED_SCHEMA))
    return sort_by_time(rows), tally


def _choose(rows: pl.DataFrame, origins: Origins, tally: Tally) -> pl.DataFrame:
    """One row per key of `rows`, all of which may share theirs with others; counts the others in `tally`."""
    old, is_line = rows.filter(_OLD).select(_KEY), pl.col(FILE).is_not_null()
    lines, others = rows.filter(is_line), rows.filter(~is_line)
    if lines.height:
        lines = lines.join(old, on=_KEY, how="anti", nulls_equal=True)
    chosen = [others.sort(["timestamp", *_VALUES], nulls_last=True).unique(_KEY, keep="first", maintain_order=True)]
    if lines.height:
        chosen.append(_merge_lines(lines, tally))
    winners = pl.concat([part.select(*STORED_SCHEMA) for part in chosen])
    # A log has a key once. Where it has all of them, or none, no row needs to be looked up in it.
    fresh, new = rows.height - old.height, winners.height - old.height
    in_log = fresh if not new else 0
    if new and old.height:
        in_log = rows.filter(~pl.col(_OLD)).join(old, on=_KEY, how="semi", nulls_equal=True).height
    tally.in_log += in_log
    tally.repeated += fresh - in_log - new - tally.merged
    return _unite_origins(winners, rows, origins)


def _merge_lines(lines: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Merge lines within each file, and choose among files."""
    within = [*_KEY, FILE]
    rest = [c for c in ("timestamp", *_VALUES, ORIGIN) if c not in (*_AMOUNTS, "consent")]
    price, quantity = pl.col("price"), pl.col("quantity")
    mean = (price * quantity).sum() / quantity.sum()
    # Sorted, because a sum of floats depends on the order of its terms.
    merged = (
        lines.sort([*within, *_AMOUNTS, *rest], nulls_last=True)
        .group_by(within, maintain_order=True)
        .agg(
            *(pl.col(c).first() for c in rest),
            pl.col("consent").min(),  # refused where any line says so
            quantity.sum(),
            pl.when(price.min() == price.max()).then(price.min()).otherwise(mean).alias("price"),
            _lines=pl.len(),
            _free=pl.when((price > 0).any()).then((price == 0).sum()).otherwise(0),
        )
    )
    by = [*_KEY, "quantity", "price", *(c for c in _VALUES if c not in _AMOUNTS), FILE]
    winners = merged.sort(by, descending=[c == "quantity" for c in by], nulls_last=True).unique(
        _KEY, keep="first", maintain_order=True
    )
    tally.merged += int((winners["_lines"] - 1).sum())
    tally.in_several_files += int(merged["_lines"].sum()) - int(winners["_lines"].sum())
    free = winners.filter(pl.col("_free") > 0)
    if free.height:
        tally.free_lines += int(free["_free"].sum())
        tally.free_example = free.select(pl.coalesce("order_id", "event_id").min()).item()
    return winners


def _unite_origins(winners: pl.DataFrame, rows: pl.DataFrame, origins: Origins) -> pl.DataFrame:
    """`winners` with the origins of all `rows` of their keys."""
    if rows[ORIGIN].min() == rows[ORIGIN].max() and rows[ORIGIN].null_count() in (0, rows.height):
        return winners
    least, most, unknown = pl.col(ORIGIN).min(), pl.col(ORIGIN).max(), pl.col(ORIGIN).is_null().any()
    several = rows.group_by(_KEY).agg(_mixed=(least != most) | (unknown & least.is_not_null())).filter("_mixed")
    if several.is_empty():
        return winners
    sets = (
        rows.join(several, on=_KEY, how="semi", nulls_equal=True)
        .group_by(_KEY)
        .agg(pl.col(ORIGIN).drop_nulls().unique().sort().cast(pl.String).str.join(" ").alias("_codes"))
    )
    united = {codes: origins.union(int(c) for c in codes.split()) for codes in sets["_codes"].unique()}
    codes = sets.with_columns(pl.col("_codes").replace_strict(united, return_dtype=pl.Int32).alias("_united"))
    joined = winners.join(codes, on=_KEY, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.coalesce("_united", ORIGIN).alias(ORIGIN)).select(winners.columns)
