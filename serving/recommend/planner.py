"""Plans: what the model is to rank, from a request, its placement and what its visitor did."""

from dataclasses import dataclass

import numpy as np

from features.common.arrays import BoolArray, Int64Array
from features.event_log.schema import EventName
from features.event_log.stated_answers import PREFERENCES
from features.ranking.visitors import MOST_RECENT
from models.interface import RankingRequest, RankingRules, SessionEvent
from serving.recommend import pagination
from serving.recommend.active_model import ActiveModel
from serving.rules.effects import Effects
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RankedRequest, RecommendationRequest, RerankRequest
from serving.schemas.visitor import VisitorIds

RecentEvents = tuple[SessionEvent | tuple[str, EventName], ...]

_HOUR_S, _DAY_H = 3600, 24
_BEST_SELLERS = 200  # that are ranked with the candidates where a filter leaves few of these
_MAX_REASONS = 3
_NO_ITEMS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Plan:
    """A request resolved against its placement and the active model.

    `ranking_request` goes to the recommender. `thanks`: ids of items bought so lately that the visitor is thanked for
    them, latest first; `cooling`: their positions. `degraded`: the visitor's stored events could not be read.
    `effects`: what the shop's rules do to it.
    """

    request: RankedRequest
    placement: Placement
    model: ActiveModel
    ranking_request: RankingRequest
    thanks: list[str]
    cooling: Int64Array
    degraded: bool = False
    effects: Effects | None = None


def plan(
    request: RankedRequest,
    placement: Placement,
    model: ActiveModel,
    visit: tuple[SessionEvent, ...],
    now: int,
    degraded: bool = False,
    effects: Effects | None = None,
) -> Plan:
    """Plan a request. `visit`: the visitor's stored events up to `now` (microseconds), oldest first."""
    if effects is not None and effects.placement_changes:
        placement = placement.model_copy(update=effects.placement_changes)
    recent = _recent_events(request, placement, visit)
    if isinstance(request, RerankRequest):
        return _plan_rerank(request, placement, model, recent, degraded, effects)
    hours, days = placement.cool_down_hours, _leave_out_days(request, placement)
    bought, days_ago = model.purchases(request.customer_id, now) if days else (_NO_ITEMS, _NO_ITEMS)
    before = model.snapshot.items.at(bought[days_ago <= hours / _DAY_H]) if hours else []
    # The latest first; purchases that the snapshot knows come after those of the visit.
    thanks = list(dict.fromkeys([*reversed(_purchases(visit, hours * _HOUR_S)), *before])) if hours else []
    cooling = model.snapshot.items.find(thanks)
    narrow = request.filter is not None or resolve_category(request, placement) is not None
    purchases = _purchases(visit, days * _DAY_H * _HOUR_S) if days else []
    allowed = _allowed(request, placement, model, purchases, bought[days_ago <= days])
    rules = RankingRules(
        generators=placement.generators,
        use_ranker=placement.ranked,
        allowed=allowed if effects is None else effects.allow(allowed),
        extra_best_sellers=_BEST_SELLERS if narrow and placement.generators is None else 0,
        fill=() if request.strict else tuple(dict.fromkeys((*placement.fill, "popular"))),
        reserve=pagination.MAX_ITEMS,
        max_reasons=_max_reasons(request),
    )
    ranking_request = RankingRequest(
        resolve_limit(request, placement),
        request.customer_id or None,
        recent,
        _excluded_ids(request, placement, thanks),
        rules,
    )
    return Plan(request, placement, model, ranking_request, thanks, cooling[cooling >= 0], degraded, effects)


def _plan_rerank(
    request: RerankRequest,
    placement: Placement,
    model: ActiveModel,
    recent: RecentEvents,
    degraded: bool,
    effects: Effects | None,
) -> Plan:
    # All of the items and nothing else, among the candidates of all generators: the ranker is trained on places there.
    item_ids = request.unique_item_ids
    positions = model.snapshot.items.find(item_ids)
    allowed = np.zeros(len(model.snapshot.items), bool)
    allowed[positions[positions >= 0]] = True
    if effects is not None and effects.hidden is not None:
        allowed &= ~effects.hidden
    rules = RankingRules(allowed=allowed, extra_best_sellers=len(positions), fill=(), max_reasons=_max_reasons(request))
    ranking_request = RankingRequest(len(item_ids), request.customer_id or None, recent, rules=rules)
    return Plan(request, placement, model, ranking_request, [], _NO_ITEMS, degraded, effects)


