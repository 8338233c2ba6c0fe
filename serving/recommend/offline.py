"""Placements without a server: the slates of many customers, as the HTTP API would answer each.

For lists that leave the shop, such as those of e-mails: one call per batch of customers, with the rules of the
placement (what it leaves out, what fills it up, diversity) and the availability that the store's overrides say. What
visitors did since the snapshot is not looked at: that is only known to the server.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from features.common import clock
from features.common.errors import InputError
from models.interface import Recommender
from serving.recommend import planner, slate
from serving.recommend.active_model import ActiveModel
from serving.recommend.item_overrides import ItemOverride, OverridesState
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RecommendationRequest

BATCH = 1024  # customers per call, which bounds memory


class OfflineSlate(NamedTuple):
    """The products of one customer, best first; `scores` compare items within it only."""

    customer_id: str
    item_ids: list[str]
    scores: list[float]
    strategy: str


def fill_placement(
    recommender: Recommender,
    customers: Sequence[str],
    placement: str,
    placements: Mapping[str, Placement],
    limit: int | None = None,
    availability: Mapping[str, bool] | None = None,
) -> Iterator[OfflineSlate]:
    """Yield the slate of each customer, in order; `availability`: item id → what the shop said since the snapshot.

    Raises `InputError` for a placement that does not exist or needs more than a customer, and a limit above its own.
    """
    rules = _find(placement, placements, limit)
    model, now = ActiveModel(recommender, None), clock.now()
    overrides = {item_id: ItemOverride(value, None) for item_id, value in (availability or {}).items()}
    model.apply_overrides(OverridesState(1, MappingProxyType(overrides)))
    for start in range(0, len(customers), BATCH):
        batch = customers[start : start + BATCH]
        requests = [
            RecommendationRequest.model_construct(placement=placement, customer_id=customer, limit=limit or rules.limit)
            for customer in batch
        ]
        plans = [planner.plan(request, rules, model, (), now) for request in requests]
        rankings = recommender.recommend([plan.ranking_request for plan in plans])
        for customer, plan, ranking in zip(batch, plans, rankings, strict=True):
            order = slate.assemble(plan, ranking).order[: plan.ranking_request.limit].tolist()
            item_ids, scores = [ranking.item_ids[n] for n in order], [ranking.scores[n] for n in order]
            yield OfflineSlate(customer, item_ids, scores, ranking.strategy)


def _find(name: str, placements: Mapping[str, Placement], limit: int | None) -> Placement:
    placement = placements.get(name)
    alone = [n for n, p in placements.items() if p.needs is None]
    if placement is None:
        raise InputError(f"there is no placement {name!r}; choose one of {', '.join(alone)}")
    if placement.needs is not None:
        raise InputError(
            f"the placement {name} needs what the visitor looks at ({placement.needs}), so only the server can fill "
            f"it; choose one of {', '.join(alone)}"
        )
    if limit is not None and limit > placement.most:
        raise InputError(f"--k is {limit}; the placement {name} shows at most {placement.most}")
    return placement
