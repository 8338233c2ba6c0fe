"""Routes of the shop's rules: which are followed, and what they, or a draft, would do."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from features.common import clock
from features.common.errors import InputError
from serving.api import openapi
from serving.api.json_io import json_response, read_message
from serving.recommend.engine import RecommendationEngine
from serving.rules.report import format_local
from serving.rules.rulebook import Rulebook, RulesError, parse
from serving.rules.schedule import parse_instant
from serving.rules.schema import describe_action
from serving.rules.watcher import RulesWatcher
from serving.schemas.problems import FieldError, Problem, ProblemError, problem, respond
from serving.schemas.rules import RulesDescription, RulesPreviewRequest


class RulesRoutes:
    """Endpoints of the rules; `watcher`: None where the server follows no file."""

    def __init__(self, engine: RecommendationEngine, watcher: RulesWatcher | None) -> None:
        self._engine, self._watcher = engine, watcher

    async def describe(self, _: Request) -> Response:
        """The rules that are followed, by precedence, and why the file is not, if it is not."""
        watcher, book, now = self._watcher, self._book, clock.now()
        return json_response(
            {
                "file": watcher and watcher.path.name,
                "timezone": book.zone.key,
                "digest": book.digest,
                "loaded_at": watcher and format_local(watcher.loaded_at, book.zone),
                "problem": watcher and watcher.problem and watcher.problem.replace(f"{watcher.path.parent}/", ""),
                "rules": _rules(book, now),
            }
        )

    async def preview(self, request: Request) -> Response:
        """A placement with and without rules, side by side, and of each rule what does not hold. Nobody sees it."""
        message = await read_message(request, RulesPreviewRequest)
        book = self._book
        if message.rules is not None:
            draft = message.rules.encode("utf-8", "surrogatepass")
            book = await asyncio.to_thread(self._parse, draft)
        at = clock.now()
        if message.at is not None:
            try:
                at = parse_instant(message.at, book.zone)
            except InputError as error:
                raise _wrong("/at", [str(error)]) from None
        outcome = await self._engine.preview(message, book, at, request.state.sender)
        if isinstance(outcome, Problem):
            return respond(outcome, request.state.request_id)
        return json_response(outcome)

    @property
    def _book(self) -> Rulebook:
        return Rulebook() if self._watcher is None else self._watcher.book

    def _parse(self, draft: bytes) -> Rulebook:
        try:
            return parse(draft, "draft", self._engine.placements)
        except RulesError as error:
            raise _wrong("/rules", error.messages) from None


def add_rules_routes(app: FastAPI, engine: RecommendationEngine, watcher: RulesWatcher | None) -> None:
    """Add /v1/rules and /v1/rules/preview to `app`."""
    routes = RulesRoutes(engine, watcher)
    app.get("/v1/rules", response_model=RulesDescription)(routes.describe)
    app.post("/v1/rules/preview", **openapi.RULES_PREVIEW)(routes.preview)


def _wrong(pointer: str, messages: list[str]) -> ProblemError:
    errors = [FieldError(pointer=pointer, detail=message) for message in messages]
    return ProblemError(problem("invalid_request", "The request is wrong; `errors` says where", errors))


def _rules(book: Rulebook, now: int) -> list[dict[str, Any]]:
    def local(t: int | None) -> str | None:
        return None if t is None else format_local(t, book.zone)

    return [
        {
            "id": rule.id,
            "action": rule.action,
            "scope": rule.scope,
            "line": rule.line,
            "active": rule.schedule.holds(now),
            "do": describe_action(rule.do),
            "when": rule.when and rule.when.text,
            "placements": None if rule.placements is None else sorted(rule.placements),
            "items": rule.items and rule.items.model_dump(exclude_defaults=True),
            "from": local(rule.schedule.start),
            "until": local(rule.schedule.end),
            "priority": rule.priority,
            "holdout": rule.holdout,
        }
        for rule in book.rules
    ]
