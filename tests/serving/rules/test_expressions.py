"""Expressions: what is refused while a file is loaded, and what is left to hold or to fail on a request."""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from serving.rules.effects import match
from serving.rules.expressions import MAX_EXPRESSION, compile_expression, least_record, make_context, make_record
from serving.rules.fields import FIELDS


def holds(text: str, **values: object) -> bool | str:
    record = make_record({tuple(name.split("__")): value for name, value in values.items()})
    return match(compile_expression(text), make_context(record))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("visitor.segmnt == 'loyal'", "did you mean visitor.segment?"),
        ("visitor.segment == 'loyl'", "did you mean 'loyal'?"),
        ("visitor.segment in ['loyal', 'champion']", "did you mean 'champions'?"),
        ("'loyl' == visitor.segment", "did you mean 'loyal'?"),
        ("orders > 3.0", "write visitor.orders"),
        ("visitor", "has parts"),
        ("visitor.rfm > 3.0", "visitor.rfm.r, visitor.rfm.f, visitor.rfm.m"),
        ("visitor.rfm.q > 3.0", "there is no visitor.rfm.q"),
        ("visitor.cluster == 'a'", "not known while requests are answered"),
        ("visitor.preferences.size == 'a'", "not known while requests are answered"),
        ("visitor.orders", "a value, not a condition"),
        ("'a'", "a value, not a condition"),
        ("visitor.orders > 'a'", "does not fit"),
        ("visitor.orders * 2 > 3.0", "write numbers as 2.0"),
        ("visitor.known && visitor.segment > 3.0", "does not fit"),
        ("visitor.segment == 'loyal' || visitor.segment + 1.0 > 2.0", "does not fit"),
        ("context.source == 'Email'", "write 'email'"),
        ("context.country == 'de'", "write 'DE'"),
        ("context.query.contains('Shoe')", "write 'shoe'"),
        ("now.weekday == 'Sunday'", "did you mean 'sunday'?"),
        ("visitor.orders = 3.0", "write =="),
        ("visitor.known & visitor.known", "write &&"),
        ("visitor.orders > 3.0 visitor.known", "no expression"),
        ("visitor.orders >", "no expression"),
        ("", "no expression"),
        ("'a' 'b'", "something is missing"),
        ("'a", "does not end"),
        ("'''a''' == 'a'", "something is missing"),
        ("r'a' == 'a'", "no name"),
        ("has(visitor)", "has parts"),
        ("has('a')", "takes a field"),
        ("visitor.churn_risk == null", "has( )"),
        ("visitor['segment'] == 'loyal'", "has parts"),
        ("context.cart_items[0] == 'a'", "not supported"),
        ("{'a': true}.a", "maps are not supported"),
        ("context.cart_items.exists(i, i == 'a')", "goes over a list"),
        ("context.cart_items.map(i, i + i).size() > 3", "goes over a list"),
        ("[1, 2].all(i, [1, 2].all(j, i < j))", "goes over a list"),
        ("context.query.matches('(a+)+$')", "regular expressions"),
        ("size(context.query.lowerAscii()) > 1", "there is no lowerAscii"),
        ("duration('1h') == duration('60m')", "there is no duration"),
        ("cel.bind(x, 1, x == 1)", "cel is no name"),
        ("true // false", "has no meaning"),
        ("true; false", "has no meaning"),
        ("visitor.known\0", "has no meaning"),
        ("(" * 13 + "true" + ")" * 13, "12 deep"),
        ("!" * 4 + "visitor.known", "too many !"),
        ("true ? " * 9 + "true" + " : false" * 9, "too many ?"),
        ("visitor.known" + " && visitor.known" * 60, "1,000 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(text: str, advice: str):
    with pytest.raises(InputError) as refusal:
        compile_expression(text)
    assert advice in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("visitor.segment in ['loyal'] && context.source == 'email'", {"visitor__segment": "loyal", "context__source": "email"}),  # noqa: E501
        ("visitor.orders == 3", {"visitor__orders": 3.0}),
        ("visitor.orders >= 3 && visitor.spend < 10.5", {"visitor__orders": 3.0, "visitor__spend": 10.0}),
        ("visitor.rfm.r * 2.0 > 5.0", {"visitor__rfm__r": 3.0}),
        ("!has(visitor.churn_risk) || visitor.churn_risk > 0.5", {}),
        ("has(visitor.propensity.d7) && visitor.propensity.d7 > 0.1", {"visitor__propensity__d7": 0.2}),
        ("'p9' in context.cart_items", {"context__cart_items": ["p1", "p9"]}),
        ("size(context.cart_items) >= 2", {"context__cart_items": ["p1", "p9"]}),
        ("context.category.startsWith('shoes/') && context.query.contains('red')",
         {"context__category": "shoes/men", "context__query": "red boots"}),
        ("now.hour >= 22 || now.hour < 6", {"now__hour": 3.0}),
        ("now.date >= '2026-12-24' && now.date < '2026-12-27'", {"now__date": "2026-12-26"}),
        ("now.weekday in ['saturday', \"sunday\"]", {"now__weekday": "sunday"}),
        ("visitor.known ? visitor.orders > 1.0 : true", {"visitor__known": False}),
        ("-visitor.orders < 0.0", {"visitor__orders": 1.0}),
        ("context.query == 'it\\'s'", {"context__query": "it's"}),
    ],
)  # fmt: skip
def test_what_merchandisers_write_holds(text: str, values: dict[str, object]):
    assert holds(text, **values) is True


