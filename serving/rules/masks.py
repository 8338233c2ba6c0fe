"""Masks: which items each rule is about, for one snapshot and one version of the shop's prices."""

from collections.abc import Callable

import numpy as np

from features.common.arrays import BoolArray, Int64Array
from features.ranking.snapshot import Snapshot
from serving.rules.rulebook import Rulebook, ShopRule
from serving.rules.schema import ItemSelection
from serving.schemas.filters import Filter

# Sets of rules whose effects are kept: as many as visitors match, where the catalog is not so large that they would
# fill the memory.
_MIN_KEPT, _MAX_KEPT, _KEPT_BYTES = 8, 512, 64_000_000


class RuleMasks:
    """The items of a rulebook's rules. Masks are computed when first needed and must not be written to.

    `matches` returns bool[items]: which items pass a filter, available or not. `version`: of the shop's overrides.
    `before`: masks of the same rulebook and snapshot at an earlier version; those without prices are taken over.
    """

    def __init__(
        self,
        book: Rulebook,
        snapshot: Snapshot,
        version: int,
        matches: Callable[[Filter], BoolArray],
        before: "RuleMasks | None" = None,
    ) -> None:
        self.book, self.snapshot, self.version, self._matches = book, snapshot, version, matches
        self._masks: dict[int, BoolArray] = {}
        self.kept: dict[tuple[int | str, ...], object] = {}
        """Effects of sets of rules, by the numbers of the rules."""
        self._most_kept = max(_MIN_KEPT, min(_MAX_KEPT, _KEPT_BYTES // (10 * max(1, len(snapshot.items)))))
        self._pinned: dict[int, list[int]] = {}
        self._by_sales: dict[int, Int64Array] = {}
        if before is not None:
            fixed = {rule.number for rule in book.rules if rule.items is not None and not _reads_prices(rule.items)}
            self._masks = {number: mask for number, mask in before._masks.items() if number in fixed}
            self._pinned = before._pinned

    def of(self, rule: ShopRule) -> BoolArray:
        """bool[items]: the items of a rule that has `items`."""
        mask = self._masks.get(rule.number)
        if mask is None:
            assert rule.items is not None  # noqa: S101
            mask = self._masks[rule.number] = self._select(rule.items)
        return mask

    def keep(self, key: tuple[int | str, ...], effects: object) -> None:
        """Keep effects in `kept`; the oldest give way."""
        if len(self.kept) >= self._most_kept:
            self.kept.pop(next(iter(self.kept)), None)
        self.kept[key] = effects

    def pinned(self, rule: ShopRule) -> list[int]:
        """The positions of the items that a rule pins, in its order; those the snapshot does not know are left out."""
        positions = self._pinned.get(rule.number)
        if positions is None:
            assert rule.do.pin is not None  # noqa: S101
            pinned = self.snapshot.items.find(list(dict.fromkeys(rule.do.pin.item_ids)))
            positions = self._pinned[rule.number] = pinned[pinned >= 0].tolist()
        return positions

    def by_sales(self, rule: ShopRule, best_sellers: Int64Array) -> Int64Array:
        """The positions of a rule's items in the order of `best_sellers`, which are those of the snapshot."""
        positions = self._by_sales.get(rule.number)
        if positions is None:
            positions = self._by_sales[rule.number] = best_sellers[self.of(rule)[best_sellers]]
        return positions

    def warm_up(self) -> None:
        """Compute everything, so that no request waits for it."""
        for rule in self.book.rules:
            if rule.items is not None:
                self.of(rule)
            elif rule.do.pin is not None:
                self.pinned(rule)

    def _select(self, items: ItemSelection) -> BoolArray:
        mask = np.ones(len(self.snapshot.items), bool)
        if items.item_ids:
            mask[:] = False
            positions = self.snapshot.items.find(items.item_ids)
            mask[positions[positions >= 0]] = True
        if items.all or items.any or items.none:
            mask &= self._matches(Filter.model_construct(all=items.all, any=items.any, none=items.none))
        return mask


def _reads_prices(items: ItemSelection) -> bool:
    return any(condition.field == "price" for condition in (*items.all, *items.any, *items.none))


class MaskCache:
    """Keeps the masks of the snapshot that is active and of one that is about to be. Any thread may use it."""

    def __init__(self) -> None:
        self._latest: tuple[RuleMasks, ...] = ()

    def get(
        self, book: Rulebook, snapshot: Snapshot, version: int, matches: Callable[[Filter], BoolArray]
    ) -> RuleMasks:
        """Return the masks of a rulebook for a snapshot with the overrides of `version`."""
        before = None
        for masks in self._latest:
            if masks.book is book and masks.snapshot is snapshot:
                if masks.version == version:
                    return masks
                before = masks
        new = RuleMasks(book, snapshot, version, matches, before)
        others = [m for m in self._latest if m is not before]
        self._latest = (new, *others[:2])
        return new
