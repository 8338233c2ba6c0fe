"""Page rules: from the rules that match a plan to entries of its ranking that are pinned or fill a share.

An item that a rule brings in and that was not ranked is appended to the ranking, behind what fills up. It is shown only
where the rule puts it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from features.common.arrays import Int64Array
from models.interface import Ranking
from serving.recommend.planner import Plan
from serving.rules.effects import Effects
from serving.rules.masks import RuleMasks
from serving.rules.page import Move, PagePin, PageRules, PageShare
from serving.rules.rulebook import ShopRule
from serving.schemas.recommendations import RecommendationRequest

_AT_ONCE = 64  # items that are looked at
RULE = "rule"  # the generator of an item that a rule brought in


def build_page_rules(plan: Plan, ranking: Ranking, shifted: Int64Array | None) -> tuple[Ranking, PageRules | None]:
    """Return the ranking with what rules bring in, and what is to be done to page one; None: nothing.

    `shifted`: places of the ranked items after boost and bury, in their new order; None: none moved.
    """
    effects = plan.effects
    if effects is None:
        return ranking, None
    shares, pins = effects.shares, effects.pins
    moves = _moves(effects, ranking, shifted) if "rules" in plan.request.include else None
    if not (shares or pins):
        return ranking, PageRules(moves=moves) if moves else None
    extended = _Extended(plan, ranking)
    masks = effects.masks
    page_shares = [extended.share(rule, masks) for rule in shares]
    page_pins = [
        PagePin(rule.id, rule.do.pin.at, extended.entries(masks.pinned(rule)))
        for rule in pins
        if rule.do.pin is not None
    ]
    return extended.ranking(), PageRules(tuple(page_shares), tuple(page_pins), moves)


class _Extended:
    """A ranking to which items that may be shown are appended."""

    def __init__(self, plan: Plan, ranking: Ranking) -> None:
        self._plan, self._ranking = plan, ranking
        self._entry_of = dict(zip(ranking.positions.tolist(), range(len(ranking.item_ids)), strict=True))
        self._added: list[int] = []
        self._excluded: set[int] | None = None

    def entries(self, positions: Iterable[int]) -> tuple[int, ...]:
        """The entries of those items that may be shown."""
        entries = map(self._entry, positions)
        return tuple(entry for entry in entries if entry is not None)

    def share(self, rule: ShopRule, masks: RuleMasks) -> PageShare:
        """A rule's share of page one: of the ranking, and as many best sellers as it lacks."""
        members: list[int] = masks.of(rule)[self._ranking.positions].nonzero()[0].tolist()
        share = PageShare(rule.id, rule.do.share or 0, frozenset(members))
        missing = share.needed(self._plan.ranking_request.limit) - len(members)
        request = self._plan.request
        if missing <= 0 or not isinstance(request, RecommendationRequest) or request.strict:
            return share
        spares = self._best_sellers(masks.by_sales(rule, self._plan.model.best_sellers), missing)
        return PageShare(rule.id, share.share, frozenset((*members, *spares)), tuple(spares))

    def _best_sellers(self, positions: Int64Array, most: int) -> list[int]:
        """The entries of the first items that are not ranked and may be shown."""
        spares: list[int] = []
        for start in range(0, len(positions), _AT_ONCE):
            for position in positions[start : start + _AT_ONCE].tolist():
                ranked = self._entry_of.get(position, len(self._ranking.item_ids)) < len(self._ranking.item_ids)
                if not ranked and (entry := self._entry(position)) is not None:
                    spares.append(entry)
                    if len(spares) == most:
                        return spares
        return spares

    def ranking(self) -> Ranking:
        """The ranking with what was appended."""
        ranking, added = self._ranking, np.array(self._added, np.int64)
        if not len(added):
            return ranking
        floor = min(ranking.scores, default=0.0)
        return replace(
            ranking,
            item_ids=[*ranking.item_ids, *self._plan.model.snapshot.items.at(added)],
            scores=[*ranking.scores, *(floor - 1 - n for n in range(len(added)))],
            generators=[*ranking.generators, *[(RULE,)] * len(added)],
            positions=np.concatenate([ranking.positions, added]),
        )

    def _entry(self, position: int) -> int | None:
        entry = self._entry_of.get(position)
        if entry is None and self._may_show(position):
            entry = self._entry_of[position] = len(self._ranking.item_ids) + len(self._added)
            self._added.append(position)
        return entry

    def _may_show(self, position: int) -> bool:
        request = self._plan.ranking_request
        allowed = request.rules.allowed
        if allowed is not None and not allowed[position]:
            return False
        if self._excluded is None:
            self._excluded = set(self._plan.model.snapshot.items.find(list(request.exclude)).tolist())
        return position not in self._excluded


def _moves(effects: Effects, ranking: Ranking, shifted: Int64Array | None) -> dict[int, list[Move]]:
    """What boosts and buries did to each ranked item they are about."""
    moves: dict[int, list[Move]] = {}
    if shifted is None:
        return moves
    after: Sequence[int] = shifted.tolist()
    for rule in effects.of("boost", "bury"):
        mask = effects.masks.of(rule)[ranking.positions[: len(after)]]
        for place, entry in enumerate(after, 1):
            if mask[entry]:
                moves.setdefault(entry, []).append(Move(rule.id, rule.action, entry + 1, place))
    return moves
