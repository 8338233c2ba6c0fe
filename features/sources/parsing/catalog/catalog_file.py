"""Catalog files: a shop's products from CSV, TSV, JSON, Parquet, Excel or a product feed, as rows of the catalog.

Columns are the catalog's or, with a mapping, the shop's own; those of Google's product feed are recognised. A row that
cannot be read is rejected as a row of events is; a file without any usable row is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import polars as pl

from features.common import currencies
from features.common.counts import count
from features.common.errors import InputError
from features.event_log.catalog import conform_catalog
from features.event_log.schema import CATALOG_OPTIONAL, CATALOG_SCHEMA, EMBEDDING, REJECTED_SCHEMA
from features.sources.parsing.cells import coerce, pii
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.cells.formats import ColumnFormats
from features.sources.parsing.files import readers
from features.sources.parsing.mapping import conditions, evaluate, typed_cells
from features.sources.parsing.mapping.column_names import ColumnNames
from features.sources.parsing.mapping.expressions import ColumnPart, Expression
from features.sources.parsing.mapping.mapping import CATALOG_COLUMNS, CatalogMapping
from features.sources.parsing.rows import nested
from features.sources.parsing.rows.fill_and_join import FillingDown
from features.sources.parsing.rows.validate import damage_rules, raw_copier
from features.sources.parsing.text_files import chunks
from features.sources.parsing.text_files.json_lines import LINE

SCHEMA = CATALOG_SCHEMA | CATALOG_OPTIONAL
# Google's product feed: https://support.google.com/merchants/answer/7052112
FEED: dict[str, tuple[str, ...]] = {
    "item_id": ("id",),
    "category": ("product_type", "google_product_category"),
    "available": ("availability",),
    "price": ("sale_price", "price"),
}
_FEED_SIGNS = ("availability", "product_type", "google_product_category", "sale_price", "gtin", "mpn")


@dataclass
class ShopCatalog:
    """All catalog files of a command: rows, rejected rows and notes, handed out once."""

    rows: list[pl.DataFrame] = field(default_factory=list)
    rejected: list[pl.DataFrame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, mapping: CatalogMapping, path: Path | None = None) -> "ShopCatalog":
        """Read the file at `path`, or the one that the mapping names. Raises `InputError`; see `add`."""
        catalog = cls()
        catalog.add(mapping, path)
        return catalog

    def add(self, mapping: CatalogMapping, path: Path | None = None) -> None:
        """Add a file. Raises `InputError` where it cannot be read, names no items, or has no usable row."""
        path = path or mapping.file
        if path is None:
            raise InputError("the mapping has a catalog without a file; write catalog: {file: products.csv}")
        reader = _CatalogReader(mapping, path)
        self.rows.append(reader.rows)
        self.rejected.append(reader.rejected)
        self.notes += reader.notes

    def take(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows and the rejected rows that were not taken before."""
        rows = pl.concat([pl.DataFrame(schema=CATALOG_SCHEMA), *self.rows], how="diagonal")
        rejected = pl.concat([pl.DataFrame(schema=REJECTED_SCHEMA), *self.rejected])
        self.rows, self.rejected = [], []
        return rows, rejected


