"""From a ranking to the answer that is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Any
from uuid import uuid4
from zlib import crc32

import numpy as np

from models.explain.codes import Reason
from models.explain.texts import ENGLISH
from models.interface import Ranking
from serving.recommend import pagination
from serving.recommend.active_model import Served
from serving.recommend.planner import Asked, Plan
from serving.recommend.slate import arranged
from serving.schemas.problems import FieldError, Problem, as_dict

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """A ranking, the order in which it is shown, and how it came about. `before`: products of earlier pages."""

    ranking: Ranking
    order: np.ndarray
    served: Served
    thanks: list[str]
    degraded: bool = False
    before: int = 0
    reasons: list[list[Reason]] | None = None  # per item of the ranking


def shown(
    asked: Asked,
    planned: Plan,
    ranking: Ranking,
    served: Served,
    degraded: bool,
    reasons: list[list[Reason]] | None = None,
) -> Shown:
    """The ranking in the order that request and placement want."""
    request, placement = asked.request, asked.placement
    if asked.only is not None:
        return Shown(ranking, np.arange(len(ranking.item_ids)), served, [], degraded, reasons=reasons)
    diversity = placement.diversity if request.diversity is None else request.diversity
    limit = asked.limit + asked.beyond
    order = arranged(ranking, served.snapshot, limit, diversity, placement.explore, planned.cooling, _turn(asked))
    degraded = degraded or ranking.fallback == "ranker_error"
    return Shown(ranking, order, served, planned.thanks, degraded, reasons=reasons)


def _turn(asked: Asked) -> int:
    """The same for a visitor all day long, so that a page shown again stays as it is."""
    who = (asked.request.customer_id, asked.request.client_id, asked.request.session_id)
    return crc32(f"{who} {asked.request.placement} {int(time()) // 86_400}".encode("utf-8", "surrogatepass"))


def page(asked: Asked, served: Served) -> Shown:
    """What a cursor still holds, without what is not to be shown any more. Raises `cursors.BadCursor`."""
    request, s = asked.request, served.snapshot
    found = pagination.read(request.cursor or "", s.items, request.placement, time())
    allowed = served.shelf.allowed(request.filter, asked.category)
    keep = found.positions if allowed is None else found.positions[allowed[found.positions]]
    keep = keep[~np.isin(keep, s.items.find(request.exclude.item_ids))]
    ids = s.items.at(keep)
    (customer,) = s.customers.find([request.customer_id or ""])
    ranking = Ranking(
        item_ids=ids,
        scores=[0.0] * len(ids),
        generators=[()] * len(ids),
        strategy=found.strategy,
        fallback=None,
        segment=s.segment(int(customer)),
        ordered=len(ids),
        positions=keep,
    )
    return Shown(ranking, np.arange(len(ids)), served, [], before=found.shown)


def result(asked: Asked, given: Shown, used: set[str], dry_run: bool = False) -> Result:
    """The answer to one request, of products that are not in `used`; those it shows are added."""
    request, ranking = asked.request, given.ranking
    most = len(ranking.item_ids) if asked.only is not None else asked.limit
    left = [n for n in given.order.tolist() if ranking.item_ids[n] not in used]
    places, rest = left[:most], left[most:]
    used.update(ranking.item_ids[n] for n in places)
    items: list[Result] = [{"item_id": ranking.item_ids[n], "rank": r} for r, n in enumerate(places, given.before + 1)]
    if "score" in request.include and not request.cursor:
        for item, n in zip(items, places, strict=True):
            item["score"] = float(ranking.scores[n])
    if "generators" in request.include and not request.cursor:
        for item, n in zip(items, places, strict=True):
            item["generators"] = ranking.generators[n]
    if "reasons" in request.include and given.reasons is not None:
        for item, n in zip(items, places, strict=True):
            item["reasons"] = [_reason(r, given.served) for r in given.reasons[n]]
    return {
        "recommendation_id": None if dry_run else f"rec_{uuid4().hex}",
        "placement": request.placement,
        "items": items,
        "strategy": ranking.strategy,
        "fallback": _fallback(asked, ranking, places),
        "degraded": given.degraded,
        "segment": ranking.segment,
        "thanks": given.thanks,
        "model": given.served.model,
        "experiment": None,
        "next_cursor": _next(asked, given, places, rest),
    }


def _fallback(asked: Asked, ranking: Ranking, places: list[int]) -> Result | None:
    """Why the answer is not what was asked for, and what stood in."""
    filled = [ranking.generators[n][0] for n in places if n >= ranking.ordered]
    if ranking.fallback is not None:
        return {"why": ranking.fallback, "to": filled[0] if filled and not ranking.ordered else ranking.strategy}
    return {"why": "shortage", "to": filled[0]} if filled else None


def _next(asked: Asked, given: Shown, places: list[int], rest: list[int]) -> str | None:
    """The cursor for what was ranked and not shown."""
    ranking, s = given.ranking, given.served.snapshot
    positions = ranking.positions[[n for n in rest if n < ranking.ordered]]
    if asked.only is not None or not len(positions):
        return None
    cursor = pagination.Cursor(positions, given.before + len(places), ranking.strategy, int(time()))
    return pagination.write(cursor, s.items, asked.request.placement)


def _reason(reason: Reason, served: Served) -> Result:
    titles = {} if reason.item_id is None else {reason.item_id: served.title(reason.item_id)}
    text = ENGLISH.say(reason, {i: t for i, t in titles.items() if t})
    return {"code": reason.code, "item_id": reason.item_id, "text": text}


def as_result(outcome: Result | Problem) -> Result:
    """An element of `results`."""
    return {"error": as_dict(outcome)} if isinstance(outcome, Problem) else outcome


def failure(outcomes: Sequence[Result | Problem]) -> Problem | None:
    """The problem of the whole answer when no request was answered; else None.

    The gravest status stands for all: one server error means that sending the same again may work.
    """
    problems = [o for o in outcomes if isinstance(o, Problem)]
    if len(problems) < len(outcomes):
        return None
    gravest = max(problems, key=lambda p: p.status)
    errors: list[FieldError] = [e for p in problems for e in p.errors or []]
    return gravest.model_copy(update={"errors": errors or None})
