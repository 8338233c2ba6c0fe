"""The batch ranker: slates for the requests of one batch, in the batcher's thread.

One read of the event store and one call of the recommender serve all of them; each request's own fault is its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from features.common import clock
from models.explain.codes import Reason
from models.explain.reasons import explain_ranking
from models.interface import Ranking, RankingRequest, SessionEvent
from serving import metrics
from serving.event_store import StoreUnavailable
from serving.recommend import planner, slate
from serving.recommend.active_model import ActiveModel
from serving.recommend.pagination import CursorCodec
from serving.recommend.planner import Plan
from serving.recommend.rule_effects import RuleEvaluator
from serving.recommend.slate import Slate
from serving.schemas.placements import Placement
from serving.schemas.problems import log_failure
from serving.schemas.recommendations import RankedRequest, RecommendationRequest
from serving.schemas.visitor import VisitorIds

# A ranking, and the reasons of its items where the request wants them.
RankingWithReasons = tuple[Ranking, list[list[Reason]] | None]
Visit = tuple[SessionEvent, ...]


class BatchRanker:
    """Ranks batches for `placements`; `rules`: None where the shop has none."""

    def __init__(
        self, placements: Mapping[str, Placement], cursors: CursorCodec, rules: RuleEvaluator | None = None
    ) -> None:
        self._placements, self._cursors, self._rules = placements, cursors, rules

    def rank(self, model: ActiveModel, requests: Sequence[RankedRequest]) -> list[Slate | Exception]:
        """Answer a batch: the rest of earlier lists, and what is to be ranked."""
        resumed = {i: self._resume(r, model) for i, r in enumerate(requests)
                   if isinstance(r, RecommendationRequest) and r.cursor is not None}  # fmt: skip
        ranked = iter(self._rank_new(model, [r for i, r in enumerate(requests) if i not in resumed]))
        return [resumed[i] if i in resumed else next(ranked) for i in range(len(requests))]

    def _resume(self, request: RecommendationRequest, model: ActiveModel) -> Slate | Exception:
        try:
            placement, effects = self._placements[request.placement], None
            if self._rules is not None:
                visits, _ = self._read(model, [request.visitor if self._rules.book.needs_visit else None])
                effects = self._rules.evaluate(request, model, visits[0], clock.now(), request.placement)
            return slate.resume(request, placement, model, self._cursors, effects)
        except Exception as error:
            return error

    def _rank_new(self, model: ActiveModel, requests: list[RankedRequest]) -> list[Slate | Exception]:
        """Rank with one read of the store and one call of the recommender for all."""
        if not requests:
            return []
        metrics.observe_batch(len(requests))
        find_visitor = planner.resolve_visitor if self._rules is None else self._rules.visitor
        visitors = [find_visitor(r, self._placements[r.placement]) for r in requests]
        visits, unread = self._read(model, visitors)
        with metrics.time_stage("plan"):
            at = clock.now()
            plans = [
                self._plan(request, model, visit, at, degraded=unread and visitor is not None)
                for request, visitor, visit in zip(requests, visitors, visits, strict=True)
            ]
        rankings = self._rank(model, [p for p in plans if isinstance(p, Plan)])
        with metrics.time_stage("rules"):
            return [p if isinstance(p, Exception) else _assemble(p, next(rankings)) for p in plans]

    def _read(self, model: ActiveModel, visitors: Sequence[VisitorIds | None]) -> tuple[Sequence[Visit], bool]:
        """Read the visits; also returns whether they could not be read, and are empty."""
        nothing: Sequence[Visit] = [() for _ in visitors]
        if model.visits is None:
            return nothing, False
        try:
            with metrics.time_stage("visitor"):
                return model.visits.read(visitors), False
        except StoreUnavailable:
            return nothing, True

    def _plan(
        self, request: RankedRequest, model: ActiveModel, visit: Visit, at: int, degraded: bool
    ) -> Plan | Exception:
        try:
            effects = None
            if self._rules is not None:
                effects = self._rules.evaluate(request, model, visit, at, request.placement)
            return planner.plan(request, self._placements[request.placement], model, visit, at, degraded, effects)
        except Exception as error:  # its own fault: the others of the batch go on
            return error

    def _rank(self, model: ActiveModel, plans: list[Plan]) -> Iterator[RankingWithReasons | Exception]:
        if not plans:
            return iter(())
        try:
            rankings = _with_reasons(model.recommender.recommend([p.ranking_request for p in plans]))
        except Exception as error:
            if len(plans) > 1:
                raise  # each is tried alone, and only the one at fault goes without its ranker
            log_failure("ranking failed", "of a batch", error)
            rankings = [self._rank_without_history(model, plans[0].ranking_request)]
        if len(rankings) != len(plans):  # none can be matched
            return iter([RuntimeError("the recommender gave another number of answers")] * len(plans))
        return iter(rankings)

    def _rank_without_history(self, model: ActiveModel, request: RankingRequest) -> RankingWithReasons:
        """Rank for a customer whose ranker failed as for an unknown visitor with the same visit; else what sells."""
        if request.customer_id is not None:
            try:
                ((ranking, reasons),) = _with_reasons(model.recommender.recommend([replace(request, customer_id=None)]))
                return replace(ranking, fallback="ranker_error"), reasons
            except Exception as error:
                log_failure("the visit's ranking failed too", "of a batch", error)
        return model.recommender.recommend_without_ranker(request, "ranker_error"), None


def _with_reasons(rankings: Sequence[Ranking]) -> list[RankingWithReasons]:
    """Takes as long as ranking does: runs in the batcher's thread, never in the event loop."""
    return [(ranking, explain_ranking(ranking)) for ranking in rankings]


def _assemble(plan: Plan, ranked: RankingWithReasons | Exception) -> Slate | Exception:
    return ranked if isinstance(ranked, Exception) else slate.assemble(plan, *ranked)