class _CatalogReader:
    def __init__(self, mapping: CatalogMapping, path: Path) -> None:
        self._mapping, self._path = mapping, path
        self.notes: list[str] = []
        table = self._read_table()
        self._columns = self._match(ColumnNames(table.columns, nested=True))
        prepared = self._prepare(table)
        self._formats = ColumnFormats(mapping.decimal, mapping.dates, mapping.timezone, self._scan(table))
        values, faults = self._build(prepared)
        self.rows, self.rejected = self._split(prepared, values, faults)

    def _read_table(self) -> pl.DataFrame:
        mapping = self._mapping
        self.notes += readers.read_notes(self._path, readers.recognise(self._path, mapping.encoding, mapping.delimiter))
        table = readers.read_catalog_table(self._path, mapping.encoding, mapping.delimiter)
        if (guess := chunks.describe_guess(self._path)) and guess not in self.notes:
            self.notes.append(guess)
        paths = [c for e in mapping.columns.values() for c in e.columns if "." in c and c not in table.columns]
        if LINE in table.columns and (mapping.explode or paths):
            heads = {path.split(".")[0] for path in paths} | ({mapping.explode} if mapping.explode else set())
            schema = nested.json_schema([*paths, *(c for c in table.columns if c not in heads)], mapping.explode)
            schema = {c: t for c, t in schema.items() if c.split(".")[0] in table.columns and not c.startswith("_")}
            table = readers.json_lines.parse(table[LINE].to_list(), schema)
        return nested.flatten(table, mapping.explode).with_row_index(_ROW)

    def _match(self, names: ColumnNames) -> dict[str, Expression]:
        mapping, path = self._mapping, self._path
        columns = dict[str, Expression]()
        absent = []
        for ours, expression in mapping.columns.items():
            resolved = expression.resolve(names.find)
            if resolved is not None:
                columns[ours] = resolved
            elif ours not in mapping.optional:
                absent.append(names.describe_missing(expression.columns, f"for {ours}"))
        named = conditions.name_columns(mapping.where)
        missing = [c for c in named if names.find(c) is None and c not in mapping.optional]
        absent += [names.describe_missing([c], "in where") for c in missing]
        own_names = [name for name in names.names if not name.startswith("_")]
        if absent:
            problem = f"the catalog {path} lacks columns the mapping names: {', '.join(absent)}"
            raise ColumnsError(problem, own_names, path)
        taken = {c for e in columns.values() for c in e.columns}
        own = {c: theirs for c in CATALOG_COLUMNS if (theirs := names.find(c, taken)) is not None}
        is_feed = "item_id" not in columns and "item_id" not in own and names.find("id") is not None
        if is_feed and any(names.find(sign) is not None for sign in _FEED_SIGNS):
            for ours, candidates in FEED.items():
                feed = [c for c in map(names.find, candidates) if c is not None]
                if feed and ours not in columns:
                    columns[ours] = Expression(tuple(map(ColumnPart, feed)))
        for ours, theirs in own.items():
            if ours not in mapping.constants:
                columns.setdefault(ours, Expression((ColumnPart(theirs),)))
        if "item_id" not in columns:
            raise ColumnsError(
                f"the catalog {path} has no column item_id. Say which it is, as in "
                f"`catalog: {{file: {path.name}, columns: {{item_id: THEIR_NAME}}}}`",
                own_names,
                path,
            )
        return columns

    def _prepare(self, table: pl.DataFrame) -> pl.DataFrame:
        mapping, names = self._mapping, ColumnNames(table.columns, nested=True)
        if mapping.fill_down is not None:
            by = names.find(mapping.fill_down.by)
            fill = [names.find(c) for c in mapping.fill_down.columns]
            if by is None:
                raise InputError(f"the catalog {self._path} lacks the column {mapping.fill_down.by} of fill_down")
            table, _ = FillingDown(by, [c for c in fill if c is not None]).fill(table)
        where = conditions.resolve(mapping.where, names.find)
        for column, out in conditions.match_all(table, where).items():
            if out.any():
                left_out = f"{count(int(out.sum()), 'row')} of the catalog left out by {column}: {where[column]}"
                self.notes.append(f"{self._path.name}: {left_out}")
        return table.filter(conditions.match(table, where)) if where else table

    def _scan(self, table: pl.DataFrame) -> Callable[[], Iterator[dict[str, pl.Series]]]:
        read = {c: self._columns[c] for c in ("price", "first_seen") if c in self._columns}
        # Of a feed the sale price and the price are one kind of amount.
        cells: dict[str, pl.Series] = {c: evaluate.evaluate(e, table) for c, e in read.items()}
        if "price" in read:
            cells["price"] = cells["price"].set(typed_cells.are_numbers(read["price"], table), None)
        return lambda: iter([cells])

    def _build(self, table: pl.DataFrame) -> tuple[dict[str, pl.Series], list[tuple[str, pl.Series]]]:
        """Our columns, and reasons with the rows that they reject, the first that counts first."""
        salt = pii.load_salt("the catalog's mapping hashes a column") if any(
            e.hashed for e in self._columns.values()
        ) else b""  # fmt: skip
        item_ids = evaluate.evaluate_ids(self._columns["item_id"], table, "item_id", None, salt)
        values = {"item_id": item_ids.values.cast(pl.String)}
        faults = [(rule.reason, table.select(rule.broken).to_series()) for rule in damage_rules(table)]
        if item_ids.scientific is not None:
            faults.append(("scientific_id", item_ids.scientific))
        faults.append(("missing_item_id", values["item_id"].is_null()))
        codes: pl.Series | None = None
        for ours, expression in self._columns.items():
            if ours == "item_id":
                continue
            cells = evaluate.evaluate(expression, table)
            exact = partial(self._are_numbers, expression, table)
            values[ours], ambiguous, beside = self._read(ours, cells, exact)
            codes = beside if beside is not None else codes
            if ambiguous is not None:
                faults.append((f"ambiguous_{ours}", ambiguous))
            bad = coerce.is_filled(cells) & values[ours].is_null()
            if ours == EMBEDDING and bad.any():
                self._refuse_vector(table, cells, bad)
            faults.append((f"bad_{ours}", bad))
        for ours, constant in self._mapping.constants.items():
            values[ours] = self._read(ours, pl.Series([constant]).new_from_index(0, table.height))[0]
        if "price" in values:
            faults.append(("negative_price", (values["price"] < 0).fill_null(False)))
            self._add_currency(values, codes, faults)
        return values, faults

    @staticmethod
    def _are_numbers(expression: Expression, table: pl.DataFrame, rows: pl.Series) -> pl.Series:
        return typed_cells.are_numbers(expression, table[rows])

    def _read(
        self, ours: str, cells: pl.Series, exact: Callable[[pl.Series], pl.Series] | None = None
    ) -> tuple[pl.Series, pl.Series | None, pl.Series | None]:
        """Values, which cells are ambiguous, and the currencies beside prices; None where there is none."""
        if ours == "price":
            amounts, codes, ambiguous = self._formats.parse_number(ours, cells, exact)
            return amounts, ambiguous, codes if codes.null_count() < codes.len() else None
        if ours == "first_seen":
            return *self._formats.parse_time(ours, cells), None
        if ours == "available":
            return coerce.parse_availability(cells), None, None
        if ours == "currency":
            return currencies.parse_currency(cells), None, None
        values = coerce.to_dtype(cells, ours, SCHEMA[ours], self._mapping.timezone)
        if ours == "category":
            values = _read_paths(values, self._mapping.category_separator)
        return values, None, None

    def _add_currency(
        self, values: dict[str, pl.Series], beside: pl.Series | None, faults: list[tuple[str, pl.Series]]
    ) -> None:
        own, target = values.get("currency"), self._mapping.currency
        if beside is not None:
            own = beside if own is None else own.zip_with(own.is_not_null(), beside)
        if own is None and target is None:
            return
        frame = pl.DataFrame(
            {"price": values["price"], "currency": own}, schema={"price": pl.Float64, "currency": pl.String}
        )
        currency = pl.col("currency")
        if target is not None:
            rate = currency.replace_strict({**self._mapping.rates, target: 1.0}, default=None, return_dtype=pl.Float64)
            frame = frame.with_columns(currency.fill_null(target)).with_columns(rate=rate)
            unknown = frame.select(pl.col("rate").is_null() & pl.col("price").is_not_null()).to_series()
            faults.append(("no_rate_for_currency", unknown))
            values["price"] = frame.select(pl.col("price") * pl.col("rate")).to_series()
            frame = frame.with_columns(currency=pl.lit(target))
        values["currency"] = frame["currency"]

    def _split(
        self, table: pl.DataFrame, values: dict[str, pl.Series], faults: list[tuple[str, pl.Series]]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        masks = pl.DataFrame([mask.fill_null(False).alias(reason) for reason, mask in faults])
        reason = masks.select(
            pl.coalesce(pl.when(pl.col(r)).then(pl.lit(f"catalog_{r}")) for r in masks.columns)
        ).to_series()
        bad = reason.is_not_null()
        frame = pl.DataFrame([v.alias(c) for c, v in values.items()])
        good = conform_catalog(frame.filter(~bad)).with_columns(pl.col("available").fill_null(True))
        rows = bad.arg_true()
        copies = raw_copier(table.drop(_ROW), 0)(rows.cast(pl.Int64)) if rows.len() else pl.Series([], dtype=pl.String)
        rejected = pl.DataFrame(
            {
                "source": pl.Series([self._path.name]).new_from_index(0, rows.len()),
                "row": table[_ROW].gather(rows).cast(pl.Int64),
                "reason": reason.filter(bad),
                "raw": pl.DataFrame({"raw": copies}).select(pii.redact(pl.col("raw"))).to_series(),
            },
            schema=REJECTED_SCHEMA,
        )
        if good.is_empty():
            self._refuse(table, rejected)
        if EMBEDDING in good.columns:
            _check_sizes(good[EMBEDDING], self._path)
        items = good["item_id"].n_unique()
        rejections = f", {rejected.height:,} of {count(table.height, 'row')} rejected" if rejected.height else ""
        self.notes.append(f"{self._path.name}: catalog of {count(items, 'item')}{rejections}")
        return good, rejected

    def _refuse(self, table: pl.DataFrame, rejected: pl.DataFrame) -> None:
        if rejected.is_empty():
            raise InputError(f"the catalog {self._path} has no row that may be read; see `where` in the mapping")
        row, reason = rejected["row"][0], rejected["reason"][0].removeprefix("catalog_")
        ours = next((c for c in self._columns if reason.endswith(c)), None)
        cell = table[self._columns[ours].columns[0]][0] if ours else None
        cell_text = "" if ours is None else f", as {self._columns[ours]} {pii.redact_text(repr(cell)[:80])}"
        raise InputError(
            f"the catalog {self._path} has no usable row: all {rejected.height:,} are rejected. Row {row} (from 0) is "
            f"{reason}{cell_text}; correct it, or say in the mapping which columns are meant"
        )

    def _refuse_vector(self, table: pl.DataFrame, cells: pl.Series, bad: pl.Series) -> None:
        at = int(bad.arg_true()[0])
        cell = cells[at]
        text = repr(cell.to_list() if isinstance(cell, pl.Series) else cell)
        raise InputError(
            f"the catalog {self._path}: row {table[_ROW][at]} (from 0) has {EMBEDDING} {text[:80]}, which is no list "
            "of finite numbers (float32); correct it"
        )


_ROW = "_catalog_row"


def _check_sizes(vectors: pl.Series, path: Path) -> None:
    sizes = vectors.list.len()
    filled = sizes.is_not_null().arg_true()
    if sizes.drop_nulls().n_unique() > 1:
        at = int(filled[0])
        row = next(n for n in filled if sizes[n] != sizes[at])
        raise InputError(
            f"the catalog {path}: row {row} (from 0) has an {EMBEDDING} of length {sizes[row]}, row {at} one of "
            f"length {sizes[at]}; vectors of one catalog come from one model and have one length"
        )


def _read_paths(values: pl.Series, separator: str | None) -> pl.Series:
    """Categories as paths with slashes: of several, the deepest, and of several as deep the first."""
    paths = values.str.replace_all(r"\s*>\s*", "/")
    if separator is not None:
        several = paths.str.split(separator)
        deepest = several.list.eval(pl.element().str.count_matches("/")).list.arg_max()
        paths = pl.DataFrame([several.alias("paths"), deepest.alias("at")]).select(
            pl.col("paths").list.get("at", null_on_oob=True).str.strip_chars()
        ).to_series()  # fmt: skip
    return paths.str.strip_chars("/").alias(values.name)
