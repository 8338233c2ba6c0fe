"""Event columns: the log's columns, in its types, from the cells of a shop's table."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import polars as pl

from features.common import currencies, ids, threads
from features.common.ids import ID_KINDS
from features.event_log.schema import EVENT_SCHEMA, Rule, conform
from features.sources.parsing.cells import coerce, price_currencies
from features.sources.parsing.cells.formats import NUMBERS, TIMES, ColumnFormats
from features.sources.parsing.cells.numbers import is_infinite
from features.sources.parsing.mapping import evaluate, typed_cells
from features.sources.parsing.mapping.expressions import Expression
from features.sources.parsing.mapping.mapping import Mapping
from features.sources.parsing.mapping.matching import MatchedTable
from features.sources.parsing.mapping.reading_notes import ReadingNotes
from features.sources.parsing.rows.order_lines import EMAIL

PAYMENT = "_payment"  # column beside the log's: salted hashes of what names cards and accounts


@dataclass
class _Cells:
    """A column's values, with the rules that its unreadable cells break and what stands beside it."""

    values: pl.Series
    rules: list[Rule] = field(default_factory=list)
    beside: pl.Series | None = None  # currencies beside prices; hashes of addresses among customers
    signs: pl.Series | None = None  # of currencies that a price or currency cell does not say which of several it is
    note: Callable[[ReadingNotes], None] = lambda notes: None


