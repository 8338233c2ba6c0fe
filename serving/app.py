"""The HTTP API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from models.ranking import Recommender
from serving.bodies import read
from serving.edge import Edge
from serving.event_store import EventStore
from serving.events_api import add_event_routes
from serving.openapi import RECOMMENDATIONS, describe
from serving.problems import Code, ProblemError, problem, respond
from serving.recommendations import Answers, as_result, failure
from serving.schemas import Envelope, ModelDescription
from serving.settings import Settings


class _Direct(APIRoute):
    """A route whose endpoint takes the request and returns a response, and nothing in between.

    FastAPI's own handler resolves dependencies and serialises models; our endpoints have neither, and
    it would cost a third of the time of an answer. The route still describes itself in OpenAPI.
    """

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def direct(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)

        self.app = direct


_CODES: dict[int, Code] = {404: "not_found", 405: "method_not_allowed"}


def create_app(
    recommender: Recommender, settings: Settings, version: str | None = None, store: EventStore | None = None
) -> FastAPI:
    """The application that serves `recommender`, registered as `version`, and keeps events in `store`.

    Its lifespan warms the recommender up; until then it is not ready. `app.state.answers` is what
    answers, for callers in the same process.
    """
    answers = Answers(recommender, version, settings, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        answers.warm_up()
        yield
        await answers.close()
        if store is not None:
            await asyncio.to_thread(store.close)

    app = FastAPI(
        title="The Usual",
        version="1",
        summary="Ranked products for a shop's visitors.",
        lifespan=lifespan,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.router.route_class = _Direct
    app.state.answers = answers
    app.add_middleware(Edge, max_body_bytes=settings.max_body_bytes)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ProblemError, _problem)
    describe(app)

    @app.post("/v1/recommendations", **RECOMMENDATIONS)
    async def recommendations(request: Request) -> Response:
        """Ranked products for 1–16 placements.

        A request that is wrong has its own `error` and the others are answered. When none could be
        answered, the status says why.
        """
        raw = (await read(request, Envelope)).requests
        request_id = request.state.request_id
        outcomes, timing = await answers.answer(raw, request_id)
        if what := failure(outcomes):
            return respond(what, request_id)
        body = to_json({"results": [as_result(o) for o in outcomes]}, inf_nan_mode="null")
        return Response(body, headers={"server-timing": timing}, media_type="application/json")

    add_event_routes(app, store)

    @app.get("/v1/model", response_model=ModelDescription)
    async def model(_: Request) -> Response:
        """The model that is served: version, snapshot time, metrics."""
        return Response(to_json(answers.description), media_type="application/json")

    @app.get("/livez", status_code=204)
    async def livez(_: Request) -> Response:
        """The process runs."""
        return Response(status_code=204)

    @app.get("/readyz", status_code=204)
    async def readyz(request: Request) -> Response:
        """A bundle is loaded and warm; 503 until then."""
        if not answers.ready:
            return respond(problem("unavailable", "The bundle is not warm yet"), request.state.request_id)
        return Response(status_code=204)

    return app


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = error.status_code
    details = {404: "There is no such path", 405: "The path exists, but not with this method; see Allow"}
    what = problem(_CODES.get(status, "http_error"), details.get(status, HTTPStatus(status).phrase), status=status)
    return respond(what, request.state.request_id, dict(error.headers or {}))


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101
    return respond(error.problem, request.state.request_id)
