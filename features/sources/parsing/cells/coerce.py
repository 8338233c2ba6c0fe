"""Coercion of cells to the event log's types; a cell that cannot be read as its type is null."""

from concurrent.futures import ThreadPoolExecutor

import polars as pl

from features.common import threads
from features.common.currencies import parse_currency
from features.common.ids import ID_KINDS, INVISIBLE, IdKind, normalize_ids
from features.event_log.catalog import are_vectors
from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP
from features.sources.parsing.cells import numbers, timestamps

# Texts in which the words for nothing say nothing; somebody may have searched for nil.
_LABELS = ("list_id", "recommendation_id", "source", "device", "country")
_YES_NO = dict.fromkeys(("true", "1", "yes", "t", "y"), True) | dict.fromkeys(("false", "0", "no", "f", "n"), False)
# Google's product feed, Schema.org and shops' own; spaces, hyphens and _ do not count.
_AVAILABLE = (
    "instock available availablefororder preorder presale backorder onbackorder limitedavailability onlineonly "
    "instoreonly on onsale active enabled published visible "
    "ja oui si sí sim tak ano da verfügbar lieferbar auflager lagernd disponible disponibile disponível enstock "
    "dostupné skladem dostępny opvoorraad ilager pålager"
)
_UNAVAILABLE = (
    "outofstock unavailable notavailable discontinued soldout notinstock nostock outofprint off sold archived "
    "inactive disabled draft unpublished hidden private "
    "nein non não nie ne nee nichtverfügbar nichtlieferbar nichtauflager ausverkauft épuisé "
    "indisponible rupturedestock agotado nodisponible esaurito nondisponibile esgotado indisponível vyprodáno "
    "niedostępny uitverkocht slutsåld"
)
AVAILABILITY_WORDS = _YES_NO | dict.fromkeys(_AVAILABLE.split(), True) | dict.fromkeys(_UNAVAILABLE.split(), False)


def to_text(column: str) -> pl.Expr:
    """Strip `column` as strings of surrounding spaces; empty ones are null."""
    plain = pl.col(column).cast(pl.String, strict=False).str.strip_chars()
    return pl.when(plain != "").then(plain)


def to_ids(values: pl.Series, kind: IdKind = "item") -> pl.Series:
    """Normalize `values` as ids of `kind`; words such as NULL are null."""
    return normalize_ids(values, kind)


def to_event_columns(columns: dict[str, pl.Series], zone: str = "UTC") -> list[pl.Series]:
    """Coerce `columns` of the event log to its types, each under its name; several in parallel."""
    with ThreadPoolExecutor(threads.THREADS) as pool:
        return list(pool.map(lambda c: to_dtype(columns[c], c, EVENT_SCHEMA[c], zone), columns))


def to_dtype(values: pl.Series, name: str, dtype: pl.DataType, zone: str) -> pl.Series:
    """Coerce `values` to `dtype` under `name`; times without an offset are local to `zone`."""
    if isinstance(dtype, pl.List):
        return to_vectors(values).alias(name)
    if values.dtype == dtype and dtype != pl.String:
        if dtype.is_float():
            return values.fill_nan(None).alias(name)
        return values.alias(name) if not isinstance(dtype, pl.Categorical) else to_ids(values).alias(name)
    if dtype == TIMESTAMP:
        return timestamps.parse(values, zone).alias(name)
    if name == "available":
        return parse_availability(values).alias(name)
    if name == "currency":
        return parse_currency(values).alias(name)
    if dtype == pl.Boolean:
        answer = values.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
        answer = answer.str.strip_suffix(".0")
        return answer.replace_strict(_YES_NO, default=None, return_dtype=pl.Boolean).alias(name)
    if dtype.is_numeric():
        number = numbers.parse(_decode_texts(values))
        if dtype.is_integer():
            return number.set(number != number.floor(), None).cast(dtype, strict=False).alias(name)
        return number.alias(name)
    if name in ID_KINDS or name in _LABELS:
        values = values.cast(dtype) if isinstance(dtype, pl.Categorical) and values.dtype == pl.String else values
        return normalize_ids(values, ID_KINDS.get(name, "item")).cast(dtype).alias(name)
    return values.alias(name).to_frame().select(to_text(name)).to_series().cast(dtype).alias(name)


def parse_availability(values: pl.Series) -> pl.Series:
    """Read words such as in stock, preorder or sold out as whether an item can be had; null for any other.

    Numbers are pieces in stock.
    """
    if values.dtype == pl.Boolean:
        return values
    texts = values.cast(pl.String, strict=False)
    distinct = texts.unique().drop_nulls()
    plain = distinct.str.strip_chars(INVISIBLE).str.to_lowercase().str.replace(r"^https?://schema\.org/", "")
    pieces = plain.set(~plain.str.contains(r"^-?[0-9]").fill_null(False), None).cast(pl.Float64, strict=False)
    word = plain.str.replace_all(r"[\s_-]+", "")
    availability = word.replace_strict(AVAILABILITY_WORDS, default=None, return_dtype=pl.Boolean)
    availability = availability.zip_with(pieces.is_null(), pieces > 0)
    return texts.replace_strict(distinct, availability, default=None, return_dtype=pl.Boolean).alias(values.name)


def to_vectors(values: pl.Series) -> pl.Series:
    """Coerce lists or arrays of numbers, or texts that hold a JSON array of numbers, to lists of float32.

    Null where that is empty or holds anything but finite numbers of float32.
    """
    values = _decode_texts(values)
    nulls = pl.Series(values.name, [None] * values.len(), pl.List(pl.Float32))
    if values.dtype == pl.String:
        plain = values.str.strip_chars()
        inside = plain.str.extract(r"(?s)^\[(.*)\]$")
        values = inside.str.split(",").list.eval(pl.element().str.strip_chars().cast(pl.Float64, strict=False))
    if not isinstance(values.dtype, pl.List | pl.Array) or not values.dtype.inner.is_numeric():
        return nulls
    lists = values.cast(pl.List(pl.Float32))
    return nulls.zip_with(~are_vectors(lists).fill_null(False), lists)


def is_filled(values: pl.Series) -> pl.Series:
    """Whether each cell holds anything: is neither null, NaN, blank text nor a word for nothing such as NULL."""
    values = _decode_texts(values)
    if values.dtype.is_float():
        return values.is_not_nan().fill_null(False)
    if values.dtype != pl.String:
        return values.is_not_null()
    return normalize_ids(values, "item").is_not_null()


def _decode_texts(values: pl.Series) -> pl.Series:
    """Convert dictionary-encoded texts to plain ones; other values stay as they are."""
    return values.cast(pl.String) if isinstance(values.dtype, pl.Categorical | pl.Enum) else values
