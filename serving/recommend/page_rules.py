"""Page rules: from the rules that match a plan to entries of its ranking that are pinned or fill a share.

An item that a rule brings in and that was not ranked is appended to the ranking, behind what fills up. It is shown only
where the rule puts it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from features.common.arrays import BoolArray, Int64Array
from models.interface import Ranking, RankingRequest, RankingRules
from serving.recommend.planner import Plan
from serving.rules.effects import Effects
from serving.rules.page import Move, PagePin, PageRules, PageShare
from serving.schemas.recommendations import RecommendationRequest

RULE = "rule"  # the generator of an item that a rule brought in


def build_page_rules(plan: Plan, ranking: Ranking, shifted: Int64Array | None) -> tuple[Ranking, PageRules | None]:
    """Return the ranking with what rules bring in, and what is to be done to page one; None: nothing.

    `shifted`: places of the ranked items after boost and bury, in their new order; None: none moved.
    """
    effects = plan.effects
    if effects is None:
        return ranking, None
    shares, pins = effects.of("share"), effects.of("pin")
    moves = _moves(effects, ranking, shifted) if shifted is not None and "rules" in plan.request.include else {}
    if not (shares or pins):
        return ranking, PageRules(moves=moves) if moves else None
    extended = _Extended(plan, ranking)
    spares = {rule.number: extended.find_spares(effects.masks.of(rule), rule.do.share or 0) for rule in shares}
    page_pins = tuple(
        PagePin(rule.id, rule.do.pin.at, tuple(extended.entries(effects.masks.pinned(rule))))
        for rule in pins
        if rule.do.pin is not None
    )
    ranking = extended.ranking()
    page_shares = []
    for rule in shares:
        members = np.flatnonzero(effects.masks.of(rule)[ranking.positions])
        spare = tuple(spares[rule.number])
        page_shares.append(PageShare(rule.id, rule.do.share or 0, frozenset(members.tolist()), spare))
    return ranking, PageRules(tuple(page_shares), page_pins, moves)


class _Extended:
    """A ranking to which items that may be shown are appended."""

    def __init__(self, plan: Plan, ranking: Ranking) -> None:
        self._plan, self._ranking = plan, ranking
        self._entry_of = {position: n for n, position in enumerate(ranking.positions.tolist())}
        self._added: list[int] = []

    def entries(self, positions: Int64Array) -> list[int]:
        """The entries of those items that may be shown."""
        entries = (self._entry(int(position)) for position in positions)
        return [entry for entry in entries if entry is not None]

    def find_spares(self, members: BoolArray, share: float) -> list[int]:
        """The entries of best sellers among `members`, as many as the ranking lacks for the share."""
        plan = self._plan
        request, limit = plan.ranking_request, plan.ranking_request.limit
        if not isinstance(plan.request, RecommendationRequest) or plan.request.strict:
            return []
        missing = PageShare("", share, frozenset()).needed(limit) - int(members[self._ranking.positions].sum())
        if missing <= 0:
            return []
        allowed = members.copy() if request.rules.allowed is None else members & request.rules.allowed
        allowed[self._ranking.positions] = False
        rules = RankingRules(allowed=allowed)
        best_sellers = RankingRequest(missing, request.customer_id, (), request.exclude, rules)
        best = plan.model.recommender.recommend_without_ranker(best_sellers, "shortage")
        return self.entries(best.positions)

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
        if not request.exclude:
            return True
        return self._plan.model.snapshot.items.at(np.array([position]))[0] not in request.exclude


def _moves(effects: Effects, ranking: Ranking, shifted: Int64Array) -> dict[int, list[Move]]:
    """What boosts and buries did to each ranked item they are about."""
    moves: dict[int, list[Move]] = {}
    after: Sequence[int] = shifted.tolist()
    for rule in effects.of("boost", "bury"):
        mask = effects.masks.of(rule)[ranking.positions[: len(after)]]
        for place, entry in enumerate(after, 1):
            if mask[entry]:
                moves.setdefault(entry, []).append(Move(rule.id, rule.action, entry + 1, place))
    return moves