def test_a_field_that_is_not_known_does_not_match_and_says_so():
    assert holds("visitor.churn_risk > 0.5") == "unknown"
    assert holds("visitor.known && visitor.churn_risk > 0.5", visitor__known=False) is False
    assert holds("1.0 / 0.0 > 1.0 || 5 / (size(context.cart_items) - 1) > 1", context__cart_items=["a"]) is True
    assert holds("5 / (size(context.cart_items) - 1) > 1", context__cart_items=["a"]) == "error"


def test_the_parts_that_and_joins_are_known_by_themselves():
    text = "visitor.known && (visitor.orders > 1.0 || visitor.spend > 3.0) && context.device == 'a && b'"
    parts = compile_expression(text).parts
    assert [part.text for part in parts] == [
        "visitor.known",
        "(visitor.orders > 1.0 || visitor.spend > 3.0)",
        "context.device == 'a && b'",
    ]
    assert compile_expression("visitor.known && visitor.known || visitor.known").parts == ()


def test_every_field_can_be_read_and_is_told_if_it_is_there():
    least = make_context(least_record())
    for field in FIELDS.values():
        compare = {
            "text": f"{field.name} == '{(field.values or ('x',))[0]}'",
            "number": f"{field.name} >= 0.0",
            "bool": field.name,
            "list": f"size({field.name}) >= 0",
        }[field.kind]
        expression = compile_expression(compare.replace("'x'", "'X'") if field.name == "context.country" else compare)
        assert expression.fields == {field.path}
        assert (match(expression, least) == "unknown") is (not field.always), field.name


_PIECES = ["visitor", "context", "now", ".", "segment", "orders", "(", ")", "[", "]", "'a'", "1.0", "&&", "||", "!",
           "==", "in", "has", "size", "?", ":", ",", "-", "+", "*", "true", " ", "map", "matches", "\\", "'", "{", "x",
           ".contains(", "\x00", "ä", "9" * 30, "1e999"]  # fmt: skip


@settings(deadline=None)  # compiling takes long on a busy machine
@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join) | st.text(max_size=60))
def test_whatever_is_written_is_compiled_or_refused(text: str):
    try:
        expression = compile_expression(text)
    except InputError:
        return
    assert match(expression, make_context(least_record())) in (True, False, "unknown", "error")


def test_long_chains_up_to_the_limit_neither_crash_nor_take_long():
    for chain in ("true", "visitor.known", "!true", "1 < 2", "'a' in ['a']", "size('a') == 1"):
        for sign in ("&&", "||", "=="):
            text = f" {sign} ".join([chain] * ((MAX_EXPRESSION - 10) // (len(chain) + 4)))
            try:
                compile_expression(text)
            except InputError:
                continue
    rubbish = random.Random(0)
    for _ in range(200):
        with pytest.raises(InputError):
            compile_expression("".join(rubbish.choices(string.punctuation, k=MAX_EXPRESSION)))
