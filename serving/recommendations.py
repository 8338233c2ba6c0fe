"""From checked requests to answers: one path for the HTTP API and the bulk API."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from pydantic import ValidationError

from features import clock
from features.events import EventName
from models.ranking import Ranking, Recommender, Request, Seen
from serving.batcher import Answer, Batcher, Closed, DeadlineExceeded, Overloaded
from serving.event_store import EventStore, StoreUnavailable, Visitor
from serving.problems import Code, FieldError, Problem, as_dict, field_errors, log_failure, problem
from serving.schemas import RecommendationRequest
from serving.settings import Settings
from serving.visits import Visits

Result = dict[str, object]

# Enough for the longest answer after the longest list of exclusions.
_POPULAR = 100 + 500

_REFUSALS: dict[type[BaseException], tuple[Code, str]] = {
    Overloaded: ("overloaded", "Too many requests are waiting; try again after Retry-After seconds"),
    Closed: ("unavailable", "The server is shutting down; try again after Retry-After seconds"),
    DeadlineExceeded: ("deadline_exceeded", "The ranking was not ready in time"),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and whose stored events belong to it."""

    request: Request
    visitor: Visitor | None


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A ranking, and whether what the visitor has just done could be read for it."""

    ranking: Ranking
    degraded: bool


class Answers:
    """What one server process answers with: a recommender behind a batcher, and what to say without it.

    With a `store`, what visitors have done since the recommender's snapshot is read from it for each batch.
    """

    def __init__(
        self, recommender: Recommender, version: str | None, settings: Settings, store: EventStore | None = None
    ) -> None:
        info = recommender.info
        self.description = {**info, "version": version}
        self._model = {"name": info["name"], "version": version, "snapshot": info["as_of"]}
        self._recommender = recommender
        self._popular: Ranking | None = None
        self._visits = (
            None if store is None else Visits(store, clock.parse(str(info["as_of"])), settings.visit_budget_ms / 1000)
        )
        self._batcher: Batcher[_Asked, _Ranked] = Batcher(
            self._rank,
            max_batch=settings.max_batch,
            linger_ms=settings.linger_ms,
            max_queue=settings.max_queue,
            deadline_ms=settings.deadline_ms,
        )

    @property
    def ready(self) -> bool:
        """Whether `warm_up` has run."""
        return self._popular is not None

    def warm_up(self) -> None:
        """Page the bundle in, by ranking for someone unknown and for someone who looks at a product.

        The first of these answers is kept for when ranking fails.
        """
        (popular,) = self._recommender.recommend([Request(limit=_POPULAR)])
        looked_at: tuple[tuple[str, EventName], ...] = tuple((i, "view_item") for i in popular.item_ids[:3])
        self._recommender.recommend([Request(limit=12, recent=looked_at)])
        if self._visits is not None:
            self._visits.warm_up()
        self._popular = popular

    async def close(self) -> None:
        """Answer what is waiting and stop."""
        await self._batcher.close()

    async def answer(
        self, raw: Sequence[object], request_id: str, where: str = "/requests/{}"
    ) -> tuple[list[Result | Problem], str]:
        """One result or problem per raw request, in order, and the time it took as Server-Timing.

        `where` is the JSON pointer of a request in the body, with a place for its index.
        """
        asked = [_check(value, where.format(i)) for i, value in enumerate(raw)]
        futures = [self._submit(a) for a in asked if isinstance(a, RecommendationRequest)]
        outcomes = iter(await asyncio.gather(*futures, return_exceptions=True))
        queue_ms = run_ms = 0.0
        results: list[Result | Problem] = []
        for request in asked:
            if isinstance(request, Problem):
                results.append(request)
                continue
            outcome = next(outcomes)
            if isinstance(outcome, Answer):
                queue_ms, run_ms = max(queue_ms, outcome.queue_ms), max(run_ms, outcome.run_ms)
                results.append(self._result(request, outcome.value.ranking, outcome.value.degraded))
            else:
                results.append(self._without_ranking(request, outcome, request_id))
        return results, f"queue;dur={queue_ms:.2f}, rank;dur={run_ms:.2f}"

    def _rank(self, asked: list[_Asked]) -> list[_Ranked | Exception]:
        """Runs in the batcher's thread: one read of the store and one call of the recommender for all."""
        requests, degraded = [a.request for a in asked], False
        if self._visits is not None:
            try:
                visits = self._visits.read([a.visitor for a in asked])
                requests = [_with(visit, request) for request, visit in zip(requests, visits, strict=True)]
            except StoreUnavailable:
                degraded = True
        rankings = self._recommender.recommend(requests)
        told = [degraded and a.visitor is not None for a in asked] + [degraded] * (len(rankings) - len(asked))
        # As many as the recommender gave: the batcher checks that it is one each.
        return [r if isinstance(r, Exception) else _Ranked(r, d) for r, d in zip(rankings, told, strict=False)]

    def _submit(self, asked: RecommendationRequest) -> asyncio.Future[Answer[_Ranked]]:
        try:
            return self._batcher.submit(_Asked(asked.to_request(), asked.visitor))
        except (Overloaded, Closed) as refusal:
            refused: asyncio.Future[Answer[_Ranked]] = asyncio.get_running_loop().create_future()
            refused.set_exception(refusal)
            return refused

    def _result(
        self, asked: RecommendationRequest, ranking: Ranking, degraded: bool = False, failed: bool = False
    ) -> Result:
        items: list[Result] = [{"item_id": i, "rank": n} for n, i in enumerate(ranking.item_ids, 1)]
        if "score" in asked.include:
            for item, score in zip(items, ranking.scores, strict=True):
                item["score"] = float(score)
        if "generators" in asked.include:
            for item, generators in zip(items, ranking.generators, strict=True):
                item["generators"] = generators
        fallback = "ranker_error" if failed else ranking.fallback
        return {
            "recommendation_id": f"rec_{uuid4().hex}",
            "placement": asked.placement,
            "items": items,
            "strategy": ranking.strategy,
            "fallback": fallback,
            "degraded": degraded or fallback == "ranker_error",
            "segment": ranking.segment,
            "model": self._model,
        }

    def _without_ranking(self, asked: RecommendationRequest, error: BaseException, request_id: str) -> Result | Problem:
        if refusal := _REFUSALS.get(type(error)):
            return problem(*refusal)
        log_failure("ranking failed", request_id, error)
        if (popular := self._popular) is not None:
            excluded = frozenset(asked.exclude.item_ids)
            keep = [n for n, i in enumerate(popular.item_ids) if i not in excluded][: asked.limit]
            if keep:
                return self._result(asked, _only(popular, keep), failed=True)
        return problem("internal_error", "The ranking failed")


def _with(visit: tuple[Seen, ...], request: Request) -> Request:
    """`request` with the stored visit before what the storefront says of it, which counts as more recent.

    What both say counts once, as in training: an item that the visit viewed is not viewed again by being named,
    and is put into the cart by it if the visit has not done so.
    """
    stored = {(event.item_id, event.name) for event in visit}
    return replace(request, recent=visit + tuple(e for e in request.recent if (e[0], e[1]) not in stored))


def _only(ranking: Ranking, keep: list[int]) -> Ranking:
    return Ranking(
        item_ids=[ranking.item_ids[n] for n in keep],
        scores=[ranking.scores[n] for n in keep],
        generators=[ranking.generators[n] for n in keep],
        strategy=ranking.strategy,
        fallback=ranking.fallback,
        segment=ranking.segment,
    )


def _check(raw: object, pointer: str) -> RecommendationRequest | Problem:
    try:
        return RecommendationRequest.model_validate(raw)
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False), pointer)
        return problem("invalid_request", "The request is wrong; `errors` says where", errors)


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
