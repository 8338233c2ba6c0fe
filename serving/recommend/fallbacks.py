"""Fallbacks: what a request is answered with that the batcher gave no slate."""

import asyncio
from collections.abc import Callable, Mapping

from features.common import clock
from models.interface import Fallback
from serving.recommend import planner, slate
from serving.recommend.active_model import ActiveModel
from serving.recommend.batcher import BatcherError, Closed, DeadlineExceeded, Overloaded
from serving.recommend.pagination import InvalidCursor
from serving.recommend.rule_effects import RuleEvaluator
from serving.recommend.slate import Slate
from serving.schemas.placements import Placement
from serving.schemas.problems import FieldError, Problem, log_failure, problem
from serving.schemas.recommendations import RankedRequest, RecommendationRequest

# Requests that may be answered without a ranker at once: it takes time that the ranker then lacks.
_MAX_AT_ONCE = 64


def refuse(error: BatcherError) -> Problem:
    """Return the problem of a request for which there was no time."""
    if isinstance(error, Closed):
        return problem("unavailable", "The server is shutting down; try again after Retry-After seconds")
    return problem("overloaded", "Too many requests are waiting; try again after Retry-After seconds")


class Fallbacks:
    """Answers with what sells, which needs no ranker. Belongs to one event loop."""

    def __init__(self, placements: Mapping[str, Placement], rules: RuleEvaluator | None = None) -> None:
        self._placements, self._rules = placements, rules
        self._at_once = 0

    async def answer(
        self,
        request: RankedRequest,
        error: BaseException,
        get_model: Callable[[], ActiveModel] | None,
        request_id: str,
        pointer: str,
    ) -> Slate | Problem:
        """Answer without a ranker where the batch failed with `error`; a problem where the request was refused.

        `get_model`: None where it is not warm yet.
        """
        late = isinstance(error, DeadlineExceeded)
        if isinstance(error, Closed | Overloaded):
            return refuse(error)
        if isinstance(error, InvalidCursor):
            field_error = FieldError(pointer=f"{pointer}/cursor", detail=str(error))
            return problem("invalid_request", str(error), [field_error])
        if late and (self._at_once >= _MAX_AT_ONCE or _is_rest(request)):
            return refuse(DeadlineExceeded())
        if not late:
            log_failure("ranking failed", request_id, error)
        if get_model is None:
            return problem("internal_error", "The ranking failed")
        self._at_once += 1
        try:
            return await asyncio.to_thread(
                self._rank, request, get_model, "deadline" if late else "ranker_error", request_id
            )
        finally:
            self._at_once -= 1

    def _rank(
        self, request: RankedRequest, get_model: Callable[[], ActiveModel], why: Fallback, request_id: str
    ) -> Slate | Problem:
        try:
            model = get_model()
            at, effects = clock.now(), None
            if self._rules is not None:
                effects = self._rules.evaluate(request, model, (), at, request.placement)
            placement = self._placements[request.placement]
            plan = planner.plan(request, placement, model, (), at, degraded=True, effects=effects)
            return slate.assemble(plan, model.recommender.recommend_without_ranker(plan.ranking_request, why))
        except Exception as worse:
            log_failure("the fallback failed", request_id, worse)
            return problem("internal_error", "The ranking failed")


def _is_rest(request: RankedRequest) -> bool:
    """Whether it asks for the rest of an earlier list, which no other list is."""
    return isinstance(request, RecommendationRequest) and request.cursor is not None
