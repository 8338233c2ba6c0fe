"""JSON events: what sources share that read one JSON object per event, each with any number of items."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.common import ids
from features.common.counts import count
from features.event_log.ingestion.ingest import ParsedBatch
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, ROW, TIDY_RULES, Rule, conform
from features.sources.parsing.catalog import event_catalog
from features.sources.parsing.cells import numbers
from features.sources.parsing.events import mapped
from features.sources.parsing.files import readers
from features.sources.parsing.rows.validate import damage_rules, validate_rows
from features.sources.parsing.text_files import json_lines

_KINDS: dict[str, ids.IdKind] = {**ids.ID_KINDS, "previous": "client"}
_NO_NUMBERS = ["", *sorted(ids.NULL_WORDS)]
_SPOILED = "_spoiled"  # whether an id has lost digits
FOREIGN = "_foreign"  # the name of an event that the log has no name for, else null
CATALOG_GROUPS = (("price", "currency"), ("title",), ("category",), ("brand",))


def read_events(path: Path, schema: json_lines.Schema, rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (number of its first line, lines as `json_lines.parse` gives them) for at most `rows` lines each."""
    offset = 0
    for block in readers.read_lines(path):
        for start in range(0, len(block), rows):
            lines = block[start : start + rows]
            yield offset, json_lines.parse(lines, schema)
            offset += len(lines)


def assemble(
    rows: pl.DataFrame, lines: pl.DataFrame, source: str, rules: Sequence[Rule] = (),
    links: pl.DataFrame | None = None,
) -> ParsedBatch:  # fmt: skip
    """Assemble a `ParsedBatch` from `rows`, events × items, and `lines`, the batch they come from; both have `ROW`.

    `lines` are in the order of `ROW`.

    An item that one event names more than once is one row; of its rows those that break a rule are not
    merged but rejected. Of an event that the log has no name for only the name is copied: there may be many, and
    large ones.
    """

    def raw(numbers: pl.Series) -> pl.Series:
        line = lines[lines[ROW].search_sorted(numbers)]
        unparsed = pl.struct(json_lines.UNPARSED).struct.json_encode()
        foreign = pl.struct(pl.col(FOREIGN).alias("event")).struct.json_encode()
        return line.select(
            pl.when(pl.col(json_lines.UNPARSED).is_not_null()).then(unparsed)
            .when(pl.col(FOREIGN).is_not_null()).then(foreign)
            .otherwise(json_lines.LINE).alias("raw")
        ).to_series()  # fmt: skip

    foreign = Rule("not_a_shop_event", pl.col(FOREIGN).is_not_null())
    spoiled = [found for c in _KINDS if c in rows.columns and (found := ids.is_scientific(rows[c])).any()]
    if spoiled:
        rows = rows.with_columns(pl.any_horizontal(spoiled).alias(_SPOILED))
        rules = (*rules, Rule("scientific_id", pl.col(_SPOILED)))
    rows, merged = merge_per_item(rows, (*rules, *TIDY_RULES))
    marks = lines.select(ROW, json_lines.UNPARSED)
    rows = rows.join(marks, on=ROW, how="left", maintain_order="left")
    valid, rejected = validate_rows(rows, source, raw, (*damage_rules(rows), foreign, *rules, *TIDY_RULES))
    events = conform(valid, EVENT_SCHEMA)
    item_values = valid.select(c for c in ("item_id", "timestamp", "price", "currency", "title", "category", "brand"))
    return ParsedBatch(
        rows_read=rows.height + merged,
        events=mapped.redact_queries(events),
        rejected=rejected,
        catalog=event_catalog.from_events(item_values, CATALOG_GROUPS),
        merged=merged,
        links=pl.DataFrame(schema=LINK_SCHEMA) if links is None else links,
    )


