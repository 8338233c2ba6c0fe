"""From a request and its placement to what the recommender is asked."""

from dataclasses import dataclass

import numpy as np

from features.event_log.schema import EventName
from features.ranking.visitors import MOST_RECENT
from models.interface import Request, Rules, Seen
from serving.event_store import Visitor
from serving.recommend import pagination
from serving.recommend.active_model import Served
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RecommendationRequest

_HOUR_S, _DAY_H = 3600, 24
_BEST_TOO = 200  # best sellers that are ranked where a filter leaves few candidates
_REASONS = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request, and where in the body it stands.

    `beyond`: so many products of the others it may have to give way to; `only`: what a rerank is about.
    """

    request: RecommendationRequest
    placement: Placement
    pointer: str = ""
    beyond: int = 0
    only: tuple[str, ...] | None = None

    @property
    def limit(self) -> int:
        return self.request.limit or self.placement.limit

    @property
    def category(self) -> str | None:
        """The category that nothing but which is shown."""
        return self.request.context.category if self.placement.within else None

    @property
    def visitor(self) -> Visitor | None:
        """Whose stored events matter."""
        placement, days = self.placement, self.request.exclude.purchased_within_days
        bought = placement.cool_down_hours or placement.bought_days or days or "bought" in placement.leave_out
        return self.request.visitor if bought or placement.about != "nothing" else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the recommender is asked, and what was bought so lately that it is thanked for."""

    request: Request
    cooling: np.ndarray
    thanks: list[str]


def plan(asked: Asked, visit: tuple[Seen, ...], served: Served, now: int) -> Plan:
    """`visit`: the visitor's stored events up to `now` (microseconds), oldest first."""
    request, placement = asked.request, asked.placement
    recent = _recent(asked, visit)
    if asked.only is not None:
        # All of them and nothing else, among the candidates of all generators: the ranker is used to places there.
        given = served.snapshot.items.find(asked.only)
        allowed = np.zeros(len(served.snapshot.items), bool)
        allowed[given[given >= 0]] = True
        rules = Rules(allowed=allowed, best_too=len(given), fill=(), reasons=_told(request))
        return Plan(Request(len(asked.only), request.customer_id or None, recent, rules=rules), _none(), [])
    hours = placement.cool_down_hours
    days = _left_out_days(asked)
    bought, ago = served.bought(request.customer_id, now) if days else (_none(), _none())
    before = served.snapshot.items.at(bought[ago <= hours / _DAY_H]) if hours else []
    # The latest first; what the snapshot knows of comes after it.
    thanks = list(dict.fromkeys([*reversed(_purchases(visit, hours * _HOUR_S)), *before])) if hours else []
    cooling = served.snapshot.items.find(thanks)
    narrowed = request.filter is not None or asked.category is not None
    rules = Rules(
        generators=placement.generators,
        ranked=placement.ranked,
        allowed=_allowed(
            asked, served, _purchases(visit, days * _DAY_H * _HOUR_S) if days else [], bought[ago <= days]
        ),
        best_too=_BEST_TOO if narrowed and placement.generators is None else 0,
        fill=() if request.strict else tuple(dict.fromkeys((*placement.fill, "popular"))),
        more=pagination.MOST,
        reasons=_told(request),
    )
    return Plan(
        Request(asked.limit + asked.beyond, request.customer_id or None, recent, _excluded(asked, thanks), rules),
        cooling[cooling >= 0],
        thanks,
    )


def _purchases(visit: tuple[Seen, ...], within_s: float) -> list[str]:
    """What the visit bought within so many seconds, oldest first."""
    return [e.item_id for e in visit if e.name == "purchase" and (e.age or 0) <= within_s]


def _recent(asked: Asked, visit: tuple[Seen, ...]) -> tuple[Seen | tuple[str, EventName], ...]:
    said = asked.request.recent
    match asked.placement.about:
        case "nothing":
            return ()
        case "context":
            return tuple(e for e in said if e[1] == "view_item")
        case "cart":
            return tuple(e for e in said if e[1] == "add_to_cart")
    return together(visit, said)


def together(
    visit: tuple[Seen, ...], said: tuple[tuple[str, EventName], ...]
) -> tuple[Seen | tuple[str, EventName], ...]:
    """The stored visit before what the storefront says of it, which counts as more recent.

    What both say counts once, as in training: an item that the visit viewed is not viewed again by being named,
    and is put into the cart by it if the visit has not done so.
    """
    stored = {(event.item_id, event.name) for event in visit[-MOST_RECENT:]}
    return visit + tuple(e for e in said if (e[0], e[1]) not in stored)


def _excluded(asked: Asked, thanks: list[str]) -> frozenset[str]:
    request, left_out = asked.request, asked.placement.leave_out
    ids = [*request.exclude.item_ids, *thanks]
    ids += request.context.item_ids if "context" in left_out else []
    ids += request.context.cart_item_ids if "cart" in left_out else []
    return frozenset(ids)


def _allowed(asked: Asked, served: Served, lately: list[str], bought: np.ndarray) -> np.ndarray | None:
    """`lately` and `bought`: what the customer bought too lately to be shown, in this visit and before."""
    request, placement, s = asked.request, asked.placement, served.snapshot
    allowed = served.shelf.allowed(request.filter, asked.category)
    here = s.items.find(lately)
    gone = np.concatenate([here[here >= 0], bought])
    if "cart_categories" in placement.leave_out and request.context.cart_item_ids:
        cart = s.items.find(request.context.cart_item_ids)
        shelves = s.categories[cart[cart >= 0]]
        gone = np.concatenate([gone, np.flatnonzero(np.isin(s.categories, shelves[shelves >= 0]))])
    if not len(gone):
        return allowed
    allowed = np.ones(len(s.items), bool) if allowed is None else allowed.copy()
    allowed[gone] = False
    return allowed


def _left_out_days(asked: Asked) -> float:
    """How long what was bought is not shown; 0: not at all."""
    placement, days = asked.placement, asked.request.exclude.purchased_within_days
    if "bought" in placement.leave_out:
        return np.inf
    return max(placement.bought_days if days is None else days, placement.cool_down_hours / _DAY_H)


def _told(request: RecommendationRequest) -> int:
    return _REASONS if "reasons" in request.include else 0


def _none() -> np.ndarray:
    return np.zeros(0, np.int64)
