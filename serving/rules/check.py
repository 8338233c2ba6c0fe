"""Rule checks: what in a whole rules file is hardly meant, such as rules that never act or that conflict."""

import random
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import combinations, product
from typing import Any, Literal, NamedTuple

import numpy as np

from features.ranking.snapshot import Snapshot
from serving.rules.effects import match
from serving.rules.expressions import METHODS, RuleExpression, literals, make_context, make_record
from serving.rules.fields import FIELDS, FieldPath
from serving.rules.masks import RuleMasks
from serving.rules.report import format_local
from serving.rules.rulebook import Rulebook, ShopRule

_MAX_TRIES = 5_000  # records that a condition is tried on
_MAX_NAMED = 5

FindingKind = Literal["expired", "never_true", "may_fail", "conflict", "shadowed", "unknown", "nothing_selected"]


class RuleFinding(NamedTuple):
    """Something that is hardly meant."""

    rule: str
    line: int
    kind: FindingKind
    message: str


def check_rules(book: Rulebook, at: int, masks: RuleMasks | None = None) -> list[RuleFinding]:
    """Look for rules that do nothing, or conflict, as of `at` (microseconds); with `masks` also at the catalog."""
    findings = [
        RuleFinding(rule.id, rule.line, kind, message)
        for rule in book.rules
        for kind, message in _check_alone(rule, book, at)
    ]
    findings += _check_pairs(book)
    if masks is not None:
        findings += _check_catalog(book, masks)
    return sorted(findings, key=lambda f: (f.line, f.kind, f.message))


def _check_alone(rule: ShopRule, book: Rulebook, at: int) -> Iterator[tuple[FindingKind, str]]:
    if rule.schedule.end is not None and rule.schedule.is_over(at):
        yield "expired", f"it ended {format_local(rule.schedule.end, book.zone)}"
    if rule.when is None:
        return
    if not _can_hold(rule.when):
        yield "never_true", f"`{rule.when.text}` never holds"
    elif "!" in rule.when.text and (missing := _fails_without(rule.when)):
        asks = ", ".join(f"!has({name}) ||" for name in missing)
        yield (
            "may_fail",
            f"where {', '.join(missing)} is not known the rule does not match, although it says what must not be; if "
            f"it should, write {asks} before it",
        )


def _fails_without(when: RuleExpression) -> list[str]:
    """The fields without which an expression fails, each alone."""
    values = {path: _plausible(when)[path][0] for path in when.fields}
    missing = []
    for path in sorted(when.fields):
        if not FIELDS[path].always:
            record = make_record({p: v for p, v in values.items() if p != path})
            if match(when, make_context(record)) == "unknown":
                missing.append(FIELDS[path].name)
    return missing


def _can_hold(when: RuleExpression) -> bool:
    """Whether an expression may hold: on some record with values near what it compares with, or parts of texts."""
    if any(f".{method}(" in when.text for method in METHODS):
        return True  # too many texts to try
    choices = _plausible(when)
    paths = sorted(choices)
    size = int(np.prod([len(choices[p]) for p in paths], dtype=np.float64))
    combos: Any = product(*(choices[p] for p in paths))
    if size > _MAX_TRIES:
        draw = random.Random(0)  # noqa: S311
        combos = ([draw.choice(choices[p]) for p in paths] for _ in range(_MAX_TRIES))
    for combo in combos:
        known = {p: v for p, v in zip(paths, combo, strict=True) if v is not None}
        if match(when, make_context(make_record(known))) is True:
            return True
    return size > _MAX_TRIES  # not all were tried


def _plausible(when: RuleExpression) -> dict[FieldPath, list[Any]]:
    """Values to try of each field, the first one known; None: absent."""
    texts, numbers = literals(when.text)
    near = sorted({n + d for n in {*numbers, 0.0} for d in (-1.0, -0.001, 0.0, 0.001, 1.0)})
    lists: list[Any] = [[], *([t] for t in texts), texts, [f"p{n}" for n in range(50)]]
    choices: dict[FieldPath, list[Any]] = {}
    for path in when.fields:
        field = FIELDS[path]
        if field.kind == "text":
            values: list[Any] = [*(field.values or (*texts, "zz", *(f"a{t}z" for t in texts)))]
        elif path == ("now", "hour"):
            values = [float(hour) for hour in range(24)]
        elif field.kind == "number":
            values = near
        else:
            values = [True, False] if field.kind == "bool" else lists
        choices[path] = values if field.always else [*values, None]
    return choices


