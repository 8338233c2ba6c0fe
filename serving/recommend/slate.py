"""Slates: a ranking in the order in which it is shown, after diversity, cooling down and new arrivals."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from time import time
from zlib import crc32

import numpy as np

from features.common.arrays import BoolArray, Int64Array
from features.ranking.snapshot import Snapshot
from models.explain.codes import Reason
from models.interface import Ranking
from serving.recommend.active_model import ActiveModel
from serving.recommend.page_rules import build_page_rules
from serving.recommend.pagination import CursorCodec
from serving.recommend.planner import Plan, resolve_category
from serving.rules.effects import Effects
from serving.rules.page import Move, PageRules
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RankedRequest, RecommendationRequest, RerankRequest

ARRIVALS = "arrivals"


@dataclass(frozen=True, slots=True)
class Slate:
    """The items of one response and those in reserve, before a body with `distinct` is settled.

    `order`: places of the ranking in display order. `reasons`: per item of the ranking. `offset`: items on
    earlier pages. `scored`: False where the ranking comes from a cursor, which keeps neither scores nor generators.
    `effects`: what the shop's rules did to it; `page`: what they do to page one once it is known.
    """

    request: RankedRequest
    model: ActiveModel
    ranking: Ranking
    order: Int64Array
    reasons: list[list[Reason]] | None = None
    thanks: list[str] = field(default_factory=list)
    degraded: bool = False
    offset: int = 0
    scored: bool = True
    effects: Effects | None = None
    page: PageRules | None = None

    def arrange_page(self, limit: int, used: Collection[str]) -> tuple[list[int], dict[int, list[Move]]]:
        """Return the places of the ranking as shown, without items of `used`, and what rules moved which of them.

        `limit`: how many items page one has.
        """
        item_ids = self.ranking.item_ids
        order = [n for n in self.order.tolist() if item_ids[n] not in used]
        if self.page is None:
            return order, {}
        return self.page.arrange(order, limit, lambda n: item_ids[n] not in used)


def assemble(plan: Plan, ranking: Ranking, reasons: list[list[Reason]] | None = None) -> Slate:
    """Put the ranking of a plan into the order that its request and placement want."""
    request, placement, model, effects = plan.request, plan.placement, plan.model, plan.effects
    shifted = None if effects is None else effects.order(ranking.positions[: ranking.n_ranked])
    if isinstance(request, RerankRequest):
        order = arrange(ranking, model.snapshot, 0, shifted=shifted)
        return _with_page(Slate(request, model, ranking, order, reasons, degraded=plan.degraded), plan, shifted)
    diversity = placement.diversity if request.diversity is None else request.diversity
    limit, rotation = plan.ranking_request.limit, _rotation(request)
    order = arrange(ranking, model.snapshot, limit, diversity, placement.explore, plan.cooling, rotation, shifted)
    degraded = plan.degraded or ranking.fallback == "ranker_error"
    return _with_page(Slate(request, model, ranking, order, reasons, plan.thanks, degraded), plan, shifted)


def _with_page(slate: Slate, plan: Plan, shifted: Int64Array | None) -> Slate:
    """Add what rules do to page one."""
    if plan.effects is None:
        return slate
    ranking, page = build_page_rules(plan, slate.ranking, shifted)
    reasons = slate.reasons
    if reasons is not None:
        reasons = [*reasons, *[[] for _ in range(len(ranking.item_ids) - len(reasons))]]
    return replace(slate, ranking=ranking, reasons=reasons, effects=plan.effects, page=page)


def resume(
    request: RecommendationRequest,
    placement: Placement,
    model: ActiveModel,
    cursors: CursorCodec,
    effects: Effects | None = None,
) -> Slate:
    """Assemble what the request's cursor still holds, without what may no longer be shown. Raises InvalidCursor."""
    s = model.snapshot
    cursor = cursors.decode(request.cursor or "", s.items, request.placement, time())
    allowed = model.availability.allowed(request.filter, resolve_category(request, placement))
    allowed = allowed if effects is None else effects.allow(allowed)
    positions = cursor.positions if allowed is None else cursor.positions[allowed[cursor.positions]]
    positions = positions[~np.isin(positions, s.items.find(request.exclude.item_ids))]
    item_ids = s.items.at(positions)
    (customer,) = s.customers.find([request.customer_id or ""])
    ranking = Ranking(
        item_ids=item_ids,
        scores=[0.0] * len(item_ids),
        generators=[()] * len(item_ids),
        strategy=cursor.strategy,
        fallback=None,
        segment=s.segment(int(customer)),
        n_ranked=len(item_ids),
        positions=positions,
    )
    order = np.arange(len(item_ids))
    return Slate(request, model, ranking, order, offset=cursor.offset, scored=False, effects=effects)


