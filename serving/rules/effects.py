"""Effects: what the rules that match a request do to its answer.

Visitors of one kind match the same rules, so effects are kept by the rules that act: what they do to the items of the
catalog is computed once for all of them.
"""

from collections.abc import Callable, Sequence
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


class Effects:
    """The rules that act on a request, by precedence. `held_out`: ids of those that its visitor is held out of.

    Shared by all requests that the same rules act on, and by threads: never changed.
    """

    def __init__(self, rules: tuple[ShopRule, ...], masks: RuleMasks, held_out: tuple[str, ...] = ()) -> None:
        self.rules, self.masks, self.held_out = rules, masks, held_out
        self.shares = self.of("share")
        self.pins = self.of("pin")
        self.placement_changes = self._placement_changes()

    def of(self, *actions: str) -> tuple[ShopRule, ...]:
        """The rules with one of `actions`."""
        return tuple(rule for rule in self.rules if rule.action in actions)

    @cached_property
    def hidden(self) -> BoolArray | None:
        """bool[items]: what must not be shown; None: nothing is hidden. Not to be written to."""
        rules = self.of("hide")
        if not rules:
            return None
        hidden: BoolArray = np.logical_or.reduce([self.masks.of(rule) for rule in rules])
        return hidden

    @cached_property
    def _shown(self) -> BoolArray | None:
        return None if self.hidden is None else ~self.hidden

    def allow(self, allowed: BoolArray | None) -> BoolArray | None:
        """Take what is hidden out of bool[items] `allowed` (None: every item). Not to be written to."""
        if self._shown is None:
            return allowed
        return self._shown if allowed is None else allowed & self._shown

    def _placement_changes(self) -> dict[str, Any]:
        """The keys of the placement that change: those of the first rule with a strategy."""
        rules = self.of("strategy")
        if not rules or rules[0].do.strategy is None:
            return {}
        changes = rules[0].do.strategy.model_dump(exclude_none=True)
        return {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}

    @cached_property
    def _shifts(self) -> Float64Array | None:
        """float64[items]: how far up (above 0) each item is moved; None where no rule moves any."""
        rules = self.of("boost", "bury")
        if not rules:
            return None
        shifts = np.zeros(len(self.masks.snapshot.items))
        for rule in rules:
            amount = rule.do.boost if rule.do.boost is not None else -(rule.do.bury or 0.0)
            shifts[self.masks.of(rule)] += amount
        return np.clip(shifts, -MAX_SHIFT, MAX_SHIFT) if shifts.any() else None

    def order(self, positions: Int64Array) -> Int64Array | None:
        """Order n ranked items by 1 - place/n and how far rules move them; equals keep their order.

        Returns their places, or None where no rule moves any.
        """
        if self._shifts is None or not (n := len(positions)):
            return None
        order: Int64Array = (np.arange(n) / n - self._shifts[positions]).argsort(kind="stable")
        return order


def match(expression: RuleExpression, context: Any) -> bool | Failure:
    """Whether an expression holds, or why it cannot be evaluated on this record: then it does not match."""
    try:
        return expression.evaluate(context) is True
    except KeyError:
        return "unknown"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in the compiled code is no Exception
        return "error"


def find_effects(
    rules: Sequence[ShopRule],
    masks: RuleMasks,
    record: Callable[[], dict[str, dict[str, Any]]],
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
    known: dict[int, bool | Failure] = {}  # rules for the same visitors share one expression
    for rule in rules:
        if rule.when is not None:
            if context is None:
                context = make_context(record())
            key = id(rule.when)
            holds = known.get(key)
            if holds is None:
                holds = known[key] = match(rule.when, context)
            if holds is False:
                continue
            if holds is not True:
                report_failure(rule.id, holds)
                continue
        if rule.holdout and rule.holds_out(unit, masks.book.salt):
            held_out.append(rule.id)
        else:
            acting.append(rule)
    if not (acting or held_out):
        return None
    acts: tuple[int | str, ...] = (*(rule.number for rule in acting), -1, *held_out)
    effects = masks.kept.get(acts)
    if not isinstance(effects, Effects):
        effects = Effects(tuple(acting), masks, tuple(held_out))
        masks.keep(acts, effects)
    return effects