class EventColumns:
    """Builds the log's columns from batches of tables as a mapping says."""

    def __init__(self, mapping: Mapping, formats: ColumnFormats, salt: bytes, notes: ReadingNotes) -> None:
        self._mapping, self._formats, self._salt, self._notes = mapping, formats, salt, notes
        self._exact = ColumnFormats(".", mapping.dates, mapping.timezone)

    def build(self, batch: pl.DataFrame, table: MatchedTable) -> tuple[pl.DataFrame, list[Rule]]:
        """The columns of `EVENT_SCHEMA`, `EMAIL` and `PAYMENT` where there are some, and rules for unreadable cells."""
        constants = [c for c in self._mapping.constants if c not in table.columns]
        with ThreadPoolExecutor(threads.THREADS) as pool:
            built = dict(
                zip(
                    table.columns,
                    pool.map(lambda c: self._read(c, table.columns[c], batch, table), table.columns),
                    strict=True,
                )
            )
        for column in constants:
            cell = pl.Series(column, [self._mapping.constants[column]])
            built[column] = self._read_cells(column, cell.new_from_index(0, batch.height))
        for cells in built.values():
            cells.note(self._notes)
        columns = {ours: cells.values.alias(ours) for ours, cells in built.items()}
        rules = [rule for ours in EVENT_SCHEMA if ours in built for rule in built[ours].rules]
        price_parts = price_currencies.find(
            built["price"].values if "price" in built else None,
            built["currency"].values if "currency" in built else None,
            built["price"].beside if "price" in built else None,
            [built[c].signs for c in ("price", "currency") if c in built],
            self._mapping.currency,
        )
        if price_parts.codes is not None:
            columns["currency"] = price_parts.codes.alias("currency")
        rules += price_parts.rules
        self._notes.counts["dollars"] += price_parts.open_signs
        rows = conform(pl.DataFrame(list(columns.values())), EVENT_SCHEMA)
        if self._mapping.names:
            name = pl.col("name").cast(pl.String).replace(self._mapping.names)
            rows = rows.with_columns(name.cast(EVENT_SCHEMA["name"]))
        if self._mapping.price_of == "line":
            piece = pl.col("price") / pl.col("quantity")
            rows = rows.with_columns(price=pl.when(pl.col("quantity") != 0).then(piece))
        rows, unknown = self._convert(rows)
        return self._add_tokens(rows, batch, table, built), [*rules, *unknown]

    def _read(self, ours: str, expression: Expression, batch: pl.DataFrame, table: MatchedTable) -> _Cells:
        if ours not in ID_KINDS:
            exact = table.exact_numbers.issuperset(expression.columns)

            def are_numbers(at: pl.Series) -> pl.Series:
                return typed_cells.are_numbers(expression, batch[at], table.joined)

            return self._read_cells(ours, evaluate.evaluate(expression, batch), are_numbers, exact)
        evaluated = evaluate.evaluate_ids(expression, batch, ours, self._mapping.placeholders.get(ours), self._salt)

        def note(notes: ReadingNotes) -> None:
            notes.add_placeholders(ours, evaluated.placeholders)
            notes.counts["addresses"] += evaluated.addresses

        rules = [] if evaluated.scientific is None else [Rule("scientific_id", pl.lit(evaluated.scientific))]
        return _Cells(evaluated.values.cast(pl.String), rules, evaluated.tokens, note=note)

    def _read_cells(
        self,
        ours: str,
        cells: pl.Series,
        numbers: Callable[[pl.Series], pl.Series] | None = None,
        exact: bool = False,
    ) -> _Cells:
        if ours in ID_KINDS:
            return _Cells(ids.normalize_ids(cells, ID_KINDS[ours], ()).cast(pl.String))
        if ours == "currency":
            own = currencies.parse_currency(cells)
            if not _lost(cells, own):
                return _Cells(own)
            signs = _find_signs(cells, own)
            bad = coerce.is_filled(cells) & own.is_null() & signs.is_null()
            priced = pl.col("price").is_not_null()
            return _Cells(own, [Rule("bad_currency", pl.lit(bad) & priced)] if bad.any() else [], signs=signs)
        dtype = EVENT_SCHEMA[ours]
        ambiguous: pl.Series | None = None
        beside: pl.Series | None = None
        if ours in TIMES:
            values, ambiguous = self._formats.parse_time(ours, cells)
        elif ours in NUMBERS:
            formats = self._exact if exact else self._formats
            values, codes, ambiguous = formats.parse_number(ours, cells, numbers)
            if dtype.is_integer():
                values = values.set(values != values.floor(), None).cast(dtype, strict=False)
            if ours == "price":
                beside = codes
            else:
                values = values.set(codes.is_not_null(), None)
        else:
            values = coerce.to_dtype(cells, ours, dtype, self._mapping.timezone)
        rules = []
        if ambiguous is not None:
            rules.append(Rule(f"ambiguous_{ours}", pl.lit(ambiguous)))
        if ours in (*NUMBERS, "received_at", "consent") and cells.dtype != dtype and _lost(cells, values):
            unread = coerce.is_filled(cells) & values.is_null()
            if ours in NUMBERS:
                unread &= ~is_infinite(cells)  # unknown, as in JSON and Parquet
            rules.append(Rule(f"bad_{ours}", pl.lit(unread)))
        ambiguous_cells = None if ambiguous is None else cells.filter(ambiguous)
        signed = None if beside is None or cells.dtype != pl.String else _find_signs(cells, beside)

        def note(notes: ReadingNotes) -> None:
            if ambiguous_cells is not None:
                notes.add_ambiguous(ours, ambiguous_cells)

        return _Cells(values, rules, beside, signed, note)

    def _convert(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[Rule]]:
        """Convert amounts to the mapping's currency; those of which no rate is known break the rule."""
        target = self._mapping.currency
        if target is None:
            return rows, []
        currency = pl.col("currency")
        priced = pl.col("price").is_not_null()
        rows = rows.with_columns(currency=pl.when(priced).then(currency.fill_null(target)).otherwise(currency))
        foreign = rows.select(((currency != target) & priced).fill_null(False)).to_series()
        if not foreign.any():
            return rows, []
        rates = self._mapping.rates
        rate = (
            currency.replace_strict(rates, default=None, return_dtype=pl.Float64) if rates else pl.lit(None, pl.Float64)
        )
        known = foreign & rows.select(rate.is_not_null() if rates else pl.repeat(False, pl.len())).to_series()
        converted = rows.with_columns(
            price=pl.when(known).then(pl.col("price") * rate).otherwise("price"),
            currency=pl.when(known).then(pl.lit(target)).otherwise(currency),
        )
        for code, n in rows["currency"].filter(known).value_counts().iter_rows():
            self._notes.converted[str(code)] += n
        return converted, [Rule("no_rate_for_currency", pl.lit(foreign & ~known))]

    def _add_tokens(
        self, rows: pl.DataFrame, batch: pl.DataFrame, table: MatchedTable, built: dict[str, _Cells]
    ) -> pl.DataFrame:
        for kind, expression in table.secrets.items():
            rows = rows.with_columns(evaluate.hash_columns(expression, batch, kind, self._salt).alias(f"_{kind}"))
        customers = built["customer_id"].beside if "customer_id" in built else None
        if customers is not None:
            known = rows[EMAIL] if EMAIL in rows.columns else customers
            rows = rows.with_columns(known.zip_with(known.is_not_null(), customers).alias(EMAIL))
        return rows


def _find_signs(cells: pl.Series, codes: pl.Series) -> pl.Series:
    """The signs of several currencies in cells that do not say which it is."""
    return currencies.shared_signs(cells).set(codes.is_not_null(), None)


def _lost(cells: pl.Series, values: pl.Series) -> bool:
    return values.null_count() > cells.null_count()
