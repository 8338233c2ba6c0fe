"""Routes that rank products: recommendations, reranking, explanations, and the placements there are."""

from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response

from serving.api import openapi
from serving.api.json_io import json_response, parse_message, read_message
from serving.api.large_bodies import LargeBodies
from serving.recommend.engine import RecommendationEngine
from serving.recommend.response import as_result, failure
from serving.schemas.problems import Problem, respond
from serving.schemas.recommendations import Envelope, ExplainRequest, PlacementsDescription, RerankRequest

# A body of as much as a page with every placement needs is parsed on the event loop; a larger one has to wait its turn,
# for at most so many seconds.
_INLINE_BYTES, _TURN_S = 8_192, 0.5


class RecommendationRoutes:
    """Endpoints that the recommendation engine serves."""

    def __init__(self, engine: RecommendationEngine) -> None:
        self._engine = engine
        self._bodies = LargeBodies(_INLINE_BYTES, _TURN_S)

    async def recommendations(self, request: Request) -> Response:
        """Ranked products for 1–16 placements.

        A request that is wrong has its own `error` and the others are answered. When none could be
        answered, the status says why.
        """
        request_id = request.state.request_id
        async with self._bodies.read(request, partial(parse_message, message=Envelope)) as (body, large):
            outcomes, timing = await self._engine.recommend(
                body.requests,
                request_id,
                request.state.caller,
                distinct=body.distinct,
                dry_run=body.dry_run,
                sender=request.state.sender,
                in_thread=large,
            )
        if common_problem := failure(outcomes):
            return respond(common_problem, request_id)
        return json_response({"results": [as_result(o) for o in outcomes]}, headers=_timing_header(timing))

    async def rerank(self, request: Request) -> Response:
        """The same products in the visitor's order; none is dropped but by `limit`."""
        async with self._bodies.read(request, partial(parse_message, message=RerankRequest)) as (body, _):
            outcome, timing = await self._engine.rerank(
                body, request.state.request_id, request.state.caller, request.state.sender
            )
        return _respond(outcome, request, timing)

    async def explain(self, request: Request) -> Response:
        """What the ranker makes of a visitor and some products, with reasons and the contributions of its features."""
        body = await read_message(request, ExplainRequest)
        return _respond(await self._engine.explain(body, request.state.sender), request, "")

    async def placements(self, _: Request) -> Response:
        """The placements that can be asked for, and what each of them shows."""
        return json_response({"placements": {name: p.model_dump() for name, p in self._engine.placements.items()}})


def add_recommendation_routes(app: FastAPI, engine: RecommendationEngine) -> None:
    """Add /v1/recommendations, /v1/rerank, /v1/explain and /v1/placements to `app`."""
    routes = RecommendationRoutes(engine)
    app.post("/v1/recommendations", **openapi.RECOMMENDATIONS)(routes.recommendations)
    app.post("/v1/rerank", **openapi.RERANK)(routes.rerank)
    app.post("/v1/explain", **openapi.EXPLAIN)(routes.explain)
    app.get("/v1/placements", response_model=PlacementsDescription)(routes.placements)


def _respond(outcome: dict[str, Any] | Problem, request: Request, timing: str) -> Response:
    if isinstance(outcome, Problem):
        return respond(outcome, request.state.request_id)
    return json_response(outcome, headers=_timing_header(timing))


def _timing_header(timing: str) -> dict[str, str]:
    return {"server-timing": timing} if timing else {}
