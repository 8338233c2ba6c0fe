"""Masks: which items each rule is about, for one snapshot and one version of the shop's prices."""

from collections.abc import Callable, Sequence

import numpy as np

from features.common.arrays import BoolArray, Int64Array
from features.ranking.snapshot import Snapshot
from serving.rules.rulebook import Rulebook, ShopRule
from serving.rules.schema import ItemSelection
from serving.schemas.filters import Filter

_MAX_COMBINED = 64  # sets of hide rules whose joint mask is kept


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
        self._combined: dict[tuple[int, ...], BoolArray] = {}
        self._pinned: dict[int, Int64Array] = {}
        if before is not None:
            fixed = {rule.number for rule in book.rules if rule.items is not None and not _reads_prices(rule.items)}
            self._masks = {number: mask for number, mask in before._masks.items() if number in fixed}
            self._combined = {key: mask for key, mask in before._combined.items() if fixed.issuperset(key)}
            self._pinned = before._pinned

    def of(self, rule: ShopRule) -> BoolArray:
        """bool[items]: the items of a rule that has `items`."""
        mask = self._masks.get(rule.number)
        if mask is None:
            assert rule.items is not None  # noqa: S101
            mask = self._masks[rule.number] = self._select(rule.items)
        return mask

    def any_of(self, rules: Sequence[ShopRule]) -> BoolArray:
        """bool[items]: the items of at least one of the rules."""
        if len(rules) == 1:
            return self.of(rules[0])
        key = tuple(rule.number for rule in rules)
        mask = self._combined.get(key)
        if mask is None:
            mask = np.logical_or.reduce([self.of(rule) for rule in rules])
            if len(self._combined) >= _MAX_COMBINED:
                self._combined.pop(next(iter(self._combined)), None)
            self._combined[key] = mask
        return mask

    def pinned(self, rule: ShopRule) -> Int64Array:
        """The positions of the items that a rule pins, in its order; those the snapshot does not know are left out."""
        positions = self._pinned.get(rule.number)
        if positions is None:
            assert rule.do.pin is not None  # noqa: S101
            found = self.snapshot.items.find(list(dict.fromkeys(rule.do.pin.item_ids)))
            positions = self._pinned[rule.number] = found[found >= 0]
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
