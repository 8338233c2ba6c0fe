"""Evaluation of a mapping's expressions: our column's cells from those of a shop's columns."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import polars as pl

from features.common import ids
from features.common.ids import ID_KINDS
from features.sources.parsing.cells import pii
from features.sources.parsing.mapping.expressions import ColumnPart, Expression, HashedPart, TemplatePart


@dataclass
class IdCells:
    """The ids of a column: `scientific` marks those that a spreadsheet has spoiled, None if none is.

    `tokens` are hashes of the e-mail addresses among the cells, None if there is none; `placeholders` counts the words
    that stand for no id.
    """

    values: pl.Series
    scientific: pl.Series | None = None
    tokens: pl.Series | None = None
    placeholders: Counter[str] = field(default_factory=Counter)
    addresses: int = 0  # cells that held an e-mail address and are its hash now


def evaluate(expression: Expression, rows: pl.DataFrame) -> pl.Series:
    """The cells of a column that is no id: those of a single column as they are, else texts, empty ones null."""
    if len(expression.parts) == 1 and isinstance(expression.parts[0], ColumnPart):
        return _read_cells(rows, expression.parts[0].column)
    if all(isinstance(part, ColumnPart) and rows[part.column].dtype.is_numeric() for part in expression.parts):
        return _coalesce([_drop_nan(rows[column]) for column in expression.columns])
    parts = [_evaluate_text(part, rows) for part in expression.parts]
    return _coalesce(parts)


def _drop_nan(numbers: pl.Series) -> pl.Series:
    return numbers.fill_nan(None) if numbers.dtype.is_float() else numbers


def evaluate_ids(
    expression: Expression, rows: pl.DataFrame, ours: str, placeholders: Collection[str] | None, salt: bytes
) -> IdCells:
    """The ids of column `ours`. Addresses in place of customers are hashed where there is a `salt`."""
    kind = ID_KINDS[ours]
    result = IdCells(pl.Series(dtype=pl.String))
    parts: list[pl.Series] = []
    for part in expression.parts:
        if isinstance(part, ColumnPart):
            raw = _read_cells(rows, part.column)
            values, spoiled = ids.normalize_and_check(raw, kind, placeholders)
            result.placeholders.update(ids.placeholder_counts(raw, values))
            if ours == "customer_id" and salt:
                values = _hash_addresses(values, salt, result)
            if spoiled is not None:
                result.scientific = spoiled if result.scientific is None else result.scientific | spoiled
        elif isinstance(part, HashedPart):
            values = _hash(rows[part.column], salt, result)
        else:
            values = ids.normalize_ids(_fill_template(part, rows), kind, placeholders)
        parts.append(values)
    result.values = _coalesce(parts) if len(parts) > 1 else parts[0]
    return result


def _read_cells(rows: pl.DataFrame, column: str) -> pl.Series:
    """A column's cells. Empty texts are null: where every cell is quoted, most are, and null needs no more work."""
    cells = rows[column]
    if cells.dtype != pl.String:
        return cells
    empty = cells == ""
    return cells.set(empty, None) if empty.any() else cells


def hash_columns(expression: Expression, rows: pl.DataFrame, kind: pii.LinkKind, salt: bytes) -> pl.Series:
    """Salted hashes of the first cell that is not empty, null where all are; placeholder words are no address."""
    return _coalesce([_hash_cells(rows[column], kind, salt) for column in expression.columns])


def _hash_cells(cells: pl.Series, kind: pii.LinkKind, salt: bytes) -> pl.Series:
    return pii.hash_tokens(ids.normalize_ids(cells, "customer"), kind, salt)


def _hash_addresses(values: pl.Series, salt: bytes, result: IdCells) -> pl.Series:
    texts = values.cast(pl.String)
    if not texts.str.contains("@", literal=True).any():
        return values
    address = texts.str.contains(pii.WHOLE_ADDRESS).fill_null(False)
    if not address.any():
        return values
    tokens = pii.hash_tokens(texts.set(~address, None), "email", salt)
    result.addresses += int(address.sum())
    _add_tokens(result, tokens)
    return texts.zip_with(~address, pii.EMAIL_CUSTOMER + tokens)


def _hash(cells: pl.Series, salt: bytes, result: IdCells) -> pl.Series:
    """Hash cells: addresses as `email:…`, the same for whoever has it, anything else as `hash:…`."""
    texts = ids.normalize_ids(cells, "customer").cast(pl.String)
    address = texts.str.contains("@", literal=True).fill_null(False)
    tokens = pii.hash_tokens(texts.set(~address, None), "email", salt)
    others = pii.hash_tokens(texts.set(address, None), "payment", salt)
    _add_tokens(result, tokens)
    return (pii.EMAIL_CUSTOMER + tokens).zip_with(address, "hash:" + others)


def _add_tokens(result: IdCells, tokens: pl.Series) -> None:
    if tokens.null_count() < tokens.len():
        result.tokens = tokens if result.tokens is None else _coalesce([result.tokens, tokens])


def _evaluate_text(part: ColumnPart | TemplatePart | HashedPart, rows: pl.DataFrame) -> pl.Series:
    if isinstance(part, TemplatePart):
        return _fill_template(part, rows)
    # Words such as NULL are empty cells here: the next column counts.
    return ids.normalize_ids(rows[part.column], "item").cast(pl.String)


def _fill_template(part: TemplatePart, rows: pl.DataFrame) -> pl.Series:
    texts: list[pl.Expr] = []
    columns: list[pl.Series] = []
    for n, piece in enumerate(part.pieces):
        if n % 2:
            columns.append(ids.normalize_ids(rows[piece], "event").cast(pl.String).alias(f"c{n}"))
            texts.append(pl.col(f"c{n}"))
        elif piece:
            texts.append(pl.lit(piece))
    return pl.DataFrame(columns).select(pl.concat_str(texts)).to_series()


def _coalesce(parts: list[pl.Series]) -> pl.Series:
    if len({part.dtype for part in parts}) > 1 and not all(part.dtype.is_numeric() for part in parts):
        parts = [part.cast(pl.String) for part in parts]
    return pl.DataFrame([p.alias(f"p{n}") for n, p in enumerate(parts)]).select(pl.coalesce(pl.all())).to_series()
