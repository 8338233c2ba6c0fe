"""From checked requests to answers: one path for the HTTP API and the bulk API."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import ValidationError

from features.common.clock import now
from features.common.errors import InputError
from models import timing as stages
from models.explain.codes import Reason
from models.explain.explain import explain_request
from models.explain.reasons import ranking_reasons
from models.interface import Fallback, Ranking, Request, Seen
from serving import metrics
from serving.event_store import StoreUnavailable
from serving.recommend import pagination
from serving.recommend.active_model import Served
from serving.recommend.batcher import Answer, Batcher, Closed, DeadlineExceeded, Overloaded
from serving.recommend.item_overrides import Overlay
from serving.recommend.planner import Asked, Plan, plan, together
from serving.recommend.response import Result, Shown, page, result, shown
from serving.schemas.placements import Needs, Placement
from serving.schemas.problems import Code, FieldError, Problem, field_errors, log_failure, problem
from serving.schemas.recommendations import ExplainRequest, RecommendationRequest
from serving.settings import Settings

_REFUSALS: dict[type[BaseException], tuple[Code, str]] = {
    Overloaded: ("overloaded", "Too many requests are waiting; try again after Retry-After seconds"),
    Closed: ("unavailable", "The server is shutting down; try again after Retry-After seconds"),
}

# A ranking, and the reasons of its items where the request wants them.
RankingWithReasons = tuple[Ranking, list[list[Reason]] | None]

# Where in the context stands what a placement needs.
_NEEDED: dict[Needs, str] = {"items": "item_ids", "cart": "cart_item_ids", "category": "category"}


class Answers:
    """What one server process answers with: a model behind a batcher, and what to say without it.

    What visitors have done since the model's snapshot is read from the event store for each batch, and `overlay`
    says which items the shop has taken off the shelf.
    """

    def __init__(
        self,
        served: Served,
        settings: Settings,
        placements: dict[str, Placement],
        overlay: Overlay | None = None,
    ) -> None:
        self.served = served
        self.placements = placements
        self._overlay, self._overlaying = overlay, threading.Lock()
        self._ready = False
        self._batcher: Batcher[Asked, Shown] = Batcher(
            self._rank,
            max_batch=settings.max_batch,
            linger_ms=settings.linger_ms,
            max_queue=settings.max_queue,
            deadline_ms=settings.deadline_ms,
        )

    @property
    def ready(self) -> bool:
        """Whether `warm_up` has run."""
        return self._ready

    def warm_up(self) -> None:
        """Page the bundle in."""
        self.served.warm_up()
        metrics.initialize(list(self.placements))
        stages.tell(metrics.observe_recommender_stage)
        metrics.set_model(self.served.version, self.served.as_of / 1e6)
        self._ready = True

    def swap(self, served: Served) -> None:
        """Answer with another model, which is warm, from the next batch on. Any thread may call this."""
        self._take_over(served)
        self.served = served
        metrics.set_model(served.version, served.as_of / 1e6)

    async def close(self) -> None:
        """Answer what is waiting and stop."""
        await self._batcher.close()

    async def answer(
        self,
        raw: Sequence[object],
        request_id: str,
        where: str = "/requests/{}",
        distinct: bool = False,
        dry_run: bool = False,
    ) -> tuple[list[Result | Problem], str]:
        """One result or problem per raw request, in order, and the time it took as Server-Timing.

        `where` is the JSON pointer of a request in the body, with a place for its index.
        """
        asked = [self._check(value, where.format(i)) for i, value in enumerate(raw)]
        if distinct:
            asked = _giving_way(asked)
        return await self._answered(asked, request_id, distinct, dry_run)

    async def rerank(
        self, raw: object, item_ids: Sequence[str], limit: int, request_id: str
    ) -> tuple[Result | Problem, str]:
        """`item_ids` in the visitor's order; those not known follow as they came, those not available come last."""
        asked = self._check(raw, "")
        if isinstance(asked, Problem):
            return asked, ""
        given = list(dict.fromkeys(item_ids))
        (result,), timing = await self._answered([replace(asked, only=tuple(given))], request_id)
        if isinstance(result, Problem):
            return result, timing
        items: list[Result] = result["items"]
        ranked = {str(item["item_id"]) for item in items}
        items += [{"item_id": i} for i in given if i not in ranked]
        away = self._away(given)
        items.sort(key=lambda item: item["item_id"] in away)
        for rank, item in enumerate(items[:limit], 1):
            item["rank"] = rank
        return {**result, "items": items[:limit], "next_cursor": None}, timing

    async def explain(self, asked: ExplainRequest) -> Result | Problem:
        """Why the visitor's ranking is what it is; nothing that the shop has said of its items counts."""
        served = self.served
        visit: tuple[Seen, ...] = ()
        try:
            if served.visits is not None:
                (visit,) = await asyncio.to_thread(served.visits.read, [asked.visitor])
            request = Request(asked.limit, asked.customer_id or None, together(visit, asked.recent))
            return await asyncio.to_thread(explain_request, served.recommender, request, asked.item_ids)
        except StoreUnavailable:
            return problem("store_unavailable", "The event store cannot be read, and the visit is a part of the answer")
        except InputError:
            wrong = "The customer or a product is not known to the model; see its snapshot in GET /v1/model"
            return problem("invalid_request", wrong)

    async def _answered(
        self, asked: Sequence[Asked | Problem], request_id: str, distinct: bool = False, dry_run: bool = False
    ) -> tuple[list[Result | Problem], str]:
        futures = [self._submit(a) for a in asked if isinstance(a, Asked)]
        try:
            outcomes = iter([await _settled(future) for future in futures])
        finally:
            for future in futures:  # of those that are settled nothing, unless whoever asked has gone
                if not future.cancel() and not future.cancelled():
                    future.exception()  # else asyncio would log it as one that nobody has seen
        queue_ms = run_ms = 0.0
        results: list[Result | Problem] = []
        used: set[str] = set()
        for one in asked:
            if isinstance(one, Problem):
                results.append(one)
                continue
            outcome = next(outcomes)
            if isinstance(outcome, Answer):
                queue_ms, run_ms = max(queue_ms, outcome.queue_ms), max(run_ms, outcome.run_ms)
                given: Shown | Problem = outcome.value
            else:
                given = await asyncio.to_thread(self._without_ranking, one, outcome, request_id)
            results.append(given if isinstance(given, Problem) else _counted(result(one, given, used, dry_run)))
            if not distinct:
                used.clear()
        metrics.observe_stage("queue", queue_ms / 1e3)
        return results, f"queue;dur={queue_ms:.2f}, rank;dur={run_ms:.2f}"

    def _check(self, raw: object, pointer: str) -> Asked | Problem:
        try:
            request = RecommendationRequest.model_validate(raw)
        except ValidationError as error:
            errors = field_errors(error.errors(include_url=False, include_input=False), pointer)
            return problem("invalid_request", "The request is wrong; `errors` says where", errors)
        placement = self.placements.get(request.placement)
        if placement is None:
            wrong = FieldError(pointer=f"{pointer}/placement", detail="There is no such placement")
            return problem("unknown_placement", "There is no such placement; see GET /v1/placements", [wrong])
        if missing := _missing(request, placement, pointer):
            return problem("invalid_request", "The request is wrong; `errors` says where", [missing])
        return Asked(request, placement, pointer)

    def _submit(self, asked: Asked) -> "asyncio.Future[Answer[Shown]]":
        if asked.request.cursor is not None:
            return asyncio.ensure_future(asyncio.to_thread(lambda: Answer(page(asked, self._current()), 0, 0)))
        try:
            return self._batcher.submit(asked)
        except (Overloaded, Closed) as refusal:
            refused: asyncio.Future[Answer[Shown]] = asyncio.get_running_loop().create_future()
            refused.set_exception(refusal)
            return refused

    def _current(self) -> Served:
        """The model, with the shop's latest word on its items."""
        served = self.served
        self._take_over(served)
        return served

    def _take_over(self, served: Served) -> None:
        """Tell a model what the shop has said of its items, if that is new to it."""
        if self._overlay is None or served.changes == self._overlay.now.version:
            return
        with self._overlaying:
            state = self._overlay.now
            if served.changes != state.version:
                served.change(state)

    def _away(self, item_ids: Sequence[str]) -> set[str]:
        served = self._current()
        at = served.snapshot.items.find(item_ids)
        return {i for i, p in zip(item_ids, at.tolist(), strict=True) if p >= 0 and not served.shelf.available[p]}

    def _rank(self, asked: list[Asked]) -> list[Shown | Exception]:
        """Runs in the batcher's thread: one read of the store and one call of the recommender for all."""
        metrics.observe_batch(len(asked))
        served, degraded = self._current(), False
        visits: Sequence[tuple[Seen, ...]] = [() for _ in asked]
        if served.visits is not None:
            try:
                with metrics.time_stage("visitor"):
                    visits = served.visits.read([a.visitor for a in asked])
            except StoreUnavailable:
                degraded = True
        with metrics.time_stage("plan"):
            at = now()
            plans = [_planned(a, visit, served, at) for a, visit in zip(asked, visits, strict=True)]
        made = self._ranked(served, [p for p in plans if isinstance(p, Plan)])
        with metrics.time_stage("rules"):
            return [
                p
                if isinstance(p, Exception)
                else _finished(a, p, next(made), served, degraded and a.visitor is not None)
                for a, p in zip(asked, plans, strict=True)
            ]

    def _ranked(self, served: Served, plans: list[Plan]) -> Iterator[RankingWithReasons | Exception]:
        if not plans:
            return iter(())
        try:
            rankings = _with_reasons(served.recommender.recommend([p.request for p in plans]))
        except Exception as error:
            if len(plans) > 1:
                raise  # each is tried alone, and only the one at fault goes without its ranker
            log_failure("ranking failed", "of a batch", error)
            rankings = [self._next_best(served, plans[0])]
        if len(rankings) != len(plans):  # none can be matched
            return iter([RuntimeError("the recommender gave another number of answers")] * len(plans))
        return iter(rankings)

    def _next_best(self, served: Served, failed: Plan) -> RankingWithReasons:
        """For somebody whose ranker failed: as for somebody of whom only the visit is known; else what sells."""
        if failed.request.customer_id is not None:
            try:
                ((ranking, reasons),) = _with_reasons(
                    served.recommender.recommend([replace(failed.request, customer_id=None)])
                )
                return replace(ranking, fallback="ranker_error"), reasons
            except Exception as error:
                log_failure("the visit's ranking failed too", "of a batch", error)
        return served.recommender.without_ranker(failed.request, "ranker_error"), None

    def _without_ranking(self, asked: Asked, error: BaseException, request_id: str) -> Shown | Problem:
        if refusal := _REFUSALS.get(type(error)):
            return problem(*refusal)
        if isinstance(error, pagination.BadCursor):
            return problem(
                "invalid_request", str(error), [FieldError(pointer=f"{asked.pointer}/cursor", detail=str(error))]
            )
        why: Fallback = "deadline" if isinstance(error, DeadlineExceeded) else "ranker_error"
        if why == "ranker_error":
            log_failure("ranking failed", request_id, error)
        if self._ready:
            served = self._current()
            try:
                planned = plan(asked, (), served, now())
                ranking = served.recommender.without_ranker(planned.request, why)
                return shown(asked, planned, ranking, served, degraded=True)
            except Exception as worse:
                log_failure("the fallback failed", request_id, worse)
        return problem("internal_error", "The ranking failed")