def resolve_limit(request: RankedRequest, placement: Placement) -> int:
    """How many items the response has at most; for a rerank, how many are ranked."""
    if isinstance(request, RerankRequest):
        return len(request.unique_item_ids)
    return request.limit or placement.limit


def resolve_category(request: RecommendationRequest, placement: Placement) -> str | None:
    """The category outside which the placement shows nothing; None: it shows all."""
    return request.context.category if placement.within else None


def resolve_visitor(request: RankedRequest, placement: Placement) -> VisitorIds | None:
    """The visitor whose stored events the plan needs; None where the placement looks at none."""
    days = None if isinstance(request, RerankRequest) else request.exclude.purchased_within_days
    purchases = placement.cool_down_hours or placement.bought_days or days or "bought" in placement.leave_out
    return request.visitor if purchases or placement.about != "nothing" else None


def merge_context(visit: tuple[SessionEvent, ...], context: tuple[tuple[str, EventName], ...]) -> RecentEvents:
    """Append the events of the storefront's context to the stored ones; they count as more recent.

    An event that both have counts once, as in training: an item that the visit viewed is not viewed again by being
    named, and is put into the cart by it if the visit has not done so.
    """
    touches = [event for event in visit if event.name != PREFERENCES]
    stored = {(event.item_id, event.name) for event in touches[-MOST_RECENT:]}
    return visit + tuple(e for e in context if (e[0], e[1]) not in stored)


def _purchases(visit: tuple[SessionEvent, ...], within_s: float) -> list[str]:
    """Ids of items bought in the visit in the last `within_s` seconds, oldest first."""
    return [e.item_id for e in visit if e.name == "purchase" and (e.age or 0) <= within_s]


def _recent_events(request: RankedRequest, placement: Placement, visit: tuple[SessionEvent, ...]) -> RecentEvents:
    context = request.context_events
    match placement.about:
        case "nothing":
            return ()
        case "context":
            return tuple(e for e in context if e[1] == "view_item")
        case "cart":
            return tuple(e for e in context if e[1] == "add_to_cart")
    return merge_context(visit, context)


def _excluded_ids(request: RecommendationRequest, placement: Placement, thanks: list[str]) -> frozenset[str]:
    ids = [*request.exclude.item_ids, *thanks]
    ids += request.context.item_ids if "context" in placement.leave_out else []
    ids += request.context.cart_item_ids if "cart" in placement.leave_out else []
    return frozenset(ids)


def _allowed(
    request: RecommendationRequest, placement: Placement, model: ActiveModel, visit_purchases: list[str],
    bought: Int64Array,
) -> BoolArray | None:  # fmt: skip
    """bool[items]: what may be shown; None: everything.

    `visit_purchases` (ids) and `bought` (positions): purchases too recent to be shown, in this visit and before it.
    """
    s = model.snapshot
    allowed = model.availability.allowed(request.filter, resolve_category(request, placement))
    positions = s.items.find(visit_purchases)
    left_out = np.concatenate([positions[positions >= 0], bought])
    if "cart_categories" in placement.leave_out and request.context.cart_item_ids:
        cart = s.items.find(request.context.cart_item_ids)
        categories = s.categories[cart[cart >= 0]]
        left_out = np.concatenate([left_out, np.flatnonzero(np.isin(s.categories, categories[categories >= 0]))])
    if not len(left_out):
        return allowed
    allowed = np.ones(len(s.items), bool) if allowed is None else allowed.copy()
    allowed[left_out] = False
    return allowed


def _leave_out_days(request: RecommendationRequest, placement: Placement) -> float:
    """For how many days a purchase is not shown; 0: it always is."""
    if "bought" in placement.leave_out:
        return np.inf
    days = request.exclude.purchased_within_days
    return max(placement.bought_days if days is None else days, placement.cool_down_hours / _DAY_H)


def _max_reasons(request: RankedRequest) -> int:
    return _MAX_REASONS if "reasons" in request.include else 0
