"""The BentoML service: what a Bento runs.

The HTTP API is mounted on it as it is; BentoML adds packaging, processes and a bulk endpoint. Its own
batch dispatcher shifts answers between callers when a result is missing, so it only feeds our batcher.
"""

import gc
import logging
import os
from pathlib import Path
from typing import Any

# BentoML reports each start to its makers unless told otherwise; a shop did not ask for that.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

import bentoml
from pydantic import BaseModel, ConfigDict, Field, RootModel
from starlette.types import ASGIApp, Receive, Scope, Send

import models as models  # `load` below comes from beside this file, wherever the server was started
from features.common.errors import InputError
from models.publishing import current
from serving import logging as logs
from serving.api.app import create_app
from serving.api.json_io import BODY_WITHIN_S
from serving.api.middleware.gateway import Edge, options
from serving.api.middleware.telemetry import Observed
from serving.event_store import Limits, open_store
from serving.recommend.engine import Answers
from serving.recommend.response import as_result
from serving.settings import read_settings

# The name under which a Bento holds its model; it stands for the exact version that was packaged.
MODEL_ALIAS = "usual-bundle"

log = logging.getLogger("usual.serving")
settings = read_settings()
logs.set_up(settings.log_format == "json", settings.access_log)

# BentoML keeps a timer per request for this long, answered or not, so it is short; and it ends requests
# without a problem document, so our own limits come first: on reading a body, then on ranking, or on writing
# to the event store, which Segment's calls do twice.
_TIMEOUT_S = BODY_WITHIN_S + max(settings.deadline_ms / 1000, 2 * Limits().write_s) + 1


class _Mounted:
    """The application once it exists.

    Not a Starlette instance on purpose: BentoML then routes every path it does not know itself here,
    and an unknown path gets a problem like any other error.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


_mounted = _Mounted()


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
        try:
            if settings.champion is not None and (found := current(settings.champion)) is not None:
                self._app = create_app(load(found.path), settings, found.version, store, load, found)
                return
        except Exception as error:  # a worker that does not start would be started again for ever
            log.error("the published model is not served: %s", error)
        path, version = _bundle(settings.bundle)
        self._app = create_app(load(path), settings, version, store, load)

    @bentoml.on_startup
    async def start(self) -> None:
        """Warm up, then serve."""
        self._lifespan = self._app.router.lifespan_context(self._app)
        await self._lifespan.__aenter__()
        # What is loaded by now stays: the collector need not look at it again at every turn.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        _mounted.app = self._app

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Answer what is waiting, then stop."""
        await self._lifespan.__aexit__(None, None, None)

    @bentoml.api(
        route="/v1/recommendations/bulk",
        batchable=True,
        max_batch_size=256,
        max_latency_ms=int(_TIMEOUT_S * 1000),
        input_spec=BulkRequests,
    )
    async def bulk(self, requests: list[BulkRequest]) -> list[dict[str, Any]]:
        """One result per request, in order; a request that fails has its own `error`.

        BentoML hands over the requests of many callers at once, under the first one's headers, so
        pointers in errors start at the request itself.
        """
        answers: Answers = self._app.state.answers
        results: list[dict[str, Any]] = []
        for start in range(0, len(requests), settings.max_batch):  # no more at once than the queue takes
            raw = [r.root for r in requests[start : start + settings.max_batch]]
            outcomes, _ = await answers.answer(raw, "of a bulk call", where="")
            results += [as_result(o) for o in outcomes]
        if len(results) != len(requests):  # BentoML would hand them to the wrong callers
            raise RuntimeError(f"{len(requests)} requests got {len(results)} results")
        return results


# Outermost, to count what the edge refuses: BentoML puts the first outside, other than FastAPI.
Usual.add_asgi_middleware(Observed)  # type: ignore[attr-defined]
# Keys and body limit for the bulk endpoint too, which is not part of our application. Without keys the service
# cannot even be imported: a worker that refused to start would be started again for ever.
Usual.add_asgi_middleware(Edge, **options(settings))  # type: ignore[attr-defined]


def _bundle(path: Path | None) -> tuple[Path, str | None]:
    """The bundle directory to serve and its version in the registry, if it came from there."""
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
