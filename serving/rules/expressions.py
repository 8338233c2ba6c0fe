"""Expressions: the `when` of a rule, in a part of CEL that costs no more than its length.

    visitor.segment in ['loyal', 'champions'] && context.source == 'email'

A field that is absent makes the expression fail, unless `has(…)` asked first; an expression that fails does not match.
Macros that go over lists, regular expressions and deep nesting are refused, so that no expression is slow.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple

from features.common.errors import InputError
from serving.rules.fields import FIELDS, LOWER, ROOTS, FieldPath, RuleField, find_field

MAX_EXPRESSION = 1_000  # characters
_FUNCTIONS = ("has", "size")
METHODS = ("contains", "startsWith", "endsWith")
_MACROS = ("all", "exists", "exists_one", "existsOne", "map", "filter", "reduce")
_MAX_DEPTH, _MAX_PREFIX, _MAX_TERNARY = 12, 3, 8
_MAX_S = 0.001  # of one evaluation; a usual one takes 0.5 µs

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<text>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[<>!+\-*%?:,.()\[\]]|/(?!/))"
)
_WORDS = ("true", "false", "in")


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class RuleExpression:
    """A compiled expression. `fields`: what it reads; `parts`: its conditions that `&&` joins, if more than one."""

    text: str
    fields: frozenset[FieldPath]
    parts: tuple["RuleExpression", ...] = ()
    _program: Any = field(default=None, repr=False, compare=False)

    def evaluate(self, context: Any) -> object:
        """Evaluate on a context of `make_context`. Raises whatever CEL raises, such as KeyError for an absent field."""
        value: object = self._program.execute(context)
        return value


def make_context(record: dict[str, dict[str, Any]]) -> Any:
    """Return what expressions are evaluated on. One thread at a time may use it."""
    return _context_type()(record)


@cache
def _context_type() -> Any:
    import cel  # takes 0.1 s, and a server without rules needs none

    return cel.Context


def compile_expression(text: str) -> RuleExpression:
    """Compile and try out an expression. Raises InputError, which says what to write."""
    if len(text) > MAX_EXPRESSION:
        raise InputError(f"an expression may have {MAX_EXPRESSION:,} characters")
    tokens = list(_tokenize(text))
    fields = _check(text, tokens)
    expression = _compile(text, fields)
    _try_out(expression)
    pieces = [text[a:b].strip() for a, b in _conditions(tokens, len(text))]
    if len(pieces) < 2:
        return expression
    parts = tuple(_compile(piece, _check(piece, list(_tokenize(piece)))) for piece in pieces)
    return RuleExpression(text, fields, parts, expression._program)


def _compile(text: str, fields: frozenset[FieldPath]) -> RuleExpression:
    import cel

    try:
        return RuleExpression(text, fields, (), cel.compile(text))
    except Exception as error:
        raise InputError(f"this is no expression: {_first_line(error)}") from None


def _tokenize(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InputError(_explain_character(text, at))
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match.group(), at)
        at = match.end()


def _explain_character(text: str, at: int) -> str:
    match text[at]:
        case "=":
            return "write == to compare"
        case "&" | "|":
            return f"write {text[at] * 2}"
        case "{" | "}":
            return "maps are not supported"
        case "'" | '"':
            return f"a text that begins at character {at + 1} does not end"
    return f"{text[at]!r} (character {at + 1}) has no meaning here"


def _check(text: str, tokens: list[_Token]) -> frozenset[FieldPath]:
    """Check all that compiling does not: names, depth, what may be slow. Returns the fields that are read."""
    depth = prefix = ternaries = 0
    fields: set[FieldPath] = set()
    n = 0
    while n < len(tokens):
        token, before = tokens[n], tokens[n - 1] if n else None
        follows_value = before is not None and (before.kind != "sign" or before.text in (")", "]"))
        if token.kind == "name":
            n = _check_name(tokens, n, fields)
            prefix = 0
            continue
        if token.text in ("(", "["):
            depth += 1
            if depth > _MAX_DEPTH:
                raise InputError(f"brackets may be {_MAX_DEPTH} deep")
            if token.text == "[" and follows_value and before is not None and before.text != "in":
                raise InputError("elements and keys in [ ] are not supported; write `'p1' in context.cart_items`")
        depth -= token.text in (")", "]") and token.kind == "sign"
        prefix = prefix + 1 if token.text in ("!", "-") and token.kind == "sign" and not follows_value else 0
        ternaries += token.text == "?"
        if prefix > _MAX_PREFIX or ternaries > _MAX_TERNARY:
            raise InputError(f"too many {token.text}; write it shorter")
        if token.kind != "sign" and follows_value and before is not None and before.text not in _WORDS:
            raise InputError(f"{before.text} {token.text}: something is missing between them")
        n += 1
    _check_literals(tokens)
    return frozenset(fields)


def _check_name(tokens: list[_Token], n: int, fields: set[FieldPath]) -> int:
    """Check the name at `n` with all that follows it after dots; returns where to go on."""
    token = tokens[n]
    called = _text(tokens, n + 1) == "("
    if _text(tokens, n - 1) == "." and n:  # of a text or a bracket
        if not called or token.text not in METHODS:
            raise InputError(_unknown_function(token.text))
        return n + 1
    if called:
        if token.text not in _FUNCTIONS:
            raise InputError(_unknown_function(token.text))
        if token.text == "has" and _text(tokens, n + 2) not in ROOTS:
            raise InputError("has( ) takes a field, such as has(visitor.churn_risk)")
        return n + 1
    if token.text in _WORDS:
        return n + 1
    if token.text not in ROOTS:
        if token.text == "null":
            raise InputError("nothing is null; ask with has( ) whether a field is there")
        whole = [f.name for f in FIELDS.values() if token.text in f.path[1:]]
        hint = whole or get_close_matches(token.text, [*ROOTS, *_WORDS], 1, 0.6)
        choice = hint[0] if hint else f"{', '.join(ROOTS)}, or a text in quotes"
        raise InputError(f"{token.text} is no name; write {choice}")
    path = [token.text]
    n += 1
    while _text(tokens, n) == "." and n + 1 < len(tokens) and tokens[n + 1].kind == "name":
        if _text(tokens, n + 2) == "(":
            break
        path.append(tokens[n + 1].text)
        n += 2
    declared = find_field(tuple(path))
    if not isinstance(declared, RuleField):
        raise InputError(declared)
    fields.add(declared.path)
    return n


def _unknown_function(name: str) -> str:
    if name in _MACROS:
        return f"{name}( ) goes over a list, which is not supported; write `'p1' in context.cart_items`"
    if name == "matches":
        return "regular expressions are not supported; write contains( ), startsWith( ) or endsWith( )"
    near = get_close_matches(name, [*_FUNCTIONS, *METHODS], 1, 0.6)
    choice = f"did you mean {near[0]}( )?" if near else f"there are {', '.join((*_FUNCTIONS, *METHODS))}"
    return f"there is no {name}( ); {choice}"


def _text(tokens: list[_Token], n: int) -> str:
    return tokens[n].text if 0 <= n < len(tokens) else ""


def _check_literals(tokens: list[_Token]) -> None:
    """Refuse texts that a field can never be: a segment that does not exist, capitals where there are none."""
    for n, path, names in _fields_in(tokens):
        texts = list(_compared_with(tokens, n, n + names))
        known, name = FIELDS[path].values, FIELDS[path].name
        for text in texts:
            if known and text not in known:
                near = get_close_matches(text, known, 1, 0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"it is one of {', '.join(known)}"
                raise InputError(f"{name} is never '{text}'; {hint}")
            if name in LOWER and text != text.lower():
                raise InputError(f"{name} is in lower case; write '{text.lower()}'")
            if name == "context.country" and text != text.upper():
                raise InputError(f"{name} is in upper case; write '{text.upper()}'")


def _fields_in(tokens: list[_Token]) -> Iterator[tuple[int, FieldPath, int]]:
    """Yield where a field begins, its path, and over how many tokens it goes."""
    for n, token in enumerate(tokens):
        if token.kind == "name" and token.text in ROOTS and _text(tokens, n - 1) != ".":
            path, m = [token.text], n + 1
            while (
                _text(tokens, m) == "."
                and (*path, _text(tokens, m + 1))
                and (any(f[: len(path) + 1] == (*path, _text(tokens, m + 1)) for f in FIELDS))
            ):
                path.append(tokens[m + 1].text)
                m += 2
            if tuple(path) in FIELDS:
                yield n, tuple(path), m - n


def _compared_with(tokens: list[_Token], start: int, end: int) -> Iterator[str]:
    """Yield the texts that a field between `start` and `end` is compared with by ==, !=, in, or a method."""
    sign = _text(tokens, end)
    if sign in ("==", "!=") and _kind(tokens, end + 1) == "text":
        yield _unquote(tokens[end + 1].text)
    if _text(tokens, start - 1) in ("==", "!=") and _kind(tokens, start - 2) == "text":
        yield _unquote(tokens[start - 2].text)
    if sign == "in" and _text(tokens, end + 1) == "[":
        for token in tokens[end + 2 :]:
            if token.text == "]":
                break
            if token.kind == "text":
                yield _unquote(token.text)
    if sign == "." and _text(tokens, end + 1) in METHODS and _kind(tokens, end + 3) == "text":
        text = _unquote(tokens[end + 3].text)
        if not FIELDS[_path_at(tokens, start, end)].values:
            yield text


def _path_at(tokens: list[_Token], start: int, end: int) -> FieldPath:
    return tuple(token.text for token in tokens[start:end] if token.kind == "name")


def _kind(tokens: list[_Token], n: int) -> str:
    return tokens[n].kind if 0 <= n < len(tokens) else ""


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _conditions(tokens: list[_Token], end: int) -> list[tuple[int, int]]:
    """Where the conditions stand that && joins at the top; the whole where || or ? stands there too."""
    depth, cuts = 0, []
    for token in tokens:
        if token.kind != "sign":
            continue
        depth += (token.text in "([") - (token.text in ")]")
        if depth == 0 and token.text in ("||", "?"):
            return []
        if depth == 0 and token.text == "&&":
            cuts.append(token.at)
    starts, ends = [0, *(cut + 2 for cut in cuts)], [*cuts, end]
    return list(zip(starts, ends, strict=True))


def _try_out(expression: RuleExpression) -> None:
    """Evaluate on records with all fields and on one with the least. Raises InputError where it must fail."""
    for record, whole in ((example_record(0.5, "a"), True), (example_record(1e6, "zz"), True), (least_record(), False)):
        context = make_context(record)
        try:
            seconds = min(_time(expression, context) for _ in range(5))
        except KeyError as error:
            if whole:
                raise InputError(f"the field {error} is not known") from None
            continue
        except TypeError as error:
            if str(error) == "not a condition":
                raise InputError("this is a value, not a condition; compare it with something") from None
            raise InputError(f"this compares or adds up what does not fit; write numbers as 2.0: {_first_line(error)}"
                             ) from None  # fmt: skip
        except Exception as error:
            raise InputError(f"this cannot be evaluated: {_first_line(error)}") from None
        if seconds > _MAX_S:
            raise InputError(f"this takes {seconds * 1e3:.0f} ms; an expression may take {_MAX_S * 1e3:.0f}")


def _time(expression: RuleExpression, context: Any) -> float:
    started_at = perf_counter()
    if not isinstance(expression.evaluate(context), bool):
        raise TypeError("not a condition")
    return perf_counter() - started_at


def example_record(number: float, text: str) -> dict[str, Any]:
    """Return a record that has every field, with these values."""
    values: dict[str, Any] = {"text": text, "number": number, "bool": number > 1, "list": [text] * 50}
    return make_record({path: values[f.kind] for path, f in FIELDS.items()})


def least_record() -> dict[str, Any]:
    """Return a record that has only the fields that every record has."""
    values: dict[str, Any] = {"text": "", "number": 0.0, "bool": False, "list": []}
    return make_record({path: values[f.kind] for path, f in FIELDS.items() if f.always})


def literals(text: str) -> tuple[list[str], list[float]]:
    """Return the texts and the numbers that an expression names."""
    tokens = list(_tokenize(text))
    texts = {_unquote(token.text) for token in tokens if token.kind == "text"}
    return sorted(texts), sorted({float(token.text) for token in tokens if token.kind == "number"})


def make_record(values: Mapping[FieldPath, Any]) -> dict[str, Any]:
    """Return a record with these values of fields, and no others."""
    record: dict[str, Any] = {"visitor": {"rfm": {}, "propensity": {}}, "context": {}, "now": {}}
    for path, value in values.items():
        at = record
        for name in path[:-1]:
            at = at.setdefault(name, {})
        at[path[-1]] = value
    return record


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    texts = [line.partition("ERROR: <input>:")[2] for line in lines if "ERROR: <input>:" in line] or lines[:1]
    return texts[0].split(". CEL does not")[0][:200] if texts else type(error).__name__
