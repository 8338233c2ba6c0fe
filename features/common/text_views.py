"""Text views: single bytes of every text of a column, read from Arrow's buffers without touching the rest.

Asking one byte of each text is several times faster than a pass over all of them, which is what finds the few
texts of a column that need work.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

_INLINE = 12  # bytes of a text that its view holds; a longer one's view has the first four and where the others are


class TextViews:
    """The bytes of the texts in a column that are not null, by their number among those."""

    def __init__(self, views: Bytes, data: list[Any], rows: Rows | None) -> None:
        self._views, self._data, self._rows = views, data, rows
        self._parts = views.view("<u4")  # bytes, the first four of them, buffer, place in it
        self.sizes: NDArray[np.uint32] = np.ascontiguousarray(self._parts[:, 0])
        self._far = np.flatnonzero(self.sizes > _INLINE)

    @classmethod
    def of(cls, values: pl.Series) -> "TextViews | None":
        """The views of `values`, of dtype String; None where Arrow holds them in another form."""
        array = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
        if str(array.type) != "string_view":
            return None
        _, buffer, *data = array.buffers()
        views = np.frombuffer(buffer, np.uint8)[16 * array.offset : 16 * (array.offset + len(array))].reshape(-1, 16)
        if not values.null_count():
            return cls(views, data, None)
        rows = np.flatnonzero(values.is_not_null().to_numpy())
        return cls(views[rows], data, rows)

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, numbers: Rows) -> Rows:
        """Row in the column of each of the texts `numbers`."""
        return numbers if self._rows is None else self._rows[numbers]

    def head(self, place: int) -> Bytes:
        """The byte at `place`, from 0 to 3, of each text; 0 behind its end."""
        return np.ascontiguousarray(self._views[:, 4 + place])

    def prefix(self, of: Rows) -> NDArray[np.uint32]:
        """The first four bytes of each of the texts `of` as one number, zeros behind its end."""
        prefix: NDArray[np.uint32] = self._parts[of, 1]
        return prefix

    def tail(self, back: int, of: Rows | None = None) -> Bytes:
        """The byte `back` from the end (1: the last, at most 12) of each text, or of the texts `of`; 0 before its
        start."""
        sizes = self.sizes if of is None else self.sizes[of]
        far = self._far if of is None else np.flatnonzero(sizes > _INLINE)
        if far.size == len(sizes):
            return self._far_bytes(back, slice(None) if of is None else of)
        # Of a shorter text the last byte of its size, which is 0.
        place = np.arange(4 - back, 16 * len(self), 16) if of is None else of * 16 + (4 - back)
        place += np.clip(sizes, back - 1, _INLINE)
        byte: Bytes = self._views.reshape(-1)[place]
        if far.size:
            byte[far] = self._far_bytes(back, far if of is None else of[far])
        return byte

    def _far_bytes(self, back: int, of: Rows | slice) -> Bytes:
        """The byte `back` from the end of the texts `of`, which are too long for their views."""
        buffer, start = self._parts[of, 2], self._parts[of, 3] + (self._parts[of, 0] - np.uint32(back))
        if not len(buffer):
            return np.zeros(0, np.uint8)
        one = buffer.min()
        if one == buffer.max():
            return np.frombuffer(self._data[one], np.uint8)[start]
        byte = np.empty(len(buffer), np.uint8)
        for n in np.unique(buffer):
            here = buffer == n
            byte[here] = np.frombuffer(self._data[n], np.uint8)[start[here]]
        return byte

    def beyond_ascii(self, values: pl.Series) -> Rows:
        """Numbers of the texts with a byte beyond ASCII; `values` is the column of the views."""
        words = self._views.view("<u8")
        far = self._far
        rest = words[:, 1] & np.uint64(0x8080808080808080) if far.size < len(self) else np.zeros(len(self), np.uint64)
        rest[far] = 0
        rest |= words[:, 0] & np.uint64(0x8080808000000000)
        high = rest != 0
        if far.size:
            held = sum(len(d) for d in self._data)
            needed = int(self.sizes[far].sum(dtype=np.int64))
            # A slice of a larger column has the whole column's buffers, which are not read for each slice.
            if held > 4 * needed or any(len(d) and np.frombuffer(d, np.uint8).max() >= 0x80 for d in self._data):
                texts = values.gather(self.rows(far))
                high[far] = (texts.str.len_bytes() != texts.str.len_chars()).to_numpy()
        return np.flatnonzero(high)
