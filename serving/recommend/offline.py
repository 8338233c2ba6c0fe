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
from serving.recommend.rule_effects import RuleEvaluator
from serving.rules.rulebook import Rulebook
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RecommendationRequest

BATCH = 1024  # customers per call, which bounds memory
_BARE = Placement()  # ranks as the recommender does by itself


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
    book: Rulebook | None = None,
    at: int | None = None,
) -> Iterator[OfflineSlate]:
    """Yield the slate of each customer, in order; `availability`: item id → what the shop said since the snapshot.

    The rules of `book` are followed as they hold at `at` (microseconds), by default now. Raises `InputError` for a
    placement that does not exist or needs more than a customer, and a limit above its own.
    """
    rules = _find(placement, placements, limit)
    yield from _fill(recommender, customers, placement, rules, limit, availability, book, at)


def fill_without_placement(
    recommender: Recommender,
    customers: Sequence[str],
    limit: int,
    availability: Mapping[str, bool],
    book: Rulebook,
    at: int | None = None,
) -> Iterator[OfflineSlate]:
    """Yield what `fill_placement` yields for lists that stand nowhere: rules for some placements do not act on them."""
    return _fill(recommender, customers, None, _BARE, limit, availability, book, at)


def _fill(
    recommender: Recommender,
    customers: Sequence[str],
    name: str | None,
    placement: Placement,
    limit: int | None,
    availability: Mapping[str, bool] | None,
    book: Rulebook | None,
    at: int | None,
) -> Iterator[OfflineSlate]:
    evaluator = None if book is None else RuleEvaluator(lambda: book, lambda _, __: None)
    model, now = prepare_model(recommender, availability or {}), clock.now()
    for start in range(0, len(customers), BATCH):
        batch = customers[start : start + BATCH]
        requests = [
            RecommendationRequest.model_construct(
                placement=name or "", customer_id=customer, limit=limit or placement.limit
            )
            for customer in batch
        ]
        plans = []
        for request in requests:
            effects = None
            if evaluator is not None:
                effects = evaluator.evaluate(request, model, (), now if at is None else at, name)
            plans.append(planner.plan(request, placement, model, (), now, effects=effects))
        rankings = recommender.recommend([plan.ranking_request for plan in plans])
        for customer, plan, ranking in zip(batch, plans, rankings, strict=True):
            filled, most = slate.assemble(plan, ranking), plan.ranking_request.limit
            places = filled.arrange_page(most, ())[0][:most]
            ranked = filled.ranking
            item_ids, scores = [ranked.item_ids[n] for n in places], [ranked.scores[n] for n in places]
            yield OfflineSlate(customer, item_ids, scores, ranked.strategy)


def prepare_model(recommender: Recommender, availability: Mapping[str, bool]) -> ActiveModel:
    """Return the model with what the shop said of its items since the snapshot: item id → available."""
    model = ActiveModel(recommender, None)
    overrides = {item_id: ItemOverride(value, None) for item_id, value in availability.items()}
    model.apply_overrides(OverridesState(1, MappingProxyType(overrides)))
    return model


def find_placement(name: str, placements: Mapping[str, Placement], request: RecommendationRequest) -> Placement:
    """Return the placement that a request names. Raises `InputError` where it does not exist or needs more."""
    placement = placements.get(name)
    if placement is None:
        raise InputError(f"there is no placement {name!r}; choose one of {', '.join(placements)}")
    context = {"items": request.context.item_ids, "cart": request.context.cart_item_ids,
               "category": request.context.category}  # fmt: skip
    if placement.needs is not None and not context[placement.needs]:
        option = {"items": "--viewed", "cart": "--cart", "category": "--category"}[placement.needs]
        raise InputError(f"the placement {name} needs {option}")
    return placement


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
