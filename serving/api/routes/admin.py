"""What an operator may ask of a running server: take the published model now, make a newer snapshot."""

import asyncio
import logging
import sys
from pathlib import Path

from fastapi import FastAPI, Request, Response

from serving.api import openapi
from serving.api.json_io import json_response
from serving.recommend.engine import Answers
from serving.recommend.model_watcher import Following
from serving.schemas.problems import Problem, problem, respond

logger = logging.getLogger("usual.serving")


class Admin:
    """Without `following` every answer is a 409. `log`: the event log that snapshots are made from."""

    def __init__(self, answers: Answers, following: Following | None, log: Path | None) -> None:
        self._answers, self._following, self._log = answers, following, log
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_problem: str | None = None

    async def reload(self, request: Request) -> Response:
        """Serve what is published now, if it is not served yet. Other workers follow within a second."""
        if self._following is None:
            return respond(_not_following(), request.state.request_id)
        looked = await asyncio.to_thread(self._following.look, True)
        if looked.problem is not None:
            detail = f"The published model cannot be served, the old one goes on: {self._following.problem}"
            return respond(problem("unavailable", detail), request.state.request_id)
        return json_response({"swapped": looked.swapped, "model": self._answers.served.model})

    async def refresh(self, request: Request) -> Response:
        """Make a snapshot of the event log as of the last midnight and serve it when it is ready. 202: it has begun."""
        if self._following is None:
            return respond(_not_following(), request.state.request_id)
        if self._log is None:
            what = problem("not_following", "This server knows no event log; set USUAL_LOG")
            return respond(what, request.state.request_id)
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refreshed(self._log, self._following.where))
        return json_response({"refreshing": True}, 202)

    def description(self) -> dict[str, object] | None:
        """What `GET /v1/model` says of it."""
        if self._following is None:
            return None
        refreshing = self._refreshing is not None and not self._refreshing.done()
        problems = {"problem": self._following.problem, "refresh_problem": self._refresh_problem}
        return {**problems, "refreshing": refreshing}

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def _refreshed(self, log: Path, where: Path) -> None:
        # A process of its own: it takes all cores for a while and more memory than a server should hold.
        command = (sys.executable, "-m", "serving.deploy.refresh", str(log), str(where))
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        self._refresh_problem = None
        if process.returncode:
            last = said.decode(errors="replace").strip().rpartition("\n")[2][:1000]
            logger.error("refreshing failed: %s", last)
            self._refresh_problem = "it failed; the server's log says why"


def add_admin_routes(app: FastAPI, admin: Admin) -> None:
    """Give `app` the operator's routes."""
    app.post("/v1/admin/reload", **openapi.RELOAD)(admin.reload)
    app.post("/v1/admin/refresh", status_code=202, **openapi.REFRESH)(admin.refresh)


def _not_following() -> Problem:
    return problem("not_following", "This server serves one bundle and follows no directory; see USUAL_CHAMPION")
