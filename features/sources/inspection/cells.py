"""Cells that ask for a key of the mapping: a status, empty cells of later lines, formats that cannot be told."""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from features.sources.inspection.words import split_words
from features.sources.parsing.cells import coerce, numbers, timestamps

_NO_SALE = """
cancel canceled cancelled cancelada cancelado annule annulee annulliert annullato annullata geannuleerd anulowane
anulowano storniert storno stornee failed failure fehlgeschlagen echoue fallido fallito mislukt pending ausstehend
offen unpaid unbezahlt impaye pendiente oczekujace hold holded onhold draft trash void voided authorized expired
abgelaufen declined abgelehnt refuse rechazado rejected abandoned incomplete fraud awaiting attente attesa wartend
error blocked denied
"""
_REFUNDED = """
refunded refund erstattet erstattung ruckerstattet rembourse remboursee reembolsado reembolsada rimborsato rimborsata
terugbetaald zwrocone zwrot returned retourniert retour chargeback
"""
_PARTLY = "partially partial partly teilweise partiellement parcialmente parzialmente"


def is_no_sale(status: str) -> bool:
    """Whether a word for the state of an order says that nothing was sold."""
    words = set(split_words(status))
    return bool(words & set(_NO_SALE.split())) or {"not", "paid"} <= words


def is_refunded(status: str) -> bool:
    """Whether a word for the state of an order says that all of it was paid back."""
    words = set(split_words(status))
    partly = words & set(_PARTLY.split())
    return bool(words & set(_REFUNDED.split())) and not partly


def find_fill_down(table: pl.DataFrame, order: str, items: Sequence[str], columns: Iterable[str]) -> list[str]:
    """The columns that are empty in later lines of an order and filled in its first one.

    Where later lines lack the order's own id too, it is among them. A row without any of `items`, such as a sum at the
    end, is no line.
    """
    if items:
        named = pl.DataFrame([coerce.is_filled(table[c]).alias(c) for c in items])
        table = table.filter(named.select(pl.any_horizontal(pl.all())).to_series())
    filled = {c: coerce.is_filled(table[c]) for c in dict.fromkeys([order, *columns])}
    ids = pl.select(
        pl.when(pl.lit(filled[order])).then(pl.lit(table[order].cast(pl.String))).forward_fill()
    ).to_series()
    later = (ids == ids.shift(1)).fill_null(False)
    matches = []
    for column, has in filled.items():
        empty = ~has
        if not empty.any() or not has.any():
            continue
        above = pl.select(pl.when(pl.lit(has)).then(pl.lit(ids)).forward_fill()).to_series()
        explained = empty & later & (above == ids).fill_null(False)
        if int(explained.sum()) >= 0.9 * int(empty.sum()):
            matches.append(column)
    if matches == [order]:
        return []  # rows without an id are no later lines unless something else says so
    return matches


def children_are_free(table: pl.DataFrame, parent: str, price: str | None) -> bool:
    """Whether lines that have a parent cost nothing, as the simple products of a configurable one."""
    children = table.filter(coerce.is_filled(table[parent]) & (table[parent].cast(pl.String) != "0"))
    if children.is_empty() or price is None:
        return False
    paid = numbers.parse(children[price], ".")
    return bool((paid == 0).sum() >= 0.5 * children.height)


def unclear_dates(cells: pl.Series) -> bool:
    """Whether day and month of some dates can be told neither from themselves nor from the others."""
    return bool(timestamps.is_ambiguous(cells).any()) and timestamps.evidence(cells) == (0, 0)


def unclear_decimals(table: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether the decimal mark of some numbers can be told neither from themselves nor from the others."""
    if not any(numbers.is_ambiguous(table[c]).any() for c in columns):
        return False
    seen = [numbers.evidence(table[c]) for c in columns]
    return not any(points or commas for points, commas in seen)


def has_offsets(cells: pl.Series) -> bool:
    """Whether times say their zone, or are none that need one: dates, epochs, times of a zone."""
    if isinstance(cells.dtype, pl.Datetime):
        return cells.dtype.time_zone is not None
    texts = cells.cast(pl.String, strict=False).drop_nulls().str.strip_chars()
    timed = texts.filter(texts.str.contains(r"\d:\d\d"))
    zoned = timed.str.contains(r"(?:[zZ]|UTC|GMT|[+-]\d\d:?\d\d|[+-]\d\d)(?:\[.*\])?$")
    return timed.is_empty() or bool(zoned.all())


def currencies_in(cells: pl.Series) -> list[tuple[str, int]]:
    """The codes of currencies in cells of amounts, the most frequent first."""
    _, codes = numbers.split_amount(cells, ".")
    counts: list[Any] = (
        codes.drop_nulls().alias("code").value_counts().sort("count", "code", descending=[True, False]).rows()
    )
    return [(str(code), int(n)) for code, n in counts]
