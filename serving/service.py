"""The BentoML service `Usual`: what a Bento, and `usual serve`, runs.

The HTTP API is mounted on it unchanged; BentoML adds packaging, processes and a bulk endpoint. BentoML's own batch
dispatcher hands results to the wrong callers when one is missing, so it only feeds our batcher.
"""

import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

# BentoML reports each start to its makers by default; a shop did not agree to that.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

import bentoml
from pydantic import BaseModel, ConfigDict, Field, RootModel
from starlette.types import ASGIApp, Receive, Scope, Send

import models as models  # `load` below comes from beside this file, wherever the server was started
from features.common.errors import InputError
from models.publishing import find_whole, read_current
from serving import logging as logs
from serving.api import accepting, connections
from serving.api.app import build_middleware, create_app
from serving.api.json_io import BODY_TIMEOUT_S
from serving.api.middleware.bulk_body import BulkBodyMiddleware
from serving.event_store import Limits, open_store
from serving.identity.caller import SHOP
from serving.recommend.engine import RecommendationEngine
from serving.recommend.response import as_result
from serving.settings import read_settings

# The name by which a Bento finds its model; bentofile.yaml maps it to the exact version that was packaged.
MODEL_ALIAS = "usual-bundle"

log = logging.getLogger("usual.serving")
settings = read_settings()
logs.configure(settings.log_format == "json", settings.access_log)
connections.install()
accepting.install()

# Seconds. BentoML keeps a timer per request for this long, even after the response, so it is short; and it ends
# requests without a problem document, so our own limits come first: on reading a body, then on ranking, or on writing
# to the event store, which Segment's calls do twice.
_TIMEOUT_S = BODY_TIMEOUT_S + max(settings.deadline_ms / 1000, 2 * Limits().write_s) + 1


class _MountedApp:
    """Stands for the application until it exists.

    Not a Starlette instance on purpose: BentoML then routes every path that it has no route for here, and an unknown
    path gets a problem document like any other error.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


_mounted = _MountedApp()


class _OwnReadiness:
    """Lets the application respond to `/readyz`: BentoML's own route would say that all is well, whatever is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"] == "/readyz"
        await (_mounted if ours else self.app)(scope, receive, send)


_F = TypeVar("_F", bound=Callable[..., Any])
# BentoML's decorators have no types.
_on_startup: Callable[[_F], _F] = bentoml.on_startup
_on_shutdown: Callable[[_F], _F] = bentoml.on_shutdown
_api: Callable[..., Callable[[_F], _F]] = bentoml.api


class BulkRequest(RootModel[Any]):
    """A request of `POST /v1/recommendations`, checked one by one so that a wrong one fails alone."""


class BulkRequests(BaseModel):
    """The body of the bulk endpoint."""

    # BentoML logs what fails here, and the input may hold ids.
    model_config = ConfigDict(hide_input_in_errors=True)

    requests: list[BulkRequest] = Field(max_length=256)


@bentoml.service(
    name="Usual",
    workers=1,
    traffic={"timeout": _TIMEOUT_S},
    # Both cost throughput, and the labels of the metrics are raw paths: any caller could make them grow
    # without bound.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    # BentoML always traces, if only into nothing; leaving every URL out is what stops it.
    tracing={"excluded_urls": ".*"},
    envs=[
        {"name": "OTEL_SDK_DISABLED", "value": "true"},
        {"name": "BENTOML_DO_NOT_TRACK", "value": "true"},
    ],
)
@bentoml.asgi_app(_mounted)
class Usual:
    """Ranked products for a shop's visitors."""

    def __init__(self) -> None:
        from models.recommender import load

        store = open_store(settings.event_store_url(), Limits(keep_days=settings.event_days))
        champion = None
        try:
            if settings.champion is not None and (champion := read_current(settings.champion)) is not None:
                self._app = create_app(load(champion.path), settings, champion.version, store, load, champion)
                return
        except Exception as error:  # a worker that does not start would be started again for ever
            log.error("the published model is not served: %s", error)
            # The one before it still lies beside it; the watcher goes on to the current one once that is whole.
            earlier = None if settings.champion is None or champion is None else find_whole(settings.champion, champion)
            if earlier is not None:
                self._app = create_app(load(earlier.path), settings, earlier.version, store, load, earlier)
                return
        path, version = _locate_bundle(settings.bundle)
        self._app = create_app(load(path), settings, version, store, load)

    @_on_startup
    async def start(self) -> None:
        """Warm up, then serve."""
        self._lifespan = self._app.router.lifespan_context(self._app)
        await self._lifespan.__aenter__()
        # What is loaded by now lives as long as the process: the collector need not traverse it each time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        # So long the threads that rank and parse keep the event loop waiting, which has little to do each time.
        sys.setswitchinterval(0.001)
        _mounted.app = self._app

    @_on_shutdown
    async def stop(self) -> None:
        """Respond to what is waiting, then stop."""
        await self._lifespan.__aexit__(None, None, None)

    @_api(
        route="/v1/recommendations/bulk",
        batchable=True,
        max_batch_size=256,
        max_latency_ms=int(_TIMEOUT_S * 1000),
        input_spec=BulkRequests,
    )
    async def bulk(self, requests: list[BulkRequest]) -> list[dict[str, Any]]:
        """One result per request, in order; a request that fails has its own `error`.

        BentoML hands over the requests of many callers at once, under the first one's headers: a secret
        key is needed, as no visitor could be proven, and pointers in errors start at the request itself.
        """
        engine: RecommendationEngine = self._app.state.engine
        results: list[dict[str, Any]] = []
        for start in range(0, len(requests), settings.max_batch):  # no more at once than the queue holds
            bodies = [r.root for r in requests[start : start + settings.max_batch]]
            outcomes, _ = await engine.recommend(bodies, "of a bulk call", SHOP, pointer="", in_thread=len(bodies) > 16)
            results += [as_result(o) for o in outcomes]
        if len(results) != len(requests):  # BentoML would hand them to the wrong callers
            raise RuntimeError(f"{len(requests)} requests got {len(results)} results")
        return results


# For the bulk endpoint too, which is not part of our application. BentoML puts the first outermost, unlike FastAPI.
# Without keys the service cannot even be imported: a worker that refused to start would be restarted for ever.
for middleware, _, options in build_middleware(settings):
    Usual.add_asgi_middleware(middleware, **options)  # type: ignore[attr-defined]
Usual.add_asgi_middleware(BulkBodyMiddleware)  # type: ignore[attr-defined]
Usual.add_asgi_middleware(_OwnReadiness)  # type: ignore[attr-defined]


def _locate_bundle(path: Path | None) -> tuple[Path, str | None]:
    """Return the bundle directory to serve, and its version in the registry where it came from there."""
    if path is not None:
        return path, None
    try:
        model = bentoml.models.get(MODEL_ALIAS)
    except bentoml.exceptions.NotFound:
        raise InputError(
            "there is no model to serve; set USUAL_BUNDLE to a bundle directory, or serve a Bento made by "
            "`usual package`"
        ) from None
    return Path(model.path_of("bundle")), model.info.labels.get("version")