async def _settled(future: "asyncio.Future[Answer[Shown]]") -> Answer[Shown] | Exception:
    try:
        return await future
    except Exception as error:
        return error


def _planned(asked: Asked, visit: tuple[Seen, ...], served: Served, at: int) -> Plan | Exception:
    try:
        return plan(asked, visit, served, at)
    except Exception as error:  # its own fault: the others of the batch go on
        return error


def _with_reasons(rankings: Sequence[Ranking]) -> list[RankingWithReasons]:
    """Takes as long as ranking does: runs in the batcher's thread, never in the event loop."""
    return [(ranking, ranking_reasons(ranking)) for ranking in rankings]


def _finished(
    asked: Asked, planned: Plan, ranked: RankingWithReasons | Exception, served: Served, degraded: bool
) -> Shown | Exception:
    if isinstance(ranked, Exception):
        return ranked
    ranking, reasons = ranked
    return shown(asked, planned, ranking, served, degraded, reasons)


def _missing(request: RecommendationRequest, placement: Placement, pointer: str) -> FieldError | None:
    name = placement.needs and _NEEDED[placement.needs]
    if name and not getattr(request.context, name):
        return FieldError(pointer=f"{pointer}/context/{name}", detail="This placement needs it")
    if request.limit is not None and request.limit > placement.most:
        return FieldError(pointer=f"{pointer}/limit", detail=f"This placement shows at most {placement.most}")
    return None


def _counted(made: Result) -> Result:
    fallback = made["fallback"]
    metrics.count_answer(made["placement"], made["strategy"], fallback and fallback["why"], made["degraded"])
    return made


def _giving_way(asked: Sequence[Asked | Problem]) -> list[Asked | Problem]:
    """Each with as many products in reserve as those before it may show."""
    out: list[Asked | Problem] = []
    before = 0
    for one in asked:
        if isinstance(one, Asked):
            out.append(replace(one, beyond=before))
            before += one.limit
        else:
            out.append(one)
    return out
