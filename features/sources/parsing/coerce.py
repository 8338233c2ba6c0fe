"""Coercion of cells to the event log's types; a cell that cannot be read as its type is null."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl

from features.common import threads
from features.event_log.catalog import are_vectors
from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP
from features.sources.parsing import timestamps

_YES_NO = dict.fromkeys(("true", "1", "yes", "t", "y"), True) | dict.fromkeys(("false", "0", "no", "f", "n"), False)


def to_text(column: str) -> pl.Expr:
    """Strip `column` as strings of surrounding spaces; empty ones are null."""
    plain = pl.col(column).cast(pl.String, strict=False).str.strip_chars()
    return pl.when(plain != "").then(plain)


def to_ids(values: pl.Series) -> pl.Series:
    """Convert `values` as `to_text` does; an id that a table stored as a float (13085.0) is a whole number again."""
    frame = values.alias("id").to_frame()
    if values.dtype.is_integer():
        return values.cast(pl.String)
    if values.dtype.is_float():
        whole = pl.col("id").cast(pl.Int64, strict=False)
        number = pl.when(whole == pl.col("id")).then(whole.cast(pl.String)).otherwise(pl.col("id").cast(pl.String))
        return frame.select(number.alias(values.name)).to_series()
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        # Few texts, many rows: each text is cleaned once.
        texts = values.unique().drop_nulls()
        clean = texts.cast(pl.String).alias("id").to_frame().select(to_text("id")).to_series()
        if texts.cast(pl.String).eq_missing(clean).all():
            return values if isinstance(values.dtype, pl.Categorical) else values.cast(pl.String)
    if values.dtype == pl.String and _is_clean(values):
        return values
    return frame.select(to_text("id")).to_series().alias(values.name)


def _is_clean(values: pl.Series) -> bool:
    """Whether no text is empty or may have a space at either end: then `to_text` changes nothing.

    Reads two bytes of each text from Arrow's buffers, which is several times faster than stripping them all.
    """
    array = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    if str(array.type) != "string_view" or array.offset:
        return False
    _, views, *data = array.buffers()
    view = np.frombuffer(views, np.uint8)[: 16 * len(array)].reshape(-1, 16)
    if values.null_count():
        view = view[values.is_not_null().to_numpy()]
    parts = view.view("<u4")  # length, then the text itself up to 12 bytes, else its start, buffer and place
    size = parts[:, 0]
    if not size.all():
        return False
    flat = view.reshape(-1)
    place = np.arange(0, flat.size, 16)
    place += np.where(size <= 12, size, 1) + 3
    last = flat[place]
    far = np.flatnonzero(size > 12)
    if far.size:
        buffer, end = parts[far, 2], parts[far, 3] + size[far] - 1
        for n in np.unique(buffer):
            here = buffer == n
            last[far[here]] = np.frombuffer(data[n], np.uint8)[end[here]]
    # One comparison for both bounds: what lies below the first wraps around to the top.
    return bool((view[:, 4] - np.uint8(0x21) < 0x5E).all() and (last - np.uint8(0x21) < 0x5E).all())


def to_event_columns(columns: dict[str, pl.Series], zone: str = "UTC") -> list[pl.Series]:
    """Coerce `columns` of the event log to its types, each under its name; several in parallel."""
    with ThreadPoolExecutor(threads.THREADS) as pool:
        return list(pool.map(lambda c: to_dtype(columns[c], c, EVENT_SCHEMA[c], zone), columns))


def to_dtype(values: pl.Series, name: str, dtype: pl.DataType, zone: str) -> pl.Series:
    """Coerce `values` to `dtype` under `name`; times without an offset are local to `zone`."""
    if isinstance(dtype, pl.List):
        return to_vectors(values).alias(name)
    if values.dtype == dtype and dtype != pl.String:
        return values.alias(name) if not isinstance(dtype, pl.Categorical) else to_ids(values).alias(name)
    if dtype == TIMESTAMP:
        return timestamps.parse(values, zone).alias(name)
    if dtype == pl.Boolean:
        answer = values.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
        answer = answer.str.strip_suffix(".0")
        return answer.replace_strict(_YES_NO, default=None, return_dtype=pl.Boolean).alias(name)
    if dtype.is_numeric():
        values = _decode_texts(values)
        number = values.str.strip_chars() if values.dtype == pl.String else values
        number = number.cast(pl.Float64, strict=False)
        if dtype.is_integer():
            return number.set(number != number.floor(), None).cast(dtype, strict=False).alias(name)
        return number.alias(name)
    if isinstance(dtype, pl.Categorical) and values.dtype == pl.String:
        return to_ids(values.cast(dtype)).cast(dtype).alias(name)
    return to_ids(values).cast(dtype).alias(name)


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
    """Whether each cell holds anything: is neither null nor blank text."""
    values = _decode_texts(values)
    if values.dtype != pl.String:
        return values.is_not_null()
    return (values.str.strip_chars() != "").fill_null(False)


def _decode_texts(values: pl.Series) -> pl.Series:
    """Convert dictionary-encoded texts to plain ones; other values stay as they are."""
    return values.cast(pl.String) if isinstance(values.dtype, pl.Categorical | pl.Enum) else values