def merge_per_item(rows: pl.DataFrame, rules: Sequence[Rule] = ()) -> tuple[pl.DataFrame, int]:
    """Merge rows of one line and item: quantities added, the price their mean. Returns (rows, number merged away).

    Rows that break one of `rules` stay as they are.
    """
    key = [ROW, "item_id"]
    repeated = pl.col("item_id").is_not_null() & (pl.len().over(key) > 1)
    several = rows.filter(repeated)
    if several.is_empty():
        return rows, 0
    # A bad quantity or price would be lost in the sum.
    broken = several.select(_broken=pl.any_horizontal(pl.lit(False), *(r.broken.fill_null(False) for r in rules)))
    several = several.hstack(broken)
    rest = pl.concat([rows.filter(~repeated), several.filter("_broken").drop("_broken")])
    several = several.filter(~pl.col("_broken"))
    price, quantity = pl.col("price"), pl.col("quantity")
    paid = pl.when(price.is_not_null() & quantity.is_not_null())
    mean = (paid.then(price * quantity)).sum() / (paid.then(quantity)).sum()
    first = [pl.col(c).first() for c in rows.columns if c not in (*key, "price", "quantity")]
    one = several.group_by(key, maintain_order=True).agg(
        *first,
        pl.when(quantity.count() > 0).then(quantity.sum()).alias("quantity"),
        pl.when((price.min() == price.max()) | mean.is_nan()).then(price.first()).otherwise(mean).alias("price"),
    )
    return pl.concat([rest, one.select(rows.columns)]).sort(ROW, maintain_order=True), (several.height - one.height)


class IdCleaner:
    """Normalizes the ids of events, and counts the words that stood where a customer should."""

    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        self.named_items = 0

    def clean(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Normalize those of the id columns that `frame` has."""
        cleaned = []
        for column, kind in _KINDS.items():
            if column in frame.columns:
                cleaned.append(ids.normalize_ids(frame[column], kind))
                if column == "customer_id":
                    self.words.update(ids.placeholder_counts(frame[column], cleaned[-1]))
        return frame.with_columns(cleaned)

    def name_items(self, item_ids: pl.Series, names: pl.Series) -> pl.Series:
        """Normalize the ids of items; an item without one has its name as its id, which is counted."""
        item_ids = ids.normalize_ids(item_ids, "item")
        names = ids.normalize_ids(names, "item")
        self.named_items += int((item_ids.is_null() & names.is_not_null()).sum())
        return item_ids.zip_with(item_ids.is_not_null(), names)

    def notes(self) -> tuple[str, ...]:
        """What the words were, for the person who runs the command."""
        named = f"{count(self.named_items, 'item')} of events had no item_id: the item_name is taken as it"
        words = (
            f"1 event has {word!r} as the customer, which is no id: it has no customer"
            if n == 1
            else f"{n:,} events have {word!r} as the customer, which is no id: they have no customer"
            for word, n in sorted(self.words.items())
        )
        return (*words, *([named] if self.named_items else []))


def non_empty(column: str | pl.Expr) -> pl.Expr:
    """Strip a text of surrounding spaces; null where it is empty or GA4's "(not set)"."""
    text = (pl.col(column) if isinstance(column, str) else column).str.strip_chars()
    return pl.when(~text.is_in(["", "(not set)"])).then(text)


def read_amounts(rows: pl.DataFrame) -> pl.DataFrame:
    """Read the texts `_quantity` and `_price` of `rows` as the columns quantity and price, and fill in currency.

    Texts are read as JSON writes numbers; others as shops write amounts, as 19,99 or €19.99.
    """
    columns: list[pl.Series | pl.Expr] = []
    for name in ("quantity", "price"):
        texts = rows[f"_{name}"].str.strip_chars()
        texts = texts.set(texts.str.to_lowercase().is_in(_NO_NUMBERS), None)
        number = texts.cast(pl.Float64, strict=False)
        number = number.set(~number.is_finite(), None)
        written = (texts.is_not_null() & number.is_null()).arg_true()
        if written.len():
            amounts, currencies = numbers.split_amount(texts.gather(written))
            number = number.scatter(written, amounts)
            if name == "price":
                named = pl.Series("currency", [None], pl.String).new_from_index(0, rows.height)
                columns.append(pl.coalesce("currency", named.scatter(written, currencies)).alias("currency"))
        columns += [texts.alias(f"_{name}"), number.alias(name)]
    return rows.with_columns(columns)


def amount_rules() -> tuple[Rule, ...]:
    """The rules for amounts that cannot be read, in rows of `read_amounts`."""
    unread = {c: pl.col(f"_{c}").is_not_null() & pl.col(c).is_null() for c in ("quantity", "price")}
    return tuple(
        rule
        for c, broken in unread.items()
        for rule in (
            Rule(f"ambiguous_{c}", broken & pl.col(f"_{c}").map_batches(numbers.is_ambiguous, pl.Boolean)),
            Rule(f"bad_{c}", broken),
        )
    )


def to_number(text: pl.Expr) -> pl.Expr:
    """Parse a text as float64; null where it is no number."""
    return text.str.strip_chars().cast(pl.Float64, strict=False)
