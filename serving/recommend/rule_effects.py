"""Rule effects: what the shop's rules do to each request, evaluated on the active model."""

from collections.abc import Callable
from functools import partial
from typing import Any

from models.interface import SessionEvent
from serving.recommend import planner
from serving.recommend.active_model import ActiveModel
from serving.rules.effects import Effects, ReportFailure, find_effects
from serving.rules.fields import FIELDS, FieldPath
from serving.rules.masks import MaskCache, RuleMasks
from serving.rules.record import RecordSources, build_record
from serving.rules.rulebook import Rulebook
from serving.schemas.placements import Placement
from serving.schemas.recommendations import RankedRequest, VisitorRequest
from serving.schemas.visitor import VisitorIds

_ALL_FIELDS = frozenset(FIELDS)

Visit = tuple[SessionEvent, ...]


class RuleEvaluator:
    """Evaluates the rules of the book that `get_book` returns. Any thread may use it.

    `report_failure` is called with the id of a rule whose expression cannot be evaluated on a request, and why.
    """

    def __init__(self, get_book: Callable[[], Rulebook], report_failure: ReportFailure) -> None:
        self._get_book, self._report_failure = get_book, report_failure
        self._masks = MaskCache()

    @property
    def book(self) -> Rulebook:
        """The rules that count now."""
        return self._get_book()

    def masks(self, model: ActiveModel, book: Rulebook | None = None) -> RuleMasks:
        """Return the masks of the rules for a model with the overrides that it has applied."""
        version, matches = model.overrides_version, model.availability.matches
        return self._masks.get(book or self.book, model.snapshot, version, matches)

    def warm_up(self, model: ActiveModel, book: Rulebook | None = None) -> None:
        """Find the items of all rules, so that no request waits for it."""
        masks = self.masks(model, book)
        masks.warm_up()
        for rule in masks.book.rules:
            if rule.action == "share":
                masks.by_sales(rule, model.best_sellers)

    def visitor(self, request: RankedRequest, placement: Placement) -> VisitorIds | None:
        """The visitor whose stored events a request needs: for its plan, or for what rules read of it."""
        return request.visitor if self.book.needs_visit else planner.resolve_visitor(request, placement)

    def evaluate(
        self, request: VisitorRequest, model: ActiveModel, visit: Visit, at: int, placement: str | None
    ) -> Effects | None:
        """Return what the rules do to a request at `at` (microseconds); None: nothing."""
        masks = self.masks(model)
        rules = masks.book.active(placement, at)
        if not rules:
            return None
        record = partial(self._record, masks.book, masks.book.fields, request, model, visit, at, placement)
        unit = request.customer_id or request.client_id or None
        return find_effects(rules, masks, record, unit, self._report_failure)

    def whole_record(
        self, request: VisitorRequest, model: ActiveModel, visit: Visit, at: int, placement: str | None
    ) -> dict[str, dict[str, Any]]:
        """Return all that rules could read of a request."""
        return self._record(self.book, _ALL_FIELDS, request, model, visit, at, placement)

    @staticmethod
    def _record(
        book: Rulebook,
        fields: frozenset[FieldPath],
        request: VisitorRequest,
        model: ActiveModel,
        visit: Visit,
        at: int,
        placement: str | None,
    ) -> dict[str, dict[str, Any]]:
        sources = RecordSources(model.snapshot, model.predictions, model.availability.prices)
        customer = model.find_customer(request.customer_id)
        return build_record(fields, sources, customer, request.context, placement, visit, at, book.zone)
