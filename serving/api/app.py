"""The application factory: `create_app` shows the routes, `build_middleware` what every request passes before them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from models.interface import Recommender
from models.publishing import PublishedBundle
from serving.api.direct_app import DirectApp
from serving.api.errors import handle_http_error, handle_problem, raise_to_gateway
from serving.api.middleware.gateway import GatewayMiddleware, gateway_options
from serving.api.middleware.telemetry import TelemetryMiddleware
from serving.api.openapi import install_openapi
from serving.api.routes.admin import AdminRoutes, add_admin_routes
from serving.api.routes.clients import add_client_routes
from serving.api.routes.docs import add_docs_routes
from serving.api.routes.events import add_event_routes
from serving.api.routes.items import add_item_routes
from serving.api.routes.pages import add_page_routes
from serving.api.routes.recommendations import add_recommendation_routes
from serving.api.routes.rules import add_rules_routes
from serving.api.routes.status import add_status_routes
from serving.event_store import EventStore
from serving.recommend.active_model import ActiveModel
from serving.recommend.engine import RecommendationEngine
from serving.recommend.erased_customers import ErasedCustomers
from serving.recommend.item_overrides import ItemOverrides
from serving.recommend.model_watcher import ModelWatcher
from serving.recommend.rule_effects import RuleEvaluator
from serving.recommend.rule_failures import RuleFailures
from serving.rules.watcher import RulesWatcher
from serving.schemas import placements
from serving.schemas.problems import ProblemError
from serving.settings import Settings


def build_middleware(settings: Settings) -> list[Middleware]:
    """Build what every request passes before its route, outermost first. Raises InputError as `gateway_options`."""
    return [
        Middleware(TelemetryMiddleware),  # counts and logs, also what the gateway refuses
        # Request id, CORS, API key and its rate limit, body limit; the last net for errors.
        Middleware(GatewayMiddleware, **gateway_options(settings)),
    ]


def create_app(
    recommender: Recommender,
    settings: Settings,
    version: str | None = None,
    store: EventStore | None = None,
    load: Callable[[Path], Recommender] | None = None,
    published: PublishedBundle | None = None,
) -> FastAPI:
    """Create the application that serves `recommender`, registered as `version`, and keeps events in `store`.

    Its lifespan warms the recommender up; until then `/readyz` says 503. `app.state.engine` is for callers in the same
    process. With `load` it watches the directory `settings.champion` and swaps in what is published there; `published`
    is what it serves of that directory to begin with. Raises InputError where `settings` have neither API keys nor
    permission to run without.
    """
    overrides = ItemOverrides(store)
    visit_budget_s = settings.visit_budget_ms / 1000
    active_model = ActiveModel(recommender, version, store, visit_budget_s)
    served_placements = placements.read(settings.placements)
    rules = None if settings.rules is None else RulesWatcher(settings.rules, served_placements, settings.follow_every_s)
    evaluator = None if rules is None else RuleEvaluator(lambda: rules.book, RuleFailures().count)
    engine = RecommendationEngine(active_model, settings, served_placements, overrides, evaluator)
    if rules is not None:
        rules.prepare = engine.prepare_rules
    erased = ErasedCustomers(store, lambda: engine.active_model.snapshot)
    watcher = None
    if load is not None and settings.champion is not None:
        load_bundle = load

        def load_published(published: PublishedBundle) -> ActiveModel:
            model = ActiveModel(load_bundle(published.path), published.version, store, visit_budget_s)
            erased.hide_in(model.snapshot)
            return model

        watcher = ModelWatcher(settings.champion, engine, load_published, settings.follow_every_s)
    admin = AdminRoutes(engine, watcher, settings.log)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        overrides.start()
        await asyncio.to_thread(erased.start)
        engine.warm_up()
        if watcher is not None:
            watcher.start(published)
        if rules is not None:
            rules.start()
        yield
        await admin.close()
        if rules is not None:
            await asyncio.to_thread(rules.close)
        if watcher is not None:
            await asyncio.to_thread(watcher.close)
        await engine.close()
        overrides.close()
        erased.close()
        if store is not None:
            await asyncio.to_thread(store.close)

    app = DirectApp(
        build_middleware(settings),
        title="The Usual",
        version="1",
        summary="Ranked products for a shop's visitors.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from a CDN; routes/docs.py serves its own
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.engine = engine
    app.state.item_overrides = overrides
    app.add_exception_handler(ProblemError, handle_problem)
    app.add_exception_handler(HTTPException, handle_http_error)
    app.add_exception_handler(Exception, raise_to_gateway)
    install_openapi(app)

    add_docs_routes(app)  # /docs
    add_recommendation_routes(app, engine)  # /v1/recommendations, /v1/rerank, /v1/explain, /v1/placements
    add_client_routes(app)  # /v1/clients
    # /v1/events, /v1/events/segment, /v1/customers/merge, /v1/customers/erase
    add_event_routes(app, store, erased, settings.page_orders)
    add_item_routes(app, store, overrides)  # /v1/items
    add_admin_routes(app, admin)  # /v1/admin/reload, /v1/admin/refresh
    add_page_routes(app, engine, settings)  # /tracker.js; /demo
    add_rules_routes(app, engine, rules)  # /v1/rules, /v1/rules/preview
    add_status_routes(app, engine, admin)  # /v1/model, /metrics, /livez, /readyz
    return app
