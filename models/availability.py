"""Availability: which items of a snapshot may be shown. One rule for every path that ranks.

`BundleRecommender` applies it to each request whose rules do not say otherwise, so batch inference, MLflow, reports and
the server never show an item that the catalog has as unavailable. An item of which the catalog says nothing is
available. What the shop said since the snapshot (overrides) comes on top: `available_now`.
"""

from collections.abc import Mapping

import numpy as np

from features.common.arrays import BoolArray
from features.ranking.snapshot import Snapshot


def catalog_available(snapshot: Snapshot) -> BoolArray:
    """Return bool[items]: whether the catalog has an item as available, or says nothing about it."""
    column = snapshot.catalog["available"].combine_chunks().fill_null(True)
    mask: BoolArray = np.array(column.to_numpy(zero_copy_only=False), bool)
    return mask


def available_now(snapshot: Snapshot, overrides: Mapping[str, bool]) -> BoolArray:
    """Return bool[items]: `catalog_available`, then `overrides` (item id → available) for the items they name."""
    mask = catalog_available(snapshot)
    positions = snapshot.items.find(list(overrides))
    known = positions >= 0
    mask[positions[known]] = np.fromiter(overrides.values(), bool, len(overrides))[known]
    return mask
