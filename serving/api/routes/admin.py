"""Routes for operators: serve the published model now, make a newer snapshot."""

import asyncio
import logging
from pathlib import Path

from fastapi import FastAPI, Request, Response

from features.common.subprocesses import module_command
from serving.api import openapi
from serving.api.json_io import json_response
from serving.recommend.engine import RecommendationEngine
from serving.recommend.model_watcher import ModelWatcher
from serving.schemas.problems import Problem, problem, respond

logger = logging.getLogger("usual.serving")


class AdminRoutes:
    """Endpoints around the model watcher; without one they respond with 409.

    `log`: the event log that snapshots are made from.
    """

    def __init__(self, engine: RecommendationEngine, watcher: ModelWatcher | None, log: Path | None) -> None:
        self._engine, self._watcher, self._log = engine, watcher, log
        self._refresh_task: asyncio.Task[None] | None = None
        self._refresh_problem: str | None = None

    async def reload(self, request: Request) -> Response:
        """Serve what is published now, if it is not served yet. Other workers follow within a second."""
        if self._watcher is None:
            return respond(_no_watcher(), request.state.request_id)
        outcome = await asyncio.to_thread(self._watcher.check, True)
        if outcome.problem is not None:
            detail = f"The published model cannot be served, the old one goes on: {self._watcher.problem}"
            return respond(problem("unavailable", detail), request.state.request_id)
        return json_response({"swapped": outcome.swapped, "model": self._engine.active_model.identity})

    async def refresh(self, request: Request) -> Response:
        """Make a snapshot of the event log as of the last midnight and serve it when it is ready. 202: it has begun."""
        if self._watcher is None:
            return respond(_no_watcher(), request.state.request_id)
        if self._log is None:
            no_log = problem("not_following", "This server knows no event log; set USUAL_LOG")
            return respond(no_log, request.state.request_id)
        if self._refresh_task is None or self._refresh_task.done():
            self._refresh_task = asyncio.create_task(self._run_refresh(self._log, self._watcher.directory))
        return json_response({"refreshing": True}, 202)

    @property
    def problem(self) -> str | None:
        """Why what is published is not served; None if it is, or nothing is watched."""
        return None if self._watcher is None else self._watcher.problem

    def description(self) -> dict[str, object] | None:
        """Describe the watcher for `GET /v1/model`; None without one."""
        if self._watcher is None:
            return None
        refreshing = self._refresh_task is not None and not self._refresh_task.done()
        problems = {"problem": self._watcher.problem, "refresh_problem": self._refresh_problem}
        return {**problems, "refreshing": refreshing}

    async def close(self) -> None:
        """Cancel a refresh that is running."""
        if self._refresh_task is not None:
            self._refresh_task.cancel()
            await asyncio.gather(self._refresh_task, return_exceptions=True)

    async def _run_refresh(self, log: Path, where: Path) -> None:
        # A process of its own: it takes all cores for a while and more memory than a server should hold.
        command, env = module_command("serving.deploy.refresh", str(log), str(where))
        process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
        try:
            _, stderr = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        self._refresh_problem = None
        if process.returncode:
            last_line = stderr.decode(errors="replace").strip().rpartition("\n")[2][:1000]
            logger.error("refreshing failed: %s", last_line)
            self._refresh_problem = "it failed; the server's log says why"


def add_admin_routes(app: FastAPI, admin: AdminRoutes) -> None:
    """Add /v1/admin/reload and /v1/admin/refresh to `app`."""
    app.post("/v1/admin/reload", **openapi.RELOAD)(admin.reload)
    app.post("/v1/admin/refresh", status_code=202, **openapi.REFRESH)(admin.refresh)


def _no_watcher() -> Problem:
    return problem("not_following", "This server serves one bundle and follows no directory; see USUAL_CHAMPION")
