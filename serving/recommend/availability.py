"""What is on the shelf: which of the bundle's items may be shown, and at what price."""

import threading
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from features.ranking.snapshot import Snapshot
from serving.recommend.item_overrides import ItemChange
from serving.schemas.filters import Columns, Condition, Filter, mask

_MASKS = 64


class Shelf:
    """The items of a snapshot as they are now, for any thread."""

    def __init__(self, snapshot: Snapshot, changes: Mapping[str, ItemChange] | None = None) -> None:
        about, prices = snapshot.about, snapshot.item("price").astype(np.float64)
        listed = about["list_price"].combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
        texts = {name: about[name].combine_chunks() for name in ("title", "brand", "currency")}
        known = pa.array(snapshot.categories, mask=np.asarray(snapshot.categories) < 0)
        texts["category"] = snapshot.category_names.take(known)
        self._snapshot = snapshot
        self._changing = threading.Lock()
        self._at: dict[str, int] = {}  # where the items that changes were about are
        self._listed = np.array(about["available"].combine_chunks().fill_null(True).to_numpy(zero_copy_only=False))
        self._columns = Columns(texts, about["attributes"].combine_chunks(), np.where(np.isnan(prices), listed, prices))
        self._prices = self._columns.price
        self.titles = texts["title"]
        self.change(changes or {})

    def change(self, changes: Mapping[str, ItemChange]) -> None:
        """All that is known to differ from the catalog, in place of what was known before."""
        available, price = self._listed.copy(), self._prices.copy()
        new = [item_id for item_id in changes if item_id not in self._at]
        self._at.update(zip(new, self._snapshot.items.find(new).tolist(), strict=True))
        for item_id, change in changes.items():
            position = self._at[item_id]
            if position >= 0:
                if change.available is not None:
                    available[position] = change.available
                if change.price is not None:
                    price[position] = change.price
        with self._changing:
            self._available = available
            self._all_available = bool(available.all())
            self._columns = self._columns.with_prices(price)
            self._masks: OrderedDict[tuple[str | None, str | None], np.ndarray] = OrderedDict()

    @property
    def available(self) -> np.ndarray:
        """bool[items]: what may be shown at all."""
        return self._available

    def allowed(self, wanted: Filter | None = None, category: str | None = None) -> np.ndarray | None:
        """bool[items]: what is available, passes the filter and is of the category or below; None: everything."""
        if wanted is None and category is None:
            return None if self._all_available else self._available
        key, available = (_key(wanted), category), self._available
        with self._changing:
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key]
        passed = available & self.matching(wanted, category)  # may take long: nobody waits for it
        with self._changing:
            if available is self._available:
                self._masks[key] = passed
                if len(self._masks) > _MASKS:
                    self._masks.popitem(last=False)
        return passed

    def matching(self, wanted: Filter | None = None, category: str | None = None) -> np.ndarray:
        """bool[items]: what passes the filter and is of the category or below, available or not."""
        columns = self._columns
        passed = np.ones(len(columns.price), bool)
        if wanted is not None:
            passed &= mask(columns, wanted)
        if category is not None:
            passed &= mask(columns, Filter(all=[Condition(field="category", op="under", value=category)]))
        return passed

    def price(self, positions: np.ndarray) -> np.ndarray:
        """float64: NaN where none is known."""
        prices: np.ndarray = self._columns.price[positions]
        return prices


def _key(wanted: Filter | None) -> str | None:
    return None if wanted is None else wanted.model_dump_json()
