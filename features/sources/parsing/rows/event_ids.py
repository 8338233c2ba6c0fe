"""Event ids for rows that come without one: 32 hex digits hashed from a row's values.

The same on any machine, in any version and batch, and from any file format: integer arithmetic on the
bytes of texts and the bits of numbers. Sixteen random bytes would collide by chance once in 10^19
events; it is no protection against a shop that forges its own ids.
"""

import binascii

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_LANES = ((0x9E3779B97F4A7C15, 0x243F6A8885A308D3), (0xC2B2AE3D27D4EB4F, 0x13198A2E03707344))
_SLICE_ROWS = 50_000  # whose words fit the processor's cache
_TAGS = "0123456789abcdefghijklmnopqrstuvwxyz"


def hash_rows(rows: pl.DataFrame, columns: list[str]) -> pl.Series:
    """Hash the values of `columns` into one id per row; the order of columns counts, nulls do not."""
    parts = [_hash_slice(part, columns) for part in rows.iter_slices(_SLICE_ROWS)]
    return pl.concat(parts) if parts else pl.Series("event_id", [], pl.String())


def _hash_slice(rows: pl.DataFrame, columns: list[str]) -> pl.Series:
    texts, numbers = [], []
    for tag, column in zip(_TAGS, columns, strict=False):
        if rows[column].null_count() == rows.height:
            continue
        values = pl.col(column)
        dtype = rows.schema[column]
        if dtype.is_float():
            bits = (
                pl.when(values == 0).then(0.0).otherwise(values.cast(pl.Float64)).reinterpret(dtype=pl.UInt64)
            )  # -0 is 0
            numbers.append((tag, rows.select(bits).to_series(), rows[column]))
        elif dtype.is_integer() or dtype.is_temporal() or dtype == pl.Boolean:
            bits = values.to_physical().cast(pl.Int64).reinterpret(dtype=pl.UInt64)
            numbers.append((tag, rows.select(bits).to_series(), rows[column]))
        else:
            texts.append(pl.lit(f"\x1f{tag}") + values.cast(pl.String))
    text = pl.concat_str([pl.lit(""), *texts], ignore_nulls=True)
    length = pl.col("text").str.len_bytes()
    padded = rows.select(text=text).select(
        length.alias("length"),
        pl.col("text").str.pad_end(pl.col("text").str.len_chars() + (8 - length % 8) % 8, "\x00").alias("text"),
    )
    words, starts, place = _split_words(padded["text"])
    halves = []
    for step, seed in _LANES:
        scrambled = _mix(words ^ (place * np.uint64(step) + np.uint64(seed)))
        total = np.zeros(rows.height, np.uint64)
        filled = padded["length"].to_numpy() > 0
        if filled.any():
            total[filled] = np.add.reduceat(scrambled, starts[filled])
        total = _mix(total ^ padded["length"].to_numpy().astype(np.uint64))
        for tag, number, values_ in numbers:
            if values_.null_count() < values_.len():
                keyed = number.fill_null(0).to_numpy() + np.uint64(step * ord(tag) % 2**64)
                total = np.where(values_.is_not_null().to_numpy(), _mix(total + _mix(keyed)), total)
        halves.append(total)
    return _to_hex(np.stack(halves, axis=1))


def _split_words(text: pl.Series) -> tuple[Words, NDArray[np.int64], Words]:
    """The bytes of all rows as words of eight bytes, where each row starts, and each word's place in its row."""
    array = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    empty = data is None or offsets[-1] == offsets[0]
    words = np.empty(0, "<u8") if empty else np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].view("<u8")
    bounds = (offsets - offsets[0]) // 8
    place = np.arange(len(words), dtype=np.uint64) - np.repeat(bounds[:-1].astype(np.uint64), np.diff(bounds))
    return words.astype(np.uint64, copy=False), bounds[:-1], place


def _mix(x: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit affects every output bit."""
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def _to_hex(halves: Words) -> pl.Series:
    digits = binascii.hexlify(np.ascontiguousarray(halves, ">u8").tobytes())
    offsets = np.arange(len(halves) + 1, dtype=np.int64) * 32
    array = pa.Array.from_buffers(
        pa.large_string(), len(halves), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(digits)]
    )
    return pl.Series("event_id", array, dtype=pl.String())
