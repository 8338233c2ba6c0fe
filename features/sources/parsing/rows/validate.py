"""Validation: splits rows into valid ones and rejected ones, the latter with reason and a redacted copy."""

from collections.abc import Callable, Sequence

import polars as pl

from features.event_log.consent import REFUSED
from features.event_log.schema import RAW, REJECTED_SCHEMA, ROW, TIDY_RULES, Rule, validate
from features.sources.parsing.cells import pii
from features.sources.parsing.files.readers import ADDED, LINE, RAGGED, REPEATED, UNCLOSED, UNPARSED
from features.sources.parsing.rows.nested import LINE_NUMBER, NO_ENTRIES

DAMAGE = {
    UNPARSED: Rule("bad_json", pl.col(UNPARSED).is_not_null()),
    UNCLOSED: Rule("unclosed_quote", pl.col(UNCLOSED).is_not_null()),
    REPEATED: Rule("repeated_header", pl.col(REPEATED).is_not_null()),
    RAGGED: Rule("ragged_row", pl.col(RAGGED).is_not_null()),
    NO_ENTRIES: Rule("no_entries", pl.col(NO_ENTRIES)),  # the list that the mapping explodes is empty or missing
}

NO_ADDRESS = ("customer_id", "client_id", "event_id", "session_id", "order_id", "list_id", "source")

RawCopies = Callable[[pl.Series], pl.Series]  # file-wide row numbers → the rows as JSON objects


def validate_rows(
    rows: pl.DataFrame, source: str, raw: RawCopies, rules: Sequence[Rule] = TIDY_RULES
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split `rows` into (those that keep every rule, without the column `ROW`; the others in `REJECTED_SCHEMA`).

    `rows` has a column `ROW` with the number of the row in `source`, from 0; `raw` gives copies of rejected rows.
    A row with an e-mail address in one of the columns `NO_ADDRESS` is rejected too: addresses are not stored.
    """
    if suspects := [c for c in NO_ADDRESS if c in rows.columns and _has_at(rows[c])]:
        rules = (*rules, Rule("email_as_id", pl.any_horizontal(pii.contains_address(c) for c in suspects)))
    any_broken = rows.select(pl.any_horizontal(r.broken.fill_null(False) for r in rules).any()).item()
    if not any_broken:
        return rows.drop(ROW), pl.DataFrame(schema=REJECTED_SCHEMA)
    valid, rejected = validate(rows, source, rules)
    copies = pl.DataFrame({"raw": raw(rejected["row"])}).select(pii.redact(pl.col("raw")))
    rejected = rejected.with_columns(copies["raw"])
    if "consent" in rows.columns and not rows["consent"].all():  # a copy would hold ids
        refused = rejected["row"].is_in(rows.filter(REFUSED)[ROW].implode())
        rejected = rejected.with_columns(pl.when(~refused).then("raw").alias("raw"))
    return valid.drop(ROW, RAW), rejected


def _has_at(texts: pl.Series) -> bool:
    if texts.dtype == pl.Categorical:  # few texts, each in many rows
        texts = texts.unique().cast(pl.String)
    return bool(texts.dtype == pl.String and texts.str.contains(pii.AT).any())


def damage_rules(batch: pl.DataFrame) -> list[Rule]:
    """The rules for rows of a file that could not be parsed, by the columns that `batch` marks them in."""
    return [rule for column, rule in DAMAGE.items() if column in batch.columns]


def raw_copier(batch: pl.DataFrame, offset: int, secret_columns: Sequence[str] = ()) -> RawCopies:
    """Return a function that copies rows of `batch`, whose first row is row `offset` of the file, as JSON.

    Cells in the columns `secret_columns` are masked, and so is a row as a whole where they cannot be told apart.
    """

    def raw(numbers: pl.Series) -> pl.Series:
        rows = _decode_bytes(pii.mask_columns(batch[numbers - offset], secret_columns))
        plain = [
            pl.col(c) if t.is_nested() or t.is_integer() or t.is_float() or t == pl.Boolean
            # Decimal and time values have no JSON of their own.
            else pl.col(c).dt.to_string("iso") if t == pl.Duration
            else pl.col(c).cast(pl.String, strict=False)
            for c, t in rows.schema.items()
            if c not in (*ADDED, LINE_NUMBER, NO_ENTRIES)
        ]  # fmt: skip
        copy = pl.struct(plain).struct.json_encode() if plain else pl.lit("{}")
        if UNPARSED in rows.columns:
            line = pl.lit(pii.MASK) if secret_columns else pl.col(UNPARSED)
            intact = copy if secret_columns or LINE not in rows.columns else pl.col(LINE)
            copy = (
                pl.when(pl.col(UNPARSED).is_null())
                .then(intact)
                .otherwise(pl.struct(line.alias(UNPARSED)).struct.json_encode())
            )
        if RAGGED in rows.columns and secret_columns:
            lost = pl.struct(pl.lit(pii.MASK).alias(RAGGED)).struct.json_encode()
            copy = pl.when(pl.col(RAGGED).is_null()).then(copy).otherwise(lost)
        for column in (UNCLOSED, REPEATED):  # lines that have no cells
            if column in rows.columns:
                line = pl.lit(pii.MASK) if secret_columns else pl.col(column)
                whole = pl.struct(line.alias(column)).struct.json_encode()
                copy = pl.when(pl.col(column).is_null()).then(copy).otherwise(whole)
        return rows.select(copy.alias("raw")).to_series()

    return raw


def _decode_bytes(rows: pl.DataFrame) -> pl.DataFrame:
    """Decode columns of bytes, in which there may be anything, as UTF-8."""
    return rows.with_columns(
        pl.Series(c, [None if cell is None else cell.decode(errors="replace") for cell in rows[c]], dtype=pl.String)
        for c, t in rows.schema.items()
        if t == pl.Binary
    )
