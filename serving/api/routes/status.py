"""Routes that report on the server: the active model, metrics, probes."""

import asyncio

from fastapi import FastAPI, Request, Response

from serving import metrics
from serving.api import openapi
from serving.api.json_io import json_response
from serving.api.routes.admin import AdminRoutes
from serving.recommend.engine import RecommendationEngine
from serving.schemas.problems import problem, respond
from serving.schemas.recommendations import ModelDescription

# What every answer says of the model that gave it; numbers of customers, metrics and versions are the shop's own.
_FOR_PAGES = ("name", "version", "as_of")


def add_status_routes(app: FastAPI, engine: RecommendationEngine, admin: AdminRoutes) -> None:
    """Add /v1/model, /metrics, /livez and /readyz to `app`."""

    @app.get("/v1/model", response_model=ModelDescription)
    async def model(request: Request) -> Response:
        """The model that is served: version and snapshot time; to a secret key also metrics, sizes and the watcher."""
        if not request.state.secret_key:
            public = {name: engine.active_model.description[name] for name in _FOR_PAGES}
            return json_response({**public, "following": None})
        return json_response({**engine.active_model.description, "following": admin.description()})

    @app.get("/metrics", include_in_schema=False)
    async def prometheus_metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(metrics.render), media_type=metrics.CONTENT_TYPE)

    @app.get("/livez", status_code=204)
    async def livez(_: Request) -> Response:
        """The process runs."""
        return Response(status_code=204)

    @app.get("/readyz", status_code=204, **openapi.READYZ)
    async def readyz(request: Request) -> Response:
        """A bundle is loaded, warm, and can answer; 503 and the reason until then.

        200 with a reason: requests are answered, and what was published last is not what answers them.
        """
        why = await asyncio.to_thread(lambda: engine.problem)  # may apply overrides first
        if why is not None or not engine.ready:
            detail = f"The model cannot answer: {why}" if why else "The bundle is not warm yet"
            return respond(problem("unavailable", detail), request.state.request_id)
        if watch_problem := admin.problem:
            return json_response({"ready": True, "problem": f"The old model goes on: {watch_problem}"})
        return Response(status_code=204)
