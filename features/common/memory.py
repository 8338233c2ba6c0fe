"""Memory: how the C library handles what is freed."""

from functools import cache

import numpy as np


@cache
def keep_freed_memory() -> None:
    """Make glibc keep up to 64 MB of freed memory; for a process that ranks many batches.

    glibc gives memory back to the system once more of it is free than twice the largest block freed before, where
    blocks above 32 MB do not count. Freeing a block of just that size raises the bound to 64 MB: getting the pages
    again was a tenth of the time that a batch takes.
    """
    np.empty((32 << 20) - 8192, np.uint8)
