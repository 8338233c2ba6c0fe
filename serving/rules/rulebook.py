"""Rulebook: a rules file, checked whole, in the order in which its rules take precedence. Immutable."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from features.common.errors import InputError
from serving.rules import yaml_nodes
from serving.rules.expressions import RuleExpression, compile_expression
from serving.rules.fields import FieldPath
from serving.rules.schedule import Schedule, load_zone, parse_instant
from serving.rules.schema import Action, Do, ItemSelection, RuleDefinition, RulesFile

MAX_BYTES = 2_000_000
MAX_MESSAGES = 20  # of one file that are told at once

# Items that a rule names win over a placement, a placement over a kind of visitor, and that over everybody.
_SCOPES = ("item", "placement", "segment", "all")
SLOTS = 10_000  # of a holdout


@dataclass(frozen=True)
class ShopRule:
    """One rule. `number`: its position in the rulebook; `line`: in the file."""

    id: str
    do: Do
    when: RuleExpression | None
    placements: frozenset[str] | None
    items: ItemSelection | None
    schedule: Schedule
    priority: int
    holdout: float
    line: int
    number: int = -1

    @property
    def action(self) -> Action:
        """What it does."""
        return self.do.action

    @property
    def scope(self) -> str:
        """The narrowest of item, placement, segment, all that it is about."""
        if self.items is not None or self.do.pin is not None:
            return "item"
        if self.placements is not None:
            return "placement"
        return "segment" if self.when is not None else "all"

    @property
    def precedence(self) -> tuple[int, int, str]:
        """Sort key: who comes first wins. No place in the file is in it."""
        return -self.priority, _SCOPES.index(self.scope), self.id

    def holds_out(self, unit: str | None, salt: str) -> bool:
        """Whether the visitor `unit` (an id) is in the rule's holdout; nobody without an id is."""
        if not self.holdout or unit is None:
            return False
        return slot_of(salt, self.id, unit) < round(self.holdout * SLOTS)


def slot_of(salt: str, name: str, unit: str) -> int:
    """Draw one of `SLOTS` slots for a unit, in integers alone, so that every machine draws the same."""
    text = f"{salt}\0{name}\0{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") * SLOTS >> 64