def _check_pairs(book: Rulebook) -> Iterator[RuleFinding]:
    for first, second in combinations(book.rules, 2):  # `first` takes precedence
        if not (_same_place(first, second) and first.schedule.overlaps(second.schedule)):
            continue
        actions = (first.action, second.action)
        if actions == ("pin", "pin") and (places := _same_pins(first, second)):
            yield _finding(
                second, "conflict", f"{first.id} pins to place {places[0]} too, and has it; these follow on the next"
            )
        elif actions == ("strategy", "strategy"):
            if _covers(first, second):
                yield _finding(second, "shadowed", f"{first.id} always takes precedence, so this never acts")
            else:
                yield _finding(second, "conflict", f"where {first.id} matches too, only that one acts")
        elif actions == ("share", "share") and (first.do.share or 0) + (second.do.share or 0) > 1:
            yield _finding(second, "conflict", f"with {first.id} it wants more places than there are")
        elif "hide" in actions:
            hide, other = (first, second) if first.action == "hide" else (second, first)
            if shared := _ids(hide) & _ids(other) if other.action != "hide" else set():
                yield _finding(other, "conflict", f"{hide.id} hides {_few(sorted(shared))}, which wins")


def _same_place(a: ShopRule, b: ShopRule) -> bool:
    return a.placements is None or b.placements is None or bool(a.placements & b.placements)


def _same_pins(a: ShopRule, b: ShopRule) -> list[int]:
    if a.do.pin is None or b.do.pin is None:
        return []
    ranges = [range(pin.at, pin.at + len(pin.item_ids)) for pin in (a.do.pin, b.do.pin)]
    return sorted(set(ranges[0]) & set(ranges[1]))


def _covers(first: ShopRule, second: ShopRule) -> bool:
    """Whether `first` acts wherever and whenever `second` does."""
    if first.when is not None and (second.when is None or first.when.text != second.when.text):
        return False
    if first.holdout:
        return False
    if first.placements is not None and (second.placements is None or not second.placements <= first.placements):
        return False
    a, b = first.schedule, second.schedule
    starts = a.start is None or (b.start is not None and a.start <= b.start)
    return starts and (a.end is None or (b.end is not None and a.end >= b.end))


def _ids(rule: ShopRule) -> set[str]:
    """The items that a rule names, where nothing else decides which it is about."""
    if rule.do.pin is not None:
        return set(rule.do.pin.item_ids)
    if rule.items is None or rule.items.all or rule.items.any or rule.items.none:
        return set()
    return set(rule.items.item_ids)


def _check_catalog(book: Rulebook, masks: RuleMasks) -> Iterator[RuleFinding]:
    snapshot = masks.snapshot
    hides = [rule for rule in book.rules if rule.action == "hide" and rule.when is None and not rule.holdout]
    for rule in book.rules:
        named = rule.do.pin.item_ids if rule.do.pin is not None else rule.items.item_ids if rule.items else []
        unknown = [i for i, at in zip(named, snapshot.items.find(named).tolist(), strict=True) if at < 0]
        if unknown:
            yield _finding(rule, "unknown", f"the catalog has no product {_few(unknown)}")
        yield from _unknown_values(rule, snapshot)
        if rule.items is not None and not masks.of(rule).any():
            yield _finding(rule, "nothing_selected", "no product of the catalog is in its items")
        if rule.do.pin is not None:
            for hide in hides:
                pinned = np.array(masks.pinned(rule), np.int64)
                gone = pinned[masks.of(hide)[pinned]]
                if len(gone) and not _ids(hide) and _same_place(rule, hide):
                    yield _finding(rule, "conflict", f"{hide.id} hides {_few(snapshot.items.at(gone))}, which wins")


def _unknown_values(rule: ShopRule, snapshot: Snapshot) -> Iterator[RuleFinding]:
    if rule.items is None:
        return
    known = {
        "brand": set(snapshot.catalog["brand"].unique().to_pylist()) - {None},
        "category": set(snapshot.category_names.to_pylist()),
    }
    known["category"] |= {"/".join(c.split("/")[:n]) for c in known["category"] for n in range(1, c.count("/") + 1)}
    for condition in (*rule.items.all, *rule.items.any, *rule.items.none):
        if condition.field not in known or condition.op == "contains":
            continue
        values = condition.value if isinstance(condition.value, list) else [condition.value]
        for value in values:
            if value not in known[condition.field]:
                near = get_close_matches(str(value), known[condition.field], 1, 0.6)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                yield _finding(rule, "unknown", f"no product has the {condition.field} {value!r}{hint}")


def _few(ids: list[str]) -> str:
    examples = ", ".join(ids[:_MAX_NAMED])
    return examples if len(ids) <= _MAX_NAMED else f"{examples} and {len(ids) - _MAX_NAMED:,} more"


def _finding(rule: ShopRule, kind: FindingKind, message: str) -> RuleFinding:
    return RuleFinding(rule.id, rule.line, kind, message)
