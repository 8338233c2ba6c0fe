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

    def __init__(self, sizes: NDArray[np.uint32], views: Bytes, data: list[Any], rows: Rows | None) -> None:
        self.sizes = sizes  # bytes of each text
        self._views, self._data, self._rows = views, data, rows
        self._flat = views.reshape(-1)

    @classmethod
    def of(cls, values: pl.Series) -> "TextViews | None":
        """The views of `values`, of dtype String; None where Arrow holds them in another form."""
        array = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
        if str(array.type) != "string_view" or array.offset:
            return None
        _, buffer, *data = array.buffers()
        views = np.frombuffer(buffer, np.uint8)[: 16 * len(array)].reshape(-1, 16)
        rows = None
        if values.null_count():
            rows = np.flatnonzero(values.is_not_null().to_numpy())
            views = views[rows]
        return cls(views.view("<u4")[:, 0], views, data, rows)

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, numbers: Rows) -> Rows:
        """Row in the column of each of the texts `numbers`."""
        return numbers if self._rows is None else self._rows[numbers]

    def head(self, place: int) -> Bytes:
        """The byte at `place`, from 0 to 3, of each text; 0 behind its end."""
        byte: Bytes = self._views[:, 4 + place]
        return byte

    def prefix(self) -> NDArray[np.uint32]:
        """The first four bytes of each text as one number, zeros behind its end."""
        return self._views.view("<u4")[:, 1]

    def tail(self, back: int, of: Rows | None = None) -> Bytes:
        """The byte `back` from the end (1: the last) of each text, or of the texts `of`; 0 before its start."""
        sizes = self.sizes if of is None else self.sizes[of]
        start = np.arange(0, self._flat.size, 16) if of is None else of * 16
        inline = sizes <= _INLINE
        found = np.where(inline, sizes, back) >= back
        byte = self._flat[start + np.where(inline & found, sizes, back) + (4 - back)]
        far = np.flatnonzero(~inline)
        if far.size:
            view = self._views.view("<u4")[far if of is None else of[far]]
            buffer, place = view[:, 2], view[:, 3].astype(np.int64) + view[:, 0] - back
            for n in np.unique(buffer):
                here = buffer == n
                byte[far[here]] = np.frombuffer(self._data[n], np.uint8)[place[here]]
        return byte if found.all() else np.where(found, byte, np.uint8(0))

    def beyond_ascii(self, values: pl.Series) -> Rows:
        """Numbers of the texts with a byte beyond ASCII; `values` is the column of the views."""
        words = self._views.view("<u8")
        high = (words[:, 0] & np.uint64(0x8080808000000000)) != 0
        inline = self.sizes <= _INLINE
        high |= inline & ((words[:, 1] & np.uint64(0x8080808080808080)) != 0)
        far = np.flatnonzero(~inline & ~high)
        if far.size:
            held = sum(len(d) for d in self._data)
            needed = int(self.sizes[far].sum(dtype=np.int64))
            # A slice of a larger column has the whole column's buffers, which are not read for each slice.
            if held > 4 * needed or any(len(d) and np.frombuffer(d, np.uint8).max() >= 0x80 for d in self._data):
                texts = values.gather(self.rows(far))
                high[far] = (texts.str.len_bytes() != texts.str.len_chars()).to_numpy()
        return np.flatnonzero(high)
