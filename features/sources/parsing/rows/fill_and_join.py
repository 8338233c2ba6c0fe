"""Rows of a shop's table before they become events: filled down, and joined with the rows of another table."""

from collections.abc import Sequence

import polars as pl

from features.common import ids
from features.sources.parsing.cells import coerce


class FillingDown:
    """Fills cells that are empty in later lines of an order with the value above; lines of an order are neighbours.

    Goes through a table batch by batch: the result does not depend on their size.
    """

    def __init__(self, by: str, columns: Sequence[str]) -> None:
        self._by, self._columns = by, [c for c in columns if c != by]
        self._fills_by = by in columns
        self._above: pl.DataFrame | None = None  # the last row so far, filled

    def fill(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        """Fill `rows`; also count the filled cells by column."""
        names = [self._by, *self._columns]
        part = rows.select(pl.when(coerce.is_filled(rows[c])).then(rows[c]).otherwise(None).alias(c) for c in names)
        above = self._above
        table = part if above is None else pl.concat([above, part], how="vertical_relaxed")
        key = table[self._by].forward_fill() if self._fills_by else table[self._by]
        starts = key.ne_missing(key.shift(1)) | key.is_null()
        starts = starts.set(pl.arange(0, starts.len(), eager=True) == 0, True)
        filled = [key.alias(self._by), *(fill_from_above(table[c], starts) for c in self._columns)]
        table = pl.DataFrame(filled)
        if table.height:
            self._above = table.tail(1)
        table = table if above is None else table.slice(1)
        changed = names if self._fills_by else self._columns
        counts = {c: part[c].null_count() - table[c].null_count() for c in changed}
        return rows.with_columns(table[c] for c in changed if counts[c]), {c: n for c, n in counts.items() if n}


def fill_from_above(values: pl.Series, starts: pl.Series) -> pl.Series:
    """Fill nulls with the last value above them, not beyond the last row that `starts` a group."""
    frame = pl.DataFrame([values.alias("v"), starts.alias("s")]).with_row_index("i")
    index = pl.col("i")
    start = pl.when("s").then(index).forward_fill()
    source = pl.when(pl.col("v").is_not_null()).then(index).forward_fill()
    filled = frame.select(pl.when(source >= start).then(source)).to_series()
    return values.gather(filled)  # a null index gives null


class JoinedTable:
    """The rows of one table by the values of some columns, of which each is there once."""

    def __init__(self, rows: pl.DataFrame, on: Sequence[str], name: str) -> None:
        self.name, self._on = name, list(on)
        keys = [ids.normalize_ids(rows[c], "event").alias(f"_on_{n}") for n, c in enumerate(on)]
        self._keys = [key.name for key in keys]
        keyed = rows.drop(on).hstack([k.cast(pl.String) for k in keys]).drop_nulls(self._keys)
        self._rows = keyed.unique(self._keys, keep="first", maintain_order=True)
        self.repeated = keyed.height - self._rows.height
        self.columns = [c for c in rows.columns if c not in on]

    @classmethod
    def concat(cls, tables: "Sequence[JoinedTable]") -> "JoinedTable":
        """One table of the rows of several of one kind."""
        if len(tables) == 1:
            return tables[0]
        whole = tables[0]
        rows = pl.concat([table._rows for table in tables], how="diagonal_relaxed")
        whole._rows = rows.unique(whole._keys, keep="first", maintain_order=True)
        whole.repeated = sum(table.repeated for table in tables) + rows.height - whole._rows.height
        whole.columns = list(dict.fromkeys(c for table in tables for c in table.columns))
        return whole

    def join(self, rows: pl.DataFrame, on: Sequence[str]) -> tuple[pl.DataFrame, int]:
        """Add the table's columns to `rows`, whose own stay what they are; also count the rows without a partner."""
        pairs = zip(on, self._keys, strict=True)
        keys = [ids.normalize_ids(rows[c], "event").cast(pl.String).alias(k) for c, k in pairs]
        own = [c for c in self._rows.columns if c in rows.columns]
        table = self._rows.drop(own).with_columns(_joined=pl.lit(True))
        joined = rows.with_columns(keys).join(table, on=self._keys, how="left", maintain_order="left")
        return joined.drop(*self._keys, "_joined"), joined["_joined"].null_count()
