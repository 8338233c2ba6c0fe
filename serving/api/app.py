"""The HTTP API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from models.interface import Recommender
from models.publishing import Published
from serving import metrics
from serving.api.json_io import json_response
from serving.api.middleware.gateway import Edge, options
from serving.api.middleware.telemetry import Observed
from serving.api.openapi import describe
from serving.api.routes.admin import Admin, add_admin_routes
from serving.api.routes.docs import add_docs_routes
from serving.api.routes.events import add_event_routes
from serving.api.routes.items import add_item_routes
from serving.api.routes.pages import add_page_routes
from serving.api.routes.recommendations import add_ranking_routes
from serving.event_store import EventStore
from serving.recommend.active_model import Served
from serving.recommend.engine import Answers
from serving.recommend.item_overrides import Overlay
from serving.recommend.model_watcher import Following
from serving.schemas import placements
from serving.schemas.problems import Code, ProblemError, problem, respond
from serving.schemas.recommendations import ModelDescription
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


class _Api(FastAPI):
    """FastAPI behind our own edge. What one of its `_Direct` routes answers does not pass its middlewares, also those
    added to it, and its router, which would take a quarter of the time of an answer; everything else does."""

    def __init__(self, settings: Settings, **described: Any) -> None:
        super().__init__(**described)
        self.router.route_class = _Direct
        self._edge = Observed(Edge(self._inside, **options(settings)))

    @cached_property
    def _endpoints(self) -> dict[tuple[str, str], ASGIApp]:
        found: dict[tuple[str, str], ASGIApp] = {}
        for route in self.routes:
            if isinstance(route, _Direct) and not route.param_convertors:
                for method in route.methods or ():
                    found.setdefault((method, route.path), route.app)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._edge if scope["type"] == "http" else super().__call__)(scope, receive, send)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = None if scope.get("root_path") else self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        try:
            await endpoint(scope, receive, send)
        except ProblemError as error:
            await _problem(Request(scope), error)(scope, receive, send)
        except HTTPException as error:
            await _http_error(Request(scope), error)(scope, receive, send)


_CODES: dict[int, Code] = {404: "not_found", 405: "method_not_allowed"}


def create_app(
    recommender: Recommender,
    settings: Settings,
    version: str | None = None,
    store: EventStore | None = None,
    load: Callable[[Path], Recommender] | None = None,
    published: Published | None = None,
) -> FastAPI:
    """The application that serves `recommender`, registered as `version`, and keeps events in `store`.

    Its lifespan warms the recommender up; until then it is not ready. `app.state.answers` is what
    answers, for callers in the same process. With `load` it follows the directory that settings name; `published` is
    what it serves of it. Raises InputError where `settings` has neither keys nor
    leave to do without.
    """
    overlay = Overlay(store)
    budget_s = settings.visit_budget_ms / 1000
    served = Served(recommender, version, store, budget_s)
    answers = Answers(served, settings, placements.read(settings.placements), overlay)
    following = None
    if load is not None and settings.champion is not None:
        loading = load

        def make(found: Published) -> Served:
            return Served(loading(found.path), found.version, store, budget_s)

        following = Following(settings.champion, answers, make, settings.follow_every_s)
    admin = Admin(answers, following, settings.log)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        overlay.start()
        answers.warm_up()
        if following is not None:
            following.start(published)
        yield
        await admin.close()
        if following is not None:
            await asyncio.to_thread(following.close)
        await answers.close()
        overlay.close()
        if store is not None:
            await asyncio.to_thread(store.close)

    app = _Api(
        settings,
        title="The Usual",
        version="1",
        summary="Ranked products for a shop's visitors.",
        lifespan=lifespan,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.answers = answers
    app.state.overlay = overlay
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(Exception, _to_the_edge)
    describe(app)

    add_docs_routes(app)
    add_ranking_routes(app, answers)
    add_event_routes(app, store)
    add_item_routes(app, store, overlay)
    add_admin_routes(app, admin)
    add_page_routes(app, answers, demo=settings.open)

    @app.get("/v1/model", response_model=ModelDescription)
    async def model(_: Request) -> Response:
        """The model that is served: version, snapshot time, metrics."""
        told = {**answers.served.description, "following": admin.description()}
        return json_response(told)

    @app.get("/metrics", include_in_schema=False)
    async def numbers(_: Request) -> Response:
        return Response(await asyncio.to_thread(metrics.exposition), media_type=metrics.CONTENT_TYPE)

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


async def _to_the_edge(_: Request, error: Exception) -> Response:
    raise error  # else Starlette would answer it in plain text
