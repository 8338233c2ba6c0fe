"""Pair look-ups: values of (query, item) pairs, found by binary search among sorted int64 keys.

A pair's key is query × size + item, with a size above every item. A table of queries × items would be faster to read
and too large to keep; a search takes no memory beyond the pairs that are there.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from features.common.arrays import BoolArray, Int64Array, ScalarT


def find_keys(keys: Int64Array, pairs: Int64Array) -> tuple[Int64Array, BoolArray]:
    """Find `pairs` int64[n] among `keys` (rising, at least one): (slot int64[n], hit bool[n]).

    `slot` is where each stands in `keys`; where `hit` is False it is some valid slot.
    """
    slot = np.minimum(keys.searchsorted(pairs), len(keys) - 1)
    return slot, keys[slot] == pairs


def look_up(keys: Int64Array, values: npt.NDArray[ScalarT], pairs: Int64Array, missing: Any) -> npt.NDArray[ScalarT]:
    """Return the entry of `values`, one per entry of `keys` (rising), for each of `pairs`; `missing` where none is."""
    if not len(keys):
        return np.full(len(pairs), missing, values.dtype)
    slot, hit = find_keys(keys, pairs)
    return np.where(hit, values[slot], missing)
