"""Mapped reader: rows in a shop's own columns as events, for files and for tables of a database.

`match_columns` says once per file which columns are meant, `parse` reads a batch of its rows, and `with_notes` adds to
the last batch of a command what was assumed in reading it.

Without an `event_id` column a row's id is a hash of its values, so reading it again adds nothing, and two equal rows
are one event. Purchases and refunds without one are lines of an order: the id is that of what the lines have in common.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

import polars as pl

from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, FILE, ROW, TIDY_RULES, LinkKind, Rule
from features.sources.parsing.catalog import event_catalog
from features.sources.parsing.catalog.catalog_file import ShopCatalog
from features.sources.parsing.cells import coerce, pii
from features.sources.parsing.cells.formats import NUMBERS, TIMES, ColumnFormats, Scan
from features.sources.parsing.events.event_columns import PAYMENT, EventColumns
from features.sources.parsing.mapping import conditions, evaluate, typed_cells
from features.sources.parsing.mapping.expressions import Expression
from features.sources.parsing.mapping.mapping import Mapping, Refunds
from features.sources.parsing.mapping.matching import MatchedTable, match
from features.sources.parsing.mapping.reading_notes import ReadingNotes, is_telling
from features.sources.parsing.rows import nested, order_lines
from features.sources.parsing.rows.fill_and_join import JoinedTable
from features.sources.parsing.rows.order_lines import AT, EMAIL
from features.sources.parsing.rows.validate import DAMAGE, damage_rules, raw_copier, validate_rows
from features.sources.parsing.text_files.json_lines import LINE

NO_ROWS = ParsedBatch(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA))  # of a table without rows


class MappedReader:
    """Turns batches of rows into `ParsedBatch`. Raises `InputError` for a catalog that cannot be read, and where
    the mapping names e-mail addresses or payment tokens and there is no salt to hash them with.

    `scan` reads all tables of the command for evidence of their formats; without it, cells that can be read in two
    ways are rejected unless the mapping says how.
    """

    def __init__(
        self,
        mapping: Mapping,
        scan: Scan | None = None,
        joined: Collection[JoinedTable] = (),
        catalog: ShopCatalog | None = None,
    ) -> None:
        self.mapping = mapping
        self.notes = ReadingNotes()
        self._late_refunds = order_lines.LateRefunds()
        hashed = mapping.hashed_columns
        self._salt = pii.load_salt(f"the mapping names {' and '.join(hashed)}") if hashed else pii.find_salt()
        if catalog is None and mapping.catalog is not None:
            catalog = ShopCatalog.read(mapping.catalog)
        self._catalog = catalog
        if catalog is not None:
            self.notes.texts |= dict.fromkeys(catalog.notes)
        self._joined = list(joined)
        self._formats = ColumnFormats(mapping.decimal, mapping.dates, mapping.timezone, scan)
        self._columns = EventColumns(mapping, self._formats, self._salt, self.notes)
        for table in self._joined:
            if table.repeated:
                noun = "row repeats" if table.repeated == 1 else "rows repeat"
                self.notes.texts[f"{table.name}: {table.repeated:,} {noun} another row's key; the first counts"] = None

    @staticmethod
    def name_required(mapping: Mapping) -> set[str]:
        """The shop's columns without which nothing is read."""
        own = {"name", "timestamp"} - mapping.columns.keys() - mapping.constants.keys()
        named = [c for e in (*mapping.columns.values(), *mapping.secrets.values()) for c in e.columns]
        return {*own, *named, *conditions.name_columns(mapping.where)}

    def match_columns(
        self,
        available: Iterable[str],
        where: str,
        file: int = 0,
        *,
        nested: bool = False,
        rare: bool = False,
        exact_numbers: Collection[str] = (),
        hint: str = "",
    ) -> MatchedTable:
        """Match our columns to a table's `available` ones; `where` is the file or table, for messages.

        `file` is its number in the command. With `nested`, columns may hold objects; with `rare`, later rows may have
        columns of ours that are not in `available`. Texts in the columns `exact_numbers` are numbers as a database
        writes them. Raises `InputError`, with `hint`, where a column is missing: name, timestamp, customer_id or
        client_id, or one that the mapping names.
        """
        return match(self.mapping, available, where, file, self._joined, nested, rare, exact_numbers, hint)

    def parse(self, batch: pl.DataFrame, offset: int, table: MatchedTable, source: str) -> ParsedBatch:
        """Parse `batch`, the rows of `source` from number `offset`; `table` is the result of `match_columns`."""
        rows_read = batch.height
        batch, file_rows, left_out = self._prepare(batch, table)
        rows, rules = self._columns.build(batch, table)
        sales = order_lines.is_sale(rows)
        rows = self._name_people(rows, sales, table)
        if self.mapping.negative_quantity == "refund":
            rows, returns = order_lines.take_returns(rows, sales)
            self.notes.counts["returns"] += returns
        if table.refunds is not None:
            rows = rows.hstack(self._read_refunds(table.refunds, batch, table))
        own_ids = "event_id" in table.columns or "event_id" in self.mapping.constants
        if not own_ids:
            rows = order_lines.add_event_ids(rows, sales, table.file)
        copies = raw_copier(batch.drop(LINE) if table.explode and LINE in batch.columns else batch, 0, table.hashed)
        rules = [*damage_rules(batch), *rules]
        rows = rows.with_columns(batch[c] for c in DAMAGE if c in batch.columns).with_row_index(ROW)
        if table.refunds is not None:
            rows = rows.with_columns(pl.col(ROW).alias(AT))
        valid, rejected = validate_rows(rows, source, copies, (*rules, *TIDY_RULES))
        self._note_rows(rows, valid, rejected, batch, table)
        derived = 0
        if table.refunds is not None:
            refunds = order_lines.derive_refunds(valid, own_ids, table.file)
            bad = [Rule(c.replace("_bad_", "bad_refund_"), pl.col(c)) for c in refunds.columns if c.startswith("_bad_")]
            refunds, bad_refunds = validate_rows(refunds, source, copies, (*bad, *TIDY_RULES))
            rejected = pl.concat([rejected, bad_refunds])
            if self.mapping.negative_quantity == "refund":
                self._late_refunds.add(valid, refunds.select(valid.columns))
            else:
                valid = pl.concat([valid, refunds.select(valid.columns)])
                derived = refunds.height
                self.notes.counts["refunded"] += derived
            derived += bad_refunds.height
        if rejected.height:
            at = rejected["row"] if file_rows is None else file_rows.gather(rejected["row"])
            rejected = rejected.with_columns(at.cast(pl.Int64).alias("row") + offset)
        events = valid.select(c for c in (*EVENT_SCHEMA, FILE) if c in valid.columns)
        # A shop that hands over its catalog no longer sells what is not in it.
        priced = events.with_columns(price=None) if "price" in self.mapping.constants else events
        catalog = event_catalog.from_events(priced, available=self._catalog is None)
        if self._catalog is not None and self._catalog.rows:
            products, bad_products = self._catalog.take()
            catalog = pl.concat([catalog, products], how="diagonal")
            rejected = pl.concat([rejected, bad_products])
            rows_read += bad_products.height
        return ParsedBatch(
            rows_read=rows_read,
            events=redact_queries(events),
            rejected=rejected,
            catalog=catalog,
            links=_build_links(valid),
            left_out=left_out,
            derived=derived,
            columns=table.describe_columns(),
        )

    def with_notes(self, batches: Iterable[ParsedBatch]) -> Iterator[ParsedBatch]:
        """Yield the batches of a command, the last with the notes on all of them."""
        last: ParsedBatch | None = None
        for batch in chain(batches, self._read_late_refunds()):
            if last is not None:
                yield last
            last = batch
        if last is not None:
            yield replace(last, notes=tuple(dict.fromkeys([*last.notes, *self.notes.render()])))

    def _read_late_refunds(self) -> Iterator[ParsedBatch]:
        refunds = self._late_refunds.take()
        if refunds.height:
            self.notes.counts["refunded"] += refunds.height
            events = refunds.select(c for c in (*EVENT_SCHEMA, FILE) if c in refunds.columns)
            yield ParsedBatch(rows_read=0, events=events, derived=refunds.height)

    def read_formats(self, batch: pl.DataFrame, table: MatchedTable) -> dict[str, pl.Series]:
        """The cells of the columns whose format is decided over all rows of a command; see `formats.Scan`."""
        batch, _ = self._join(batch, table)
        cells = {c: evaluate.evaluate(table.columns[c], batch) for c in (*NUMBERS, *TIMES) if c in table.columns}
        # Numbers say nothing of how texts beside them are written.
        for column in cells.keys() & {*NUMBERS}:
            numbers = typed_cells.are_numbers(table.columns[column], batch, table.joined)
            cells[column] = cells[column].set(numbers, None)
        return cells

    def _prepare(
        self, batch: pl.DataFrame, table: MatchedTable
    ) -> tuple[pl.DataFrame, pl.Series | None, dict[str, int]]:
        """Join, fill down and filter; also give each row's number in the batch as read, None where it is its place."""
        batch, missing = self._join(batch, table)
        for name, n in missing.items():
            self.notes.add_partners(name, n)
        if table.filling_down is not None:
            batch, filled = table.filling_down.fill(batch)
            self.notes.add_filled(filled)
        numbers = batch[nested.LINE_NUMBER] if nested.LINE_NUMBER in batch.columns else None
        if not table.conditions:
            return batch, numbers, {}
        damaged = _damaged(batch)
        left_out, keep = dict[str, int](), pl.repeat(True, batch.height, eager=True)
        for column, unfit in conditions.match_all(batch, table.conditions).items():
            out = unfit & ~damaged
            left_out[table.wording[column]] = int(out.sum())
            keep &= ~out
        numbers = (pl.int_range(batch.height, eager=True) if numbers is None else numbers).filter(keep)
        return batch.filter(keep), numbers, {text: n for text, n in left_out.items() if n}

    def _join(self, batch: pl.DataFrame, table: MatchedTable) -> tuple[pl.DataFrame, dict[str, int]]:
        missing = dict[str, int]()
        for joined, on in table.joins:
            batch, missing[joined.name] = joined.join(batch, on)
        return batch, missing

    def _name_people(self, rows: pl.DataFrame, sales: pl.Series, table: MatchedTable) -> pl.DataFrame:
        """Say whose the rows are that name nobody: the order's, the e-mail address's, or a guest's."""
        if rows["customer_id"].null_count() < rows.height and not _some_nobody(rows):
            table.people.remember(rows)
            return rows
        rows, filled = table.people.fill(rows)
        rows, known = order_lines.name_by_email(rows)
        rows, guests = order_lines.name_guests(rows, sales)
        self.notes.counts.update({"people": filled, "email": known, "guests": guests})
        return rows

    def _read_refunds(self, refunds: Refunds, batch: pl.DataFrame, table: MatchedTable) -> pl.DataFrame:
        columns = [conditions.match(batch, refunds.where).alias("_refunded")]
        for ours in ("timestamp", "quantity", "price"):
            expression = getattr(refunds, ours)
            if expression is None:
                continue
            cells = evaluate.evaluate(expression, batch)
            if ours == "timestamp":
                values = self._formats.parse_time(ours, cells)[0]
            else:
                exact = partial(_are_numbers, expression, batch, table)
                values = self._formats.parse_number(ours, cells, exact)[0].abs()
            bad = coerce.is_filled(cells) & values.is_null()
            columns += [values.alias(f"_refund_{ours}"), bad.alias(f"_bad_{ours}")]
        return pl.DataFrame(columns)

    def _note_rows(
        self, rows: pl.DataFrame, valid: pl.DataFrame, rejected: pl.DataFrame, batch: pl.DataFrame, table: MatchedTable
    ) -> None:
        counts = self.notes.counts
        purchases = (rows["name"] == "purchase").fill_null(False)
        if "_refunded" in rows.columns:
            purchases &= ~rows["_refunded"]
        if FILE in valid.columns:
            baskets = valid[FILE].is_not_null() & valid["order_id"].is_null()
            counts["baskets"] += int(baskets.sum())
        telling = [c for c in batch.columns if c not in table.mapped and c not in table.hashed and is_telling(c)]
        self.notes.add_statuses(batch, telling, purchases)
        if not rejected.height:
            return
        reasons = dict(rejected["reason"].value_counts().iter_rows())
        counts["scientific"] += reasons.get("scientific_id", 0)
        if not self._salt and "customer_id" in table.columns:
            counts["unsalted"] += reasons.get("email_as_id", 0)
        if self.mapping.negative_quantity == "reject" and {"negative_price", "bad_quantity"} & reasons.keys():
            negative = purchases & ((rows["quantity"] < 0) | (rows["price"] < 0)).fill_null(False)
            counts["negative"] += int(negative.sum())


