"""Asking for products: recommendations, reranking, the placements there are, and why an answer is what it is."""

from typing import Any

from fastapi import FastAPI, Request, Response

from serving.api import openapi
from serving.api.json_io import json_response, read
from serving.recommend.engine import Answers
from serving.recommend.response import as_result, failure
from serving.schemas.problems import Problem, respond
from serving.schemas.recommendations import Envelope, ExplainRequest, PlacementsDescription, RerankRequest


class Counter:
    """Where products are asked for."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def recommendations(self, request: Request) -> Response:
        """Ranked products for 1–16 placements.

        A request that is wrong has its own `error` and the others are answered. When none could be
        answered, the status says why.
        """
        asked = await read(request, Envelope)
        request_id = request.state.request_id
        outcomes, timing = await self._answers.answer(
            asked.requests, request_id, distinct=asked.distinct, dry_run=asked.dry_run
        )
        if what := failure(outcomes):
            return respond(what, request_id)
        return json_response({"results": [as_result(o) for o in outcomes]}, headers=_timed(timing))

    async def rerank(self, request: Request) -> Response:
        """The same products in the visitor's order; none is dropped but by `limit`."""
        asked = await read(request, RerankRequest)
        outcome, timing = await self._answers.rerank(
            asked.asked(), asked.item_ids, asked.limit or len(asked.item_ids), request.state.request_id
        )
        return _answered(outcome, request, timing)

    async def explain(self, request: Request) -> Response:
        """What the ranker makes of a visitor and some products, with reasons and the contributions of its features."""
        asked = await read(request, ExplainRequest)
        return _answered(await self._answers.explain(asked), request, "")

    async def placements(self, _: Request) -> Response:
        """The placements that can be asked for, and what each of them shows."""
        return json_response({"placements": {name: p.model_dump() for name, p in self._answers.placements.items()}})


def add_ranking_routes(app: FastAPI, answers: Answers) -> None:
    """Give `app` the routes that `answers` answers."""
    counter = Counter(answers)
    app.post("/v1/recommendations", **openapi.RECOMMENDATIONS)(counter.recommendations)
    app.post("/v1/rerank", **openapi.RERANK)(counter.rerank)
    app.post("/v1/explain", **openapi.EXPLAIN)(counter.explain)
    app.get("/v1/placements", response_model=PlacementsDescription)(counter.placements)


def _answered(outcome: dict[str, Any] | Problem, request: Request, timing: str) -> Response:
    if isinstance(outcome, Problem):
        return respond(outcome, request.state.request_id)
    return json_response(outcome, headers=_timed(timing))


def _timed(timing: str) -> dict[str, str]:
    return {"server-timing": timing} if timing else {}
