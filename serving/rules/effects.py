"""Effects: what the rules that match a request do to its answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from features.common.arrays import BoolArray, Float64Array, Int64Array
from serving.rules.expressions import RuleExpression, make_context
from serving.rules.masks import RuleMasks
from serving.rules.rulebook import ShopRule

Failure = Literal["unknown", "error"]
"""A field that is not known of this request; anything else."""
ReportFailure = Callable[[str, Failure], None]

MAX_SHIFT = 1.0  # of the place scale, over all rules: to the top, or to the bottom


@dataclass(frozen=True)
class Effects:
    """The rules that act on a request, by precedence. `held_out`: ids of those that its visitor is held out of."""

    rules: tuple[ShopRule, ...]
    masks: RuleMasks
    held_out: tuple[str, ...] = ()

    def of(self, *actions: str) -> tuple[ShopRule, ...]:
        """The rules with one of `actions`."""
        return tuple(rule for rule in self.rules if rule.action in actions)

    @cached_property
    def hidden(self) -> BoolArray | None:
        """bool[items]: what must not be shown; None: nothing is hidden. Not to be written to."""
        rules = self.of("hide")
        return self.masks.any_of(rules) if rules else None

    def allow(self, allowed: BoolArray | None) -> BoolArray | None:
        """Take what is hidden out of bool[items] `allowed` (None: every item)."""
        if self.hidden is None:
            return allowed
        shown: BoolArray = ~self.hidden if allowed is None else allowed & ~self.hidden
        return shown

    @property
    def placement_changes(self) -> dict[str, Any]:
        """The keys of the placement that change: those of the first rule with a strategy."""
        rules = self.of("strategy")
        if not rules or rules[0].do.strategy is None:
            return {}
        changes = rules[0].do.strategy.model_dump(exclude_none=True)
        return {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}

    def shifts(self, positions: Int64Array) -> Float64Array | None:
        """Compute how far up (above 0) each item is moved on the place scale; None where no rule moves any."""
        rules = self.of("boost", "bury")
        if not rules:
            return None
        shift = np.zeros(len(positions))
        for rule in rules:
            amount = rule.do.boost if rule.do.boost is not None else -(rule.do.bury or 0.0)
            shift[self.masks.of(rule)[positions]] += amount
        if not shift.any():
            return None
        return np.clip(shift, -MAX_SHIFT, MAX_SHIFT)


def order_by_shifts(shifts: Float64Array) -> Int64Array:
    """Order n ranked items by 1 - place/n and their shifts; equals keep their order. Returns their places."""
    n = len(shifts)
    order: Int64Array = np.argsort(-(1 - np.arange(n) / max(n, 1) + shifts), kind="stable")
    return order


def match(expression: RuleExpression, context: Any) -> bool | Failure:
    """Whether an expression holds, or why it cannot be evaluated on this record: then it does not match."""
    try:
        return expression.holds(context)
    except KeyError:
        return "unknown"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in the compiled code is no Exception
        return "error"


def find_effects(
    rules: Sequence[ShopRule],
    masks: RuleMasks,
    record: Callable[[], Mapping[str, Any]],
    unit: str | None,
    report_failure: ReportFailure,
) -> Effects | None:
    """Find out which of the active `rules` act on a request; None where none does and nobody is held out.

    `record` is called once if a rule needs it; `unit`: the visitor's id, by which holdouts are drawn;
    `report_failure` is called with the id of each rule whose expression cannot be evaluated, and why.
    """
    context: Any = None
    acting: list[ShopRule] = []
    held_out: list[str] = []
    for rule in rules:
        if rule.when is not None:
            if context is None:
                context = make_context(record())
            holds = match(rule.when, context)
            if isinstance(holds, str):
                report_failure(rule.id, holds)
            if holds is not True:
                continue
        if rule.holds_out(unit, masks.book.salt):
            held_out.append(rule.id)
        else:
            acting.append(rule)
    return Effects(tuple(acting), masks, tuple(held_out)) if acting or held_out else None
