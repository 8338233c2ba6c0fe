"""Rule reports: of each rule, whether it acts on a request, or which part of it does not hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from features.common import clock
from serving.rules.effects import match
from serving.rules.expressions import RuleExpression, make_context
from serving.rules.fields import FieldPath
from serving.rules.masks import RuleMasks
from serving.rules.rulebook import ShopRule


@dataclass(frozen=True, slots=True)
class RuleReport:
    """`why`: what does not hold; of a rule that acts, why it changes nothing, or None."""

    id: str
    action: str
    matched: bool
    why: str | None = None


def report_rules(
    masks: RuleMasks, record: dict[str, dict[str, Any]], placement: str | None, unit: str | None, at: int
) -> list[RuleReport]:
    """Report on all rules of a book for one request, by precedence. `record` must have every field that is known."""
    context = make_context(record)
    return [_report(rule, masks, record, context, placement, unit, at) for rule in masks.book.rules]


def _report(
    rule: ShopRule,
    masks: RuleMasks,
    record: Mapping[str, Any],
    context: Any,
    placement: str | None,
    unit: str | None,
    at: int,
) -> RuleReport:
    why = _why_not(rule, masks, record, context, placement, unit, at)
    if why is not None:
        return RuleReport(rule.id, rule.action, False, why)
    if rule.items is not None and not masks.of(rule).any():
        return RuleReport(rule.id, rule.action, True, "no product of the catalog is in its items")
    if rule.do.pin is not None and not len(masks.pinned(rule)):
        return RuleReport(rule.id, rule.action, True, "the catalog has none of its products")
    return RuleReport(rule.id, rule.action, True)


def _why_not(
    rule: ShopRule,
    masks: RuleMasks,
    record: Mapping[str, Any],
    context: Any,
    placement: str | None,
    unit: str | None,
    at: int,
) -> str | None:
    if rule.placements is not None and placement not in rule.placements:
        return f"it is for {', '.join(sorted(rule.placements))}"
    if rule.schedule.start is not None and at < rule.schedule.start:
        return f"it begins {format_local(rule.schedule.start, masks.book.zone)}"
    if rule.schedule.end is not None and at >= rule.schedule.end:
        return f"it ended {format_local(rule.schedule.end, masks.book.zone)}"
    if rule.when is not None and match(rule.when, context) is not True:
        return _explain_when(rule.when, record, context)
    if rule.holds_out(unit, masks.book.salt):
        return "the visitor is in its holdout"
    return None


def _explain_when(when: RuleExpression, record: Mapping[str, Any], context: Any) -> str:
    """Name the first condition that does not hold, and what its fields are."""
    part = next((part for part in when.parts if match(part, context) is not True), when)
    values = {".".join(path): _value(record, path) for path in sorted(part.fields)}
    missing = [name for name, value in values.items() if value is None]
    if missing and match(part, context) == "unknown":
        return f"{part.text}: {', '.join(missing)} is not known here"
    values_text = ", ".join(f"{name} is {_show(value)}" for name, value in values.items())
    return f"{part.text}: not so" + (f", as {values_text}" if values_text else "")


def _value(record: Mapping[str, Any], path: FieldPath) -> Any:
    value: Any = record
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _show(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return repr(value)


def format_local(t: int, zone: ZoneInfo) -> str:
    """Format an instant (microseconds) by the shop's clock."""
    return clock.moment(t).astimezone(zone).isoformat(timespec="seconds")
