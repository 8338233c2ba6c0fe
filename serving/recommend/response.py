"""Responses: slates as the JSON of `results`, and the problem that stands for a body of which nothing could be done."""

from collections.abc import Sequence
from time import time
from typing import Any
from uuid import uuid4

from models.explain.codes import Reason
from models.explain.texts import ENGLISH
from models.interface import Ranking
from serving.identity.caller import Identity
from serving.recommend.active_model import ActiveModel
from serving.recommend.page_rules import RULE
from serving.recommend.pagination import Cursor, CursorCodec
from serving.recommend.slate import Slate
from serving.schemas.problems import FieldError, Problem, as_dict
from serving.schemas.recommendations import RerankRequest

ResponseBody = dict[str, Any]


def build(
    slate: Slate, identity: Identity, limit: int, used: set[str], cursors: CursorCodec, dry_run: bool = False
) -> ResponseBody:
    """Build the response of the slate's first `limit` items that are not in `used`, and add these to it."""
    request, ranking = slate.request, slate.ranking
    page_size = request.limit or limit if isinstance(request, RerankRequest) else limit
    order, moves = slate.arrange_page(page_size, used)
    places, rest = order[:limit], order[limit:]
    used.update(ranking.item_ids[n] for n in places)
    items: list[ResponseBody] = [
        {"item_id": ranking.item_ids[n], "rank": rank} for rank, n in enumerate(places, slate.offset + 1)
    ]
    if "score" in request.include and slate.scored:
        for item, n in zip(items, places, strict=True):
            item["score"] = float(ranking.scores[n])
    if "generators" in request.include and slate.scored:
        for item, n in zip(items, places, strict=True):
            item["generators"] = ranking.generators[n]
    if "reasons" in request.include and slate.reasons is not None:
        for item, n in zip(items, places, strict=True):
            item["reasons"] = [_reason(r, slate.model) for r in slate.reasons[n]]
    if "rules" in request.include:
        for item, n in zip(items, places, strict=True):
            item["rules"] = [move.as_json() for move in moves.get(n, ())]
    next_cursor = _next_cursor(slate, len(places), rest, cursors)
    if isinstance(request, RerankRequest):
        items, next_cursor = _complete(items, request, slate), None
    answer: ResponseBody = {
        "recommendation_id": None if dry_run else f"rec_{uuid4().hex}",
        "placement": request.placement,
        "items": items,
        "strategy": ranking.strategy,
        "fallback": _fallback(ranking, places),
        "degraded": slate.degraded,
        "identity": identity,
        "segment": ranking.segment,
        "thanks": slate.thanks,
        "model": slate.model.identity,
        "experiment": None,
        "next_cursor": next_cursor,
    }
    if "rules" in request.include:
        answer["rules"] = _rules(slate)
    return answer


def _fallback(ranking: Ranking, places: list[int]) -> ResponseBody | None:
    """Why the response is not what was requested, and the strategy or generator that stood in."""
    fillers = [ranking.generators[n][0] for n in places if n >= ranking.n_ranked and RULE not in ranking.generators[n]]
    if ranking.fallback is not None:
        return {"why": ranking.fallback, "to": fillers[0] if fillers and not ranking.n_ranked else ranking.strategy}
    return {"why": "shortage", "to": fillers[0]} if fillers else None


def _next_cursor(slate: Slate, count: int, rest: list[int], cursors: CursorCodec) -> str | None:
    """The cursor for what was ranked and is not among the `count` items of this page."""
    ranking = slate.ranking
    positions = ranking.positions[[n for n in rest if n < ranking.n_ranked]]
    if not len(positions):
        return None
    cursor = Cursor(positions, slate.offset + count, ranking.strategy, int(time()))
    return cursors.encode(cursor, slate.model.snapshot.items, slate.request.placement)


def _complete(items: list[ResponseBody], request: RerankRequest, slate: Slate) -> list[ResponseBody]:
    """Add the items of the request that were not ranked: unknown ones, and last of all what may not be shown."""
    item_ids, model = request.unique_item_ids, slate.model
    ranked = {str(item["item_id"]) for item in items}
    items = [*items, *({"item_id": i} for i in item_ids if i not in ranked)]
    allowed = model.availability.available
    if slate.effects is not None and slate.effects.hidden is not None:
        allowed = allowed & ~slate.effects.hidden
    positions = model.snapshot.items.find(item_ids).tolist()
    last = {i for i, p in zip(item_ids, positions, strict=True) if p >= 0 and not allowed[p]}
    items.sort(key=lambda item: item["item_id"] in last)
    items = items[: request.limit or len(request.item_ids)]
    for rank, item in enumerate(items, 1):
        item["rank"] = rank
    return items


def _rules(slate: Slate) -> ResponseBody:
    """Which rules act on the response, and which do not as the visitor is held out."""
    effects = slate.effects
    if effects is None:
        return {"applied": [], "held_out": []}
    return {"applied": [rule.id for rule in effects.rules], "held_out": list(effects.held_out)}


def _reason(reason: Reason, model: ActiveModel) -> ResponseBody:
    titles = {} if reason.item_id is None else {reason.item_id: model.title(reason.item_id)}
    text = ENGLISH.render(reason, {i: t for i, t in titles.items() if t})
    return {"code": reason.code, "item_id": reason.item_id, "text": text}


def as_result(outcome: ResponseBody | Problem) -> ResponseBody:
    """An element of `results`."""
    return {"error": as_dict(outcome)} if isinstance(outcome, Problem) else outcome


def failure(outcomes: Sequence[ResponseBody | Problem]) -> Problem | None:
    """The problem of the whole body where every request failed; else None.

    The gravest status stands for all: one server error means that sending the same again may work.
    """
    problems = [o for o in outcomes if isinstance(o, Problem)]
    if len(problems) < len(outcomes):
        return None
    gravest = max(problems, key=lambda p: p.status)
    errors: list[FieldError] = [e for p in problems for e in p.errors or []]
    return gravest.model_copy(update={"errors": errors or None})
