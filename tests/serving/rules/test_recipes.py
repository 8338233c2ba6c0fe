"""The recipes of docs/rules.md: each is a file that is whole, does what it says, and is shown as it is."""

from pathlib import Path
from typing import Any

import pytest

from features.common.clock import parse as instant
from serving.rules.check import check_rules
from serving.rules.effects import match
from serving.rules.expressions import make_context, make_record
from serving.rules.fields import FIELDS
from serving.rules.rulebook import load
from serving.schemas import placements

DOCS = Path(__file__).parents[3] / "docs"
PLACEMENTS = placements.read()
# Of each recipe: what it does, an instant and a record at which it acts, changes of the record with which it does not.
CASES: dict[str, tuple[str, str, dict[str, Any], list[dict[str, Any]]]] = {
    "own-brand": (
        "boost", "2026-12-06T22:59:59Z", {"visitor.segment": "loyal", "context.source": "email"},
        [{"visitor.segment": "new"}, {"context.source": None}],
    ),
    "recalled": ("hide", "2026-12-01", {}, []),
    "new-arrival": ("pin", "2026-12-01T07:00Z", {}, []),
    "nearly-sold-out": ("bury", "2026-12-01", {}, []),
    "black-friday": ("share", "2026-11-26T23:00Z", {}, []),
    "weekend": (
        "strategy", "2026-12-01", {"now.weekday": "sunday", "now.hour": 9.0},
        [{"now.weekday": "monday"}, {"now.hour": 7.0}],
    ),
    "win-back": (
        "boost", "2026-12-01", {"visitor.churn_risk": 0.7, "visitor.orders": 2.0},
        [{"visitor.churn_risk": None}, {"visitor.orders": 1.0}],
    ),
    "full-cart": ("bury", "2026-12-01", {"context.cart_value": 100.0}, [{"context.cart_value": 99.9}]),
    "by-country": ("hide", "2026-12-01", {"context.country": "NO"}, [{"context.country": "SE"}]),
    "first-order": (
        "strategy", "2026-12-01", {"visitor.orders": 0.0, "context.device": "mobile"},
        [{"visitor.orders": 1.0}, {"context.device": "desktop"}],
    ),
}  # fmt: skip


def context(values: dict[str, Any]) -> Any:
    return make_context(make_record({tuple(name.split(".")): v for name, v in values.items() if v is not None}))


def test_every_recipe_is_tested():
    assert {file.stem for file in (DOCS / "recipes").iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_does_what_it_says(name: str):
    action, at, values, changes = CASES[name]
    file = DOCS / "recipes" / f"{name}.yml"
    book = load(file, PLACEMENTS)
    (rule,) = book.rules
    assert rule.action == action
    assert rule.schedule.holds(instant(at))
    assert check_rules(book, instant(at)) == []
    if rule.when is not None:
        assert match(rule.when, context(values)) is True
        assert [match(rule.when, context(values | change)) is True for change in changes] == [False] * len(changes)
    assert f"```yaml\n{file.read_text()}```" in (DOCS / "rules.md").read_text()


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("own-brand", ["2026-12-06T23:00:00Z"]),
        ("new-arrival", ["2026-12-01T06:59:59Z", "2026-12-14T23:00:00Z"]),
        ("black-friday", ["2026-11-26T22:59:59Z", "2026-11-27T23:00:00Z"]),
    ],
)
def test_a_recipe_ends_by_the_shops_clock(name: str, outside: list[str]):
    (rule,) = load(DOCS / "recipes" / f"{name}.yml", PLACEMENTS).rules
    assert [rule.schedule.holds(instant(at)) for at in outside] == [False] * len(outside)


def test_the_page_has_every_field():
    page = (DOCS / "rules.md").read_text()
    for field in FIELDS.values():
        row = f"| `{field.name}` | {field.kind} | {'yes' if field.always else 'no'} | {field.meaning} |"
        assert row in page, row
