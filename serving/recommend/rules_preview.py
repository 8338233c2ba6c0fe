"""Rules preview: a placement with and without rules, and of each rule whether it acts or which part does not hold."""

from typing import Any

from models.interface import SessionEvent
from serving.recommend import planner, slate
from serving.recommend.active_model import ActiveModel
from serving.recommend.rule_effects import RuleEvaluator
from serving.recommend.slate import Slate
from serving.rules.report import format_local, report_rules
from serving.rules.rulebook import Rulebook
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RecommendationRequest

PreviewBody = dict[str, Any]


def preview_rules(
    model: ActiveModel,
    request: RecommendationRequest,
    placement: Placement,
    book: Rulebook,
    visit: tuple[SessionEvent, ...],
    now: int,
    at: int,
) -> PreviewBody:
    """Compare the answer to a request at `now` with the one under the rules of `book`, as they hold at `at`.

    Both in microseconds. Nothing is counted.
    """
    evaluator = RuleEvaluator(lambda: book, lambda _, __: None)
    effects = evaluator.evaluate(request, model, visit, at, request.placement)
    plans = [
        planner.plan(request, placement, model, visit, now),
        planner.plan(request, placement, model, visit, now, effects=effects),
    ]
    rankings = model.recommender.recommend([plan.ranking_request for plan in plans])
    slates = [slate.assemble(plan, ranking) for plan, ranking in zip(plans, rankings, strict=True)]
    record = evaluator.whole_record(request, model, visit, at, request.placement)
    unit = request.customer_id or request.client_id or None
    reports = report_rules(evaluator.masks(model), record, request.placement, unit, at)
    limit = planner.resolve_limit(request, placement)
    return {
        "placement": request.placement,
        "at": format_local(at, book.zone),
        "without_rules": _items(slates[0], limit),
        "with_rules": _items(slates[1], limit),
        "rules": [{"id": r.id, "action": r.action, "matched": r.matched, "why": r.why} for r in reports],
    }


def _items(filled: Slate, limit: int) -> list[PreviewBody]:
    order, moves = filled.arrange_page(limit, ())
    item_ids = filled.ranking.item_ids
    return [
        {
            "item_id": item_ids[n],
            "title": filled.model.title(item_ids[n]),
            "rank": rank,
            "rules": [move.as_json() for move in moves.get(n, ())],
        }
        for rank, n in enumerate(order[:limit], 1)
    ]
