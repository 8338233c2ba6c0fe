"""The recommendation engine: from the bodies of requests to responses, for the HTTP API and the bulk endpoint alike.

Validation and the writing of responses run on the event loop; planning, ranking and the assembly of slates run for a
whole batch in the batcher's thread. A request that cannot be ranked falls back to what sells.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from pydantic import ValidationError

from features.common import clock
from features.common.errors import InputError
from models import timing
from models.explain.explain import explain_request
from models.interface import RankingRequest, RankingRules, SessionEvent
from serving import metrics
from serving.event_store import StoreUnavailable
from serving.identity.caller import Caller
from serving.installation_secret import signing_key
from serving.recommend import costs, planner, response
from serving.recommend.active_model import ActiveModel
from serving.recommend.batch_ranker import BatchRanker
from serving.recommend.batcher import BatcherError, BatchResult
from serving.recommend.fallbacks import Fallbacks, refuse
from serving.recommend.identified import IdentifiedRequest, identify
from serving.recommend.item_overrides import ItemOverrides
from serving.recommend.pagination import CursorCodec
from serving.recommend.ranking_queue import UNKNOWN_SENDER, RankingQueue, Sender
from serving.recommend.response import ResponseBody
from serving.recommend.rule_effects import RuleEvaluator
from serving.recommend.rules_preview import preview_rules
from serving.recommend.slate import Slate
from serving.rules.rulebook import Rulebook
from serving.schemas.placements import Needs, Placement
from serving.schemas.problems import FieldError, Problem, field_errors, problem
from serving.schemas.recommendations import ExplainRequest, RankedRequest, RecommendationRequest, RerankRequest
from serving.schemas.rules import RulesPreviewRequest
from serving.schemas.visitor import VisitorIds
from serving.settings import Settings

log = logging.getLogger("usual.serving")

# Results that are written without a pause.
_AT_ONCE = 4

_OF_PREVIEWS = ("rules", "at")  # and of no other request

# The field of the context that a placement needs.
_CONTEXT_FIELDS: dict[Needs, str] = {"items": "item_ids", "cart": "cart_item_ids", "category": "category"}


class RecommendationEngine:
    """Answers the requests of one server process with `active_model`, behind a batcher.

    What visitors did since the model's snapshot is read from the event store for each batch; `overrides` has what the
    shop set for its items since then.
    """

    def __init__(
        self,
        active_model: ActiveModel,
        settings: Settings,
        placements: dict[str, Placement],
        overrides: ItemOverrides | None = None,
        rules: RuleEvaluator | None = None,
    ) -> None:
        self.active_model = active_model
        self.placements = placements
        self._overrides, self._overrides_lock = overrides, threading.Lock()
        self._cursors = CursorCodec(partial(signing_key, settings, "cursors"))
        self._ready = False
        self._problem: str | None = None  # the last one that was logged
        self.rules = rules
        self._ranker = BatchRanker(placements, self._cursors, rules)
        self._queue = RankingQueue(self._rank_batch, settings, placements)
        self._fallbacks = Fallbacks(placements, rules)

    @property
    def ready(self) -> bool:
        """Whether `warm_up` has run, and the active model can answer somebody."""
        return self._ready and self.problem is None

    @property
    def problem(self) -> str | None:
        """Why the active model can answer nobody as things are; None if it can, or is not warm yet."""
        return self._current_model().problem if self._ready else None

    def warm_up(self) -> None:
        """Page the bundle in, and try whether it can answer."""
        self._apply_overrides(self.active_model)
        self.active_model.warm_up()
        if self.rules is not None:
            self.rules.warm_up(self.active_model)
        metrics.initialize(list(self.placements))
        timing.add_listener(metrics.observe_recommender_stage)
        metrics.set_model(self.active_model.version, self.active_model.as_of / 1e6)
        self._ready = True
        self._report_health(self.active_model)

    def swap(self, model: ActiveModel) -> None:
        """Answer with another model, which is warm, from the next batch on. Any thread may call this."""
        self._apply_overrides(model)
        self.active_model = model
        metrics.set_model(model.version, model.as_of / 1e6)
        self._report_health(model)

    def prepare(self, model: ActiveModel) -> None:
        """Warm a model up with all item overrides applied. Raises `InputError` if it can answer nobody."""
        self._apply_overrides(model)
        model.warm_up()
        if self.rules is not None:
            self.rules.warm_up(model)
        if model.problem is not None:
            raise InputError(
                f"the model of snapshot {model.identity['snapshot']} fails its self check: {model.problem}"
            )

    def prepare_rules(self, book: Rulebook) -> None:
        """Find the items of rules that are about to count, so that no request waits for it."""
        if self.rules is not None:
            self.rules.warm_up(self._current_model(), book)

    async def close(self) -> None:
        """Answer what is waiting and stop."""
        await self._queue.close()

    async def recommend(
        self,
        bodies: Sequence[object],
        request_id: str,
        caller: Caller,
        pointer: str = "/requests/{}",
        distinct: bool = False,
        dry_run: bool = False,
        sender: Sender = UNKNOWN_SENDER,
        in_thread: bool = False,
    ) -> tuple[list[ResponseBody | Problem], str]:
        """Respond to each body, in order, with a result or a problem; also returns the time taken, as Server-Timing.

        Of the visitors that they name, what `caller` proves counts. `pointer` is the JSON pointer of a request, with a
        place for its index. `in_thread`: validate them in one, as they are large.
        """

        def validate() -> list[IdentifiedRequest | Problem]:
            return [self._validate(body, caller, pointer.format(i)) for i, body in enumerate(bodies)]

        requests = await asyncio.to_thread(validate) if in_thread else validate()
        return await self._respond(requests, request_id, sender, pointer, distinct, dry_run)

    async def rerank(
        self, request: RerankRequest, request_id: str, caller: Caller, sender: Sender = UNKNOWN_SENDER
    ) -> tuple[ResponseBody | Problem, str]:
        """Respond with the request's items in the order of the visitor that `caller` proves, and the time taken.

        Items that the model does not know follow in the order of the request; what may not be shown comes last.
        """
        if refusal := self._check_placement(request, "") or _check_include(request, caller, ""):
            return refusal, ""
        (result,), timing_text = await self._respond([identify(request, caller)], request_id, sender)
        return result, timing_text

    async def explain(self, request: ExplainRequest, sender: Sender = UNKNOWN_SENDER) -> ResponseBody | Problem:
        """Explain the ranking of a visitor among the items that are available now, or that of the items it names."""
        model = self._current_model()

        def explain() -> ResponseBody:
            visit = _read_visit(model, request.visitor)
            recent = planner.merge_context(visit, request.context_events)
            allowed, effects = model.availability.allowed(), None
            if self.rules is not None:
                effects = self.rules.evaluate(request, model, visit, clock.now(), None)
            rules = RankingRules(allowed=allowed if effects is None else effects.allow(allowed))
            ranking_request = RankingRequest(request.limit, request.customer_id or None, recent, rules=rules)
            return explain_request(model.recommender, ranking_request, request.item_ids)

        try:
            return await self._run_aside(explain, sender, "the visit is a part of the answer")
        except InputError:
            detail = "The customer or a product is not known to the model; see its snapshot in GET /v1/model"
            return problem("invalid_request", detail)

    async def preview(
        self, request: RulesPreviewRequest, book: Rulebook, at: int, sender: Sender = UNKNOWN_SENDER
    ) -> ResponseBody | Problem:
        """Compare a placement with and without the rules of `book` as they hold at `at` (microseconds)."""
        fields = {name: getattr(request, name) for name in RulesPreviewRequest.model_fields if name not in _OF_PREVIEWS}
        ranked = RecommendationRequest.model_construct(**fields, include=["rules"])
        if refusal := self._check_placement(ranked, ""):
            return refusal
        model = self._current_model()

        def compare() -> ResponseBody:
            visit = _read_visit(model, ranked.visitor)
            return preview_rules(model, ranked, self.placements[ranked.placement], book, visit, clock.now(), at)

        return await self._run_aside(compare, sender, "rules may read the visit")

    async def _run_aside(
        self, respond: Callable[[], ResponseBody], sender: Sender, need: str
    ) -> ResponseBody | Problem:
        """Run something costly beside the rankings. `need`: why it cannot do without the event store."""
        sender.charge(costs.EXPLAIN - costs.PLAIN)
        try:
            return (await self._queue.run_aside(respond, sender, costs.EXPLAIN)).value
        except BatcherError as refusal:
            return refuse(refusal)
        except StoreUnavailable:
            return problem("store_unavailable", f"The event store cannot be read, and {need}")

    def _validate(self, body: object, caller: Caller, pointer: str) -> IdentifiedRequest | Problem:
        try:
            request = RecommendationRequest.model_validate(body)
        except ValidationError as error:
            errors = field_errors(error.errors(include_url=False, include_input=False), pointer)
            return problem("invalid_request", "The request is wrong; `errors` says where", errors)
        return (
            self._check_placement(request, pointer)
            or _check_include(request, caller, pointer)
            or identify(request, caller)
        )

    def _check_placement(self, request: RankedRequest, pointer: str) -> Problem | None:
        placement = self.placements.get(request.placement)
        if placement is None:
            unknown = FieldError(pointer=f"{pointer}/placement", detail="There is no such placement")
            return problem("unknown_placement", "There is no such placement; see GET /v1/placements", [unknown])
        if error := _placement_error(request, placement, pointer):
            return problem("invalid_request", "The request is wrong; `errors` says where", [error])
        return None

    async def _respond(
        self,
        requests: Sequence[IdentifiedRequest | Problem],
        request_id: str,
        sender: Sender,
        pointer: str = "",
        distinct: bool = False,
        dry_run: bool = False,
    ) -> tuple[list[ResponseBody | Problem], str]:
        valid = [r.request for r in requests if not isinstance(r, Problem)]
        submitted = self._with_reserves(valid) if distinct else valid
        sender.charge(self._queue.cost(submitted) - costs.PLAIN)
        availability = self.active_model.availability
        futures = [self._queue.submit(r, sender, availability) for r in submitted]
        try:
            outcomes = [await _outcome(future) for future in futures]
        finally:
            for future in futures:  # does nothing to those that are done, unless the caller has gone
                if not future.cancel() and not future.cancelled():
                    future.exception()  # else asyncio would log it as never retrieved
        settled = iter(zip(submitted, outcomes, strict=True))
        queue_ms = run_ms = 0.0
        results: list[ResponseBody | Problem] = []
        used: set[str] = set()
        for i, identified in enumerate(requests):
            if isinstance(identified, Problem):
                results.append(identified)
                continue
            request, identity = identified
            ranked, outcome = next(settled)
            if isinstance(outcome, BatchResult):
                queue_ms, run_ms = max(queue_ms, outcome.queue_ms), max(run_ms, outcome.run_ms)
                answer: Slate | Problem = outcome.value
            else:
                get_model = self._current_model if self._ready else None
                answer = await self._fallbacks.answer(ranked, outcome, get_model, request_id, pointer.format(i))
            if isinstance(answer, Problem):
                results.append(answer)
            else:
                limit = planner.resolve_limit(request, self.placements[request.placement])
                results.append(_count(response.build(answer, identity, limit, used, self._cursors, dry_run)))
            if not distinct:
                used.clear()
            if len(requests) > _AT_ONCE:
                await asyncio.sleep(0)  # others come in between
        metrics.observe_stage("queue", queue_ms / 1e3)
        return results, f"queue;dur={queue_ms:.2f}, rank;dur={run_ms:.2f}"

    def _with_reserves(self, requests: Sequence[RankedRequest]) -> list[RankedRequest]:
        """For `distinct`: each request ranks as many items more as the earlier ones may take from it."""
        widened: list[RankedRequest] = []
        reserve = 0
        for request in requests:
            limit = planner.resolve_limit(request, self.placements[request.placement])
            widened.append(request.model_copy(update={"limit": limit + reserve}))
            reserve += limit
        return widened

    def _current_model(self) -> ActiveModel:
        """The active model, with all item overrides applied."""
        model = self.active_model
        self._apply_overrides(model)
        return model

    def _apply_overrides(self, model: ActiveModel) -> None:
        if self._overrides is None or model.overrides_version == self._overrides.state.version:
            return
        with self._overrides_lock:
            state = self._overrides.state
            if model.overrides_version != state.version:
                model.apply_overrides(state)
                if model is self.active_model:
                    self._report_health(model)

    def _report_health(self, model: ActiveModel) -> None:
        """Set the metric of available items; log when the model can answer nobody, and when it can again."""
        metrics.set_available_items(model.availability.count)
        before, self._problem = self._problem, model.problem
        if self._problem is not None and before is None:
            log.error("the server is not ready: %s", self._problem)
        elif self._problem is None and before is not None:
            log.warning("the server is ready again: %d items are available", model.availability.count)

    def _rank_batch(self, requests: list[RankedRequest]) -> list[Slate | Exception]:
        return self._ranker.rank(self._current_model(), requests)


def _read_visit(model: ActiveModel, visitor: VisitorIds | None) -> tuple[SessionEvent, ...]:
    """The visit of one visitor up to now; empty where there is no store. Raises StoreUnavailable."""
    return () if model.visits is None else model.visits.read([visitor])[0]


async def _outcome(future: "asyncio.Future[BatchResult[Slate]]") -> BatchResult[Slate] | Exception:
    try:
        return await future
    except Exception as error:
        return error


def _check_include(request: RankedRequest, caller: Caller, pointer: str) -> Problem | None:
    """Refuse to tell a page which rules there are, and whom they take its visitor for."""
    if caller.secret or "rules" not in request.include:
        return None
    error = FieldError(pointer=f"{pointer}/include", detail="`rules` needs a secret key")
    return problem("invalid_request", "The request is wrong; `errors` says where", [error])


def _placement_error(request: RankedRequest, placement: Placement, pointer: str) -> FieldError | None:
    name = placement.needs and _CONTEXT_FIELDS[placement.needs]
    if name and not getattr(request.context, name):
        return FieldError(pointer=f"{pointer}/context/{name}", detail="This placement needs it")
    if isinstance(request, RecommendationRequest) and request.limit is not None and request.limit > placement.most:
        return FieldError(pointer=f"{pointer}/limit", detail=f"This placement shows at most {placement.most}")
    return None


def _count(body: ResponseBody) -> ResponseBody:
    fallback = body["fallback"]
    metrics.count_answer(body["placement"], body["strategy"], fallback and fallback["why"], body["degraded"])
    if not body["items"]:
        metrics.count_empty_answer(body["placement"])
    return body
