"""Availability: which items of the snapshot may be shown now, at which price, and which pass a filter."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from features.common.arrays import BoolArray, Float64Array, Int64Array
from features.ranking.snapshot import Snapshot
from models.availability import catalog_available
from serving.recommend.item_overrides import ItemOverride
from serving.schemas.filters import CatalogColumns, Condition, Filter, evaluate

# Masks that are kept: as many as may be evaluated for requests that wait, where the catalog is not so large that they
# would fill the memory.
_MIN_MASKS, _MAX_MASKS, _MASK_BYTES = 64, 1_024, 32_000_000


class Availability:
    """The items of a snapshot as they are now. Any thread may use it."""

    def __init__(self, snapshot: Snapshot, overrides: Mapping[str, ItemOverride] | None = None) -> None:
        catalog, prices = snapshot.catalog, snapshot.item("price").astype(np.float64)
        list_prices = catalog["list_price"].combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
        texts = {name: catalog[name].combine_chunks() for name in ("title", "brand", "currency")}
        categories = pa.array(snapshot.categories, mask=np.asarray(snapshot.categories) < 0)
        texts["category"] = snapshot.category_names.take(categories)
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._positions: dict[str, int] = {}  # of items that were ever overridden; -1: not in the snapshot
        self._catalog_available = catalog_available(snapshot)
        self._catalog_is_whole = bool(self._catalog_available.all())
        self._columns = CatalogColumns(
            texts, catalog["attributes"].combine_chunks(), np.where(np.isnan(prices), list_prices, prices)
        )
        self._catalog_prices = self._columns.price
        self.titles = texts["title"]
        self.apply(overrides or {})

    def apply(self, overrides: Mapping[str, ItemOverride]) -> None:
        """Replace all overrides; an item without one is as the catalog says."""
        available, price = self._catalog_available.copy(), self._catalog_prices.copy()
        new = [item_id for item_id in overrides if item_id not in self._positions]
        self._positions.update(zip(new, self._snapshot.items.find(new).tolist(), strict=True))
        for item_id, override in overrides.items():
            position = self._positions[item_id]
            if position >= 0:
                if override.available is not None:
                    available[position] = override.available
                if override.price is not None:
                    price[position] = override.price
        unavailable = sum(1 for override in overrides.values() if override.available is False)
        with self._lock:
            self._available = available
            self._count, self._unavailable_overrides = int(available.sum()), unavailable
            # Of a catalog with unavailable items the recommender takes no mask as that catalog's (`RankingRules`).
            self._unrestricted = self._catalog_is_whole and bool(available.all())
            self._columns = self._columns.with_prices(price)
            self._masks: OrderedDict[tuple[bytes | None, str | None], BoolArray] = OrderedDict()
            self._max_masks = max(_MIN_MASKS, min(_MAX_MASKS, _MASK_BYTES // max(1, len(available))))

    @property
    def count(self) -> int:
        """How many items may be shown at all."""
        return self._count

    @property
    def unavailable_overrides(self) -> int:
        """How many items the shop set unavailable since the snapshot."""
        return self._unavailable_overrides

    @property
    def available(self) -> BoolArray:
        """bool[items]: whether an item may be shown at all."""
        return self._available

    def allowed(self, filter_: Filter | None = None, category: str | None = None) -> BoolArray | None:
        """bool[items]: whether an item is available, passes the filter and is in the category or below it.

        None where that is every item, and the catalog says the same. Masks are cached until the next `apply`: do not
        write to them.
        """
        if filter_ is None and category is None:
            return None if self._unrestricted else self._available
        key, available = (_cache_key(filter_), category), self._available
        with self._lock:
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key]
        mask = available & self.matches(filter_, category)  # may take long: not under the lock
        with self._lock:
            if available is self._available:
                self._masks[key] = mask
                if len(self._masks) > self._max_masks:
                    self._masks.popitem(last=False)
        return mask

    def is_known(self, filter_: Filter, category: str | None = None) -> bool:
        """Whether `allowed` has nothing to evaluate."""
        return (_cache_key(filter_), category) in self._masks

    def matches(self, filter_: Filter | None = None, category: str | None = None) -> BoolArray:
        """bool[items]: whether an item passes the filter and is in the category or below it, available or not."""
        columns = self._columns
        mask = np.ones(len(columns.price), bool)
        if filter_ is not None:
            mask &= evaluate(filter_, columns)
        if category is not None:
            below = Filter(all=[Condition(field="category", op="under", value=category)])
            mask &= evaluate(below, columns)
        return mask

    def prices(self, positions: Int64Array) -> Float64Array:
        """The current prices of items, NaN where none is known."""
        prices: Float64Array = self._columns.price[positions]
        return prices


def _cache_key(filter_: Filter | None) -> bytes | None:
    return None if filter_ is None else blake2b(filter_.model_dump_json().encode(), digest_size=16).digest()
