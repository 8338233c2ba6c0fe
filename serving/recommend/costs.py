"""Costs: how many plain requests a request weighs, for the fair queue and for rate limits.

A plain request is one for twelve products for a known customer. The weights are processor time in a batch of 16,
measured on a small catalog; the text filters of a large one cost more, and only their sender waits for them.
"""

from serving.schemas.filters import Filter
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RankedRequest, RerankRequest

PLAIN = 1.0
EXPLAIN = 20.0
EVENTS_PER_COST = 10  # so many events in a body cost as much as a plain request
BULK_BYTES = 60  # a call of the bulk endpoint costs one for so many bytes

_CURSOR, _REASONS = 0.5, 3.0
_CONTEXT_ITEM, _EXCLUDED, _ITEM, _DIVERSE_ITEM = 0.012, 0.002, 0.003, 0.03
_FILTER, _CONDITION, _ATTRIBUTE = 1.0, 0.15, 0.7


def request_cost(request: RankedRequest, placement: Placement) -> float:
    """Return what one placement costs."""
    context = request.context
    cost = PLAIN + _CONTEXT_ITEM * (len(context.item_ids) + len(context.cart_item_ids))
    cost += _REASONS if "reasons" in request.include else 0
    if isinstance(request, RerankRequest):
        return cost + _ITEM * len(request.item_ids)
    if request.cursor is not None:  # nothing is ranked
        return _CURSOR + filter_cost(request.filter)
    more = max(0, (request.limit or placement.limit) - placement.limit)
    cost += (_ITEM + (_DIVERSE_ITEM if request.diversity else 0)) * more
    return cost + _EXCLUDED * len(request.exclude.item_ids) + filter_cost(request.filter)


def filter_cost(filter_: Filter | None) -> float:
    """Return what a filter costs that was not asked for lately."""
    if filter_ is None:
        return 0
    conditions = [*filter_.all, *filter_.any, *filter_.none]
    attributes = {c.field for c in conditions if c.field.startswith("attributes.")}
    return _FILTER + _CONDITION * len(conditions) + _ATTRIBUTE * len(attributes)