def _are_numbers(expression: Expression, batch: pl.DataFrame, table: MatchedTable, rows: pl.Series) -> pl.Series:
    return typed_cells.are_numbers(expression, batch[rows], table.joined)


def _some_nobody(rows: pl.DataFrame) -> bool:
    return bool((rows["customer_id"].is_null() & rows["client_id"].is_null()).any())


def _damaged(batch: pl.DataFrame) -> pl.Series:
    marks = [rule.broken for rule in damage_rules(batch)]
    if not marks:
        return pl.repeat(False, batch.height, eager=True)
    return batch.select(pl.any_horizontal(marks).fill_null(False)).to_series()


def _build_links(valid: pl.DataFrame) -> pl.DataFrame:
    # Who refused consent is not to be recognized by address or card either.
    tokens: dict[LinkKind, str] = {"email": EMAIL, "payment": PAYMENT}
    present = {kind: column for kind, column in tokens.items() if column in valid.columns}
    linkable = valid.filter(pl.col("consent").ne_missing(False)) if present else valid.clear()
    return pii.build_links(linkable, {kind: linkable[column] for kind, column in present.items()})


def redact_queries(events: pl.DataFrame) -> pl.DataFrame:
    """Redact e-mail addresses in search texts and answers: people type them into the search box and into chats."""
    filled = [
        c for c in ("query", "question", "answer") if c in events.columns and events[c].null_count() < events.height
    ]
    return events.with_columns(
        pl.when(pl.col(c).str.contains(pii.AT)).then(pii.redact(pl.col(c))).otherwise(pl.col(c)).alias(c)
        for c in filled
    )