def arrange(
    ranking: Ranking,
    snapshot: Snapshot,
    limit: int,
    diversity: float = 0,
    explore: float = 0,
    cooling: Int64Array | None = None,
    rotation: int = 0,
    shifted: Int64Array | None = None,
) -> Int64Array:
    """Compute the display order, as places of the ranking. What fills it up stays behind what was ranked.

    `shifted`: the ranked places in the order that rules want before anything else. `cooling`: positions of items whose
    categories go behind the rest. `rotation`: any number that differs among visitors; it shifts where the first new
    arrival may stand.
    """
    order = np.arange(len(ranking.item_ids))
    if shifted is not None:
        order[: ranking.n_ranked] = shifted
    if diversity:
        ranked = order[: ranking.n_ranked].copy()
        order[: ranking.n_ranked] = ranked[diversify(snapshot, ranking.positions[ranked], limit, diversity)]
    if cooling is not None and len(cooling):
        alike = _in_categories_of(snapshot, cooling)[ranking.positions[order]]
        order = np.concatenate([order[~alike], order[alike]])
    if explore:
        new = np.array([ARRIVALS in ranking.generators[n] for n in order], bool)
        if new.any():
            every = max(1, round(1 / max(explore, 1e-12)))  # below that no arrival would ever be due
            order = place_arrivals(order, new, limit, every, rotation % every)
    return order


def diversify(snapshot: Snapshot, positions: Int64Array, limit: int, diversity: float) -> Int64Array:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): places of `positions`, the first `limit` rearranged.

    Relevance falls evenly with the place; two items are alike by 1 in one category, 1/2 in one department, and by
    1/4 more of one brand.
    """
    n = len(positions)
    relevance = 1 - np.arange(n) / max(n, 1)
    nearest, open_ = np.zeros(n), np.ones(n, bool)
    category, department, brand = (of[positions] for of in (snapshot.categories, snapshot.departments, snapshot.brands))
    first = []
    for _ in range(min(limit, n)):
        worth = (1 - diversity) * relevance - diversity * nearest
        pick = int(np.argmax(np.where(open_, worth, -np.inf)))
        open_[pick] = False
        first.append(pick)
        alike = np.where(category == category[pick], 1.0, np.where(department == department[pick], 0.5, 0.0))
        alike[category < 0] = 0.0
        alike += np.where((brand == brand[pick]) & (brand >= 0), 0.25, 0.0)
        nearest = np.maximum(nearest, alike)
    return np.concatenate([np.array(first, np.int64), np.flatnonzero(open_)])


def place_arrivals(order: Int64Array, new: BoolArray, limit: int, every: int, since: int = 0) -> Int64Array:
    """Give new arrivals (bool, one per entry of `order`) each `every`-th place, where those above it have none.

    `since`: how many places without one came before; where that differs, short lists have their share, too.
    """
    rest, arrivals = list(order[~new]), list(order[new])
    # An arrival that ranks high enough by itself keeps its place and counts.
    out: list[int] = []
    rank = {int(n): place for place, n in enumerate(order)}
    while rest or arrivals:
        due = arrivals and (not rest or rank[int(arrivals[0])] < rank[int(rest[0])])
        owed = arrivals and since >= every - 1 and len(out) < limit
        take = arrivals.pop(0) if due or owed else rest.pop(0)
        since = 0 if due or owed else since + 1
        out.append(int(take))
    return np.array(out, np.int64)


def _in_categories_of(snapshot: Snapshot, positions: Int64Array) -> BoolArray:
    """bool[items]: whether an item shares a category with one of those at `positions`."""
    categories = snapshot.categories[positions]
    shared: BoolArray = np.isin(snapshot.categories, categories[categories >= 0])
    return shared


def _rotation(request: RecommendationRequest) -> int:
    """Hash visitor, placement and day: the same all day long, so that a page shown again stays as it is."""
    visitor = (request.customer_id, request.client_id, request.session_id)
    day = int(time()) // 86_400
    return crc32(f"{visitor} {request.placement} {day}".encode("utf-8", "surrogatepass"))