@dataclass(frozen=True)
class Rulebook:
    """`rules` by precedence. `digest` identifies the content of the file, `fields` are those that its rules read."""

    rules: tuple[ShopRule, ...] = ()
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    salt: str = "usual"
    digest: str = ""
    fields: frozenset[FieldPath] = frozenset()
    _candidates: dict[str | None, tuple[int, int, tuple[ShopRule, ...]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def needs_visit(self) -> bool:
        """Whether a rule reads what the visitor did since the snapshot."""
        return not self.fields.isdisjoint(_OF_THE_VISIT)

    def active(self, placement: str | None, at: int) -> tuple[ShopRule, ...]:
        """Return the rules for a placement whose schedule holds at `at` (microseconds), by precedence."""
        cached = self._candidates.get(placement)
        if cached is None or not cached[0] <= at < cached[1]:
            rules = [r for r in self.rules if r.placements is None or placement in r.placements]
            edges = [e for r in rules for e in (r.schedule.start, r.schedule.end) if e is not None]
            start = max((e for e in edges if e <= at), default=-(1 << 62))
            end = min((e for e in edges if e > at), default=1 << 62)
            cached = self._candidates[placement] = start, end, tuple(r for r in rules if r.schedule.holds(at))
        return cached[2]


_OF_THE_VISIT: tuple[FieldPath, ...] = (("visitor", "orders"), ("visitor", "spend"), ("visitor", "days_since_order"))


class RulesError(InputError):
    """What is wrong with a rules file: every message begins with its line."""

    def __init__(self, name: str, messages: list[str]) -> None:
        more = len(messages) - MAX_MESSAGES
        self.messages = messages[:MAX_MESSAGES] + ([f"and {more} more"] if more > 0 else [])
        super().__init__(f"the rules {name} do not fit:\n  " + "\n  ".join(self.messages))


def load(path: Path, placements: Collection[str]) -> Rulebook:
    """Read and check a rules file. Raises RulesError, or InputError where it cannot be read."""
    return parse(read_bytes(path), str(path), placements)


def read_bytes(path: Path) -> bytes:
    """Read a rules file. Raises InputError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"the rules {path} cannot be read: {error.strerror}") from None
    return content


def parse(content: bytes, name: str, placements: Collection[str]) -> Rulebook:
    """Check the content of a rules file, called `name` in errors. `placements`: those that there are.

    Raises RulesError with all that is wrong.
    """
    if len(content) > MAX_BYTES:
        raise RulesError(name, [f"line 1: a rules file may have {MAX_BYTES:,} bytes"])
    try:
        data, lines = yaml_nodes.parse(content.decode())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RulesError(name, [f"line {line}: this is not UTF-8"]) from None
    except yaml_nodes.YamlError as error:
        raise RulesError(name, [str(error)]) from None
    try:
        file = RulesFile.model_validate({} if data is None else data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise RulesError(name, sorted({_describe(e, data, lines) for e in errors}, key=_line_number)) from None
    return _build(file, name, lines, placements, blake2b(content, digest_size=8).hexdigest())


def _build(
    file: RulesFile, name: str, lines: dict[yaml_nodes.Path, int], placements: Collection[str], digest: str
) -> Rulebook:
    try:
        zone = load_zone(file.timezone)
    except InputError as error:
        raise RulesError(name, [f"line {yaml_nodes.line_of(('timezone',), lines)}: timezone: {error}"]) from None
    wrong: list[str] = []
    rules: list[ShopRule] = []
    expressions: dict[str, RuleExpression] = {}
    seen: dict[str, int] = {}
    for n, definition in enumerate(file.rules):
        line = yaml_nodes.line_of(("rules", n), lines)

        def report(key: str, message: str, n: int = n, rule_id: str = definition.id) -> None:
            wrong.append(f"line {yaml_nodes.line_of(('rules', n, key), lines)}: {rule_id}: {key}: {message}")

        if definition.id in seen:
            report("id", f"line {seen[definition.id]} has a rule of this id; give each its own")
        seen.setdefault(definition.id, line)
        rule = _build_rule(definition, line, zone, placements, expressions, report)
        rules.append(rule)
    if wrong:
        raise RulesError(name, wrong)
    rules.sort(key=lambda r: r.precedence)
    numbered = tuple(_with_number(rule, n) for n, rule in enumerate(rules))
    fields = frozenset(path for r in numbered if r.when is not None for path in r.when.fields)
    return Rulebook(numbered, zone, file.salt, digest, fields)


def _build_rule(
    definition: RuleDefinition,
    line: int,
    zone: ZoneInfo,
    placements: Collection[str],
    expressions: dict[str, RuleExpression],
    report: Any,
) -> ShopRule:
    """Build a rule; `expressions` has those of the file that are compiled already."""
    when = None
    if definition.when is not None:
        try:
            when = expressions.get(definition.when) or compile_expression(definition.when)
            expressions[definition.when] = when
        except InputError as error:
            report("when", str(error))
    for placement in definition.placements or ():
        if placement not in placements:
            near = get_close_matches(placement, list(placements), 1, 0.5)
            choice = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(placements))}"
            report("placements", f"there is no placement {placement}; {choice}")
    times: dict[str, int | None] = {"from": None, "until": None}
    for key, text in (("from", definition.from_), ("until", definition.until)):
        if text is not None:
            try:
                times[key] = parse_instant(text, zone)
            except InputError as error:
                report(key, str(error))
    start, end = times["from"], times["until"]
    if start is not None and end is not None and end <= start:
        report("until", "it must lie after `from`")
    return ShopRule(
        id=definition.id,
        do=definition.do,
        when=when,
        placements=None if definition.placements is None else frozenset(definition.placements),
        items=definition.items,
        schedule=Schedule(start, end),
        priority=definition.priority,
        holdout=definition.holdout,
        line=line,
    )


def _with_number(rule: ShopRule, number: int) -> ShopRule:
    return ShopRule(**{**vars(rule), "number": number})


def _describe(error: ErrorDetails, data: Any, lines: Mapping[yaml_nodes.Path, int]) -> str:
    """Describe an error of the schema: line, rule, key, what to write."""
    # The names of branches of a union are in the location too, and in no file.
    path = tuple(key for key in error["loc"] if not (isinstance(key, str) and "[" in key))
    line = yaml_nodes.line_of(path, dict(lines))
    where = [str(key) for key in path]
    if len(path) >= 2 and path[0] == "rules" and isinstance(path[1], int):
        rule = data["rules"][path[1]] if isinstance(data["rules"], list) else None
        rule_id = rule.get("id") if isinstance(rule, dict) else None
        where = [str(rule_id) if isinstance(rule_id, str) else f"rule {path[1] + 1}", *where[2:]]
    return f"line {line}: {': '.join([where[0], '.'.join(where[1:])] if len(where) > 1 else where)}: {_advice(error)}"


def _advice(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(error["loc"])
        case "missing":
            return "this is missing"
        case "string_type":
            return "write a text, in quotes where it looks like a number"
    return error["msg"]


def _unknown_key(location: tuple[int | str, ...]) -> str:
    key = str(location[-1])
    models = {1: RulesFile, 3: RuleDefinition, 4: Do}
    model: Any = models.get(len(location), ItemSelection)
    if len(location) == 4 and location[2] == "items":
        model = ItemSelection
    known = [f.alias or name for name, f in model.model_fields.items()]
    near = get_close_matches(key, known, 1, 0.6)
    return "there is no such key; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")


def _line_number(message: str) -> int:
    return int(message.split()[1].rstrip(":"))
