"""Checks of whole files: what is hardly meant is told, and what is meant is not."""

import numpy as np
import pytest

from features.common.clock import parse as instant
from serving.recommend.availability import Availability
from serving.rules.check import RuleFinding, check_rules
from serving.rules.masks import RuleMasks
from serving.rules.rulebook import parse
from serving.schemas import placements
from tests.serving.small_shop import small_shop

AT = instant("2026-12-01")
PIN = "do: {pin: {item_ids: [i1]}}"


def findings(*rules: str, catalog: bool = False) -> list[RuleFinding]:
    text = "rules:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules)
    book = parse(text.encode(), "rules.yml", placements.read())
    masks = None
    if catalog:
        shop = small_shop(20)
        masks = RuleMasks(book, shop, 0, Availability(shop).matches)
    return check_rules(book, AT, masks)


def kinds(*rules: str, catalog: bool = False) -> list[tuple[str, str]]:
    return [(f.rule, f.kind) for f in findings(*rules, catalog=catalog)]


@pytest.mark.parametrize(
    "when",
    [
        "visitor.orders > 5.0 && visitor.orders < 3.0",
        "visitor.segment == 'loyal' && visitor.segment == 'new'",
        "now.hour > 23",
        "size(context.cart_items) < 0",
        "visitor.known && !visitor.known",
        "1 > 2",
    ],
)
def test_what_never_holds_is_told(when: str):
    assert kinds(f'id: a, when: "{when}", {PIN}') == [("a", "never_true")]


@pytest.mark.parametrize(
    "when",
    [
        "visitor.orders > 5.0 && visitor.orders < 7.0",
        "visitor.segment == 'loyal' || visitor.segment == 'new'",
        "now.hour > 22 && now.weekday == 'sunday'",
        "has(visitor.churn_risk) && visitor.churn_risk > 0.25 && visitor.churn_risk < 0.26",
        "context.query.contains('red') && context.query.endsWith('shoe')",
        "'p1' in context.cart_items && 'p2' in context.page_items",
        "now.date >= '2026-12-24' && now.date < '2026-12-27'",
        "!has(context.source) || context.source != 'email'",
    ],
)
def test_what_may_hold_is_not(when: str):
    assert kinds(f'id: a, when: "{when}", {PIN}') == []


def test_what_has_ended_is_told():
    assert kinds(f"id: a, until: 2026-11-30, {PIN}", f"id: b, from: 2027-01-01, {PIN}") == [("a", "expired")]


def test_a_condition_that_says_what_must_not_be_may_fail():
    (finding,) = findings(f"id: a, when: \"context.source != 'email'\", {PIN}")
    assert finding.kind == "may_fail"
    assert "!has(context.source) ||" in finding.message


def test_pins_on_one_place_conflict_where_they_meet():
    two = f"id: a, {PIN}", "id: b, do: {pin: {item_ids: [i2], at: 1}}"
    (finding,) = findings(*two)
    assert (finding.rule, finding.kind, finding.line) == ("b", "conflict", 3)
    assert "a pins to place 1 too" in finding.message
    assert kinds(f"{two[0]}, placements: [home.new]", f"{two[1]}, placements: [home.trending]") == []
    assert kinds(f"{two[0]}, until: 2027-01-01", f"{two[1]}, from: 2027-01-01") == []


def test_strategies_in_the_shadow_of_others_are_told():
    one, other = "id: a, do: {strategy: {diversity: 0.1}}", "id: b, do: {strategy: {diversity: 0.2}}"
    assert kinds(one, other) == [("b", "shadowed")]
    assert kinds(f"{one}, when: visitor.known", other) == [("b", "conflict")]
    assert kinds(f"{one}, placements: [home.new], priority: 1", other) == [("b", "conflict")]
    assert kinds(f"{one}, until: 2027-01-01", other) == [("b", "conflict")]
    assert kinds(one, f"{other}, placements: [home.new], priority: 1") == [("a", "conflict")]


def test_what_another_rule_hides_and_shares_of_more_than_all_are_told():
    hide = "id: h, items: {item_ids: [i1]}, do: {hide: true}"
    assert kinds(f"id: a, {PIN}", hide) == [("a", "conflict")]
    odd = 'items: {all: [{field: brand, op: "==", value: odd}]}'
    assert kinds(f"id: a, {odd}, do: {{share: 0.6}}", f"id: b, {odd}, do: {{share: 0.5}}") == [("b", "conflict")]
    assert kinds(f"id: a, {PIN}", f"id: h, {odd}, do: {{hide: true}}", catalog=True) == [("a", "conflict")]


def test_products_brands_and_categories_that_the_catalog_lacks_are_told():
    found = findings(
        "id: a, do: {pin: {item_ids: [i1, gone, i99]}}",
        'id: b, items: {all: [{field: brand, op: "==", value: oddd}]}, do: {boost: 0.1}',
        "id: c, items: {all: [{field: category, op: under, value: shop}]}, do: {boost: 0.1}",
        'id: d, items: {all: [{field: price, op: ">", value: 1000}]}, do: {boost: 0.1}',
        catalog=True,
    )
    assert [(f.rule, f.kind) for f in found] == [
        ("a", "unknown"),
        ("b", "nothing_selected"),
        ("b", "unknown"),
        ("d", "nothing_selected"),
    ]
    assert "no product gone, i99" in found[0].message
    assert "did you mean 'odd'?" in found[2].message


def test_masks_are_those_of_the_prices_of_now():
    """A patch of a price changes what a condition on prices selects; other masks are taken over."""
    shop = small_shop(20)
    text = 'rules:\n  - {id: a, items: {all: [{field: price, op: "<", value: 2}]}, do: {hide: true}}\n' \
           '  - {id: b, items: {all: [{field: brand, op: "==", value: odd}]}, do: {boost: 1}}\n'  # fmt: skip
    book = parse(text.encode(), "rules.yml", placements.read())
    before = RuleMasks(book, shop, 0, Availability(shop).matches)
    before.warm_up()
    prices = np.where(np.arange(20) == 9, 0.5, np.arange(20))

    def matches(filter_: object) -> np.ndarray:
        assert "price" in str(filter_)
        return prices < 2

    after = RuleMasks(book, shop, 1, matches, before)
    cheap, odd = ({r.id: r for r in book.rules}[i] for i in "ab")
    assert shop.items.at(np.flatnonzero(before.of(cheap))) == ["i0", "i1"]
    assert shop.items.at(np.flatnonzero(after.of(cheap))) == ["i0", "i1", "i9"]
    assert after.of(odd) is before.of(odd)
