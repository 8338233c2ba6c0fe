"""Fields: what the `when` of a rule may read of the visitor, the request and the time.

Numbers are decimals. A field that is not always there is absent where it is not known: `has(visitor.churn_risk)` asks.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from features.ranking.snapshot import SEGMENT_NAMES
from features.segments.build import VALUE_TIERS
from features.tables.rfm import PROSPECT, WINDOW_DAYS
from models.customers.propensity import HORIZONS_DAYS
from serving.rules.schedule import WEEKDAYS

Kind = Literal["text", "number", "bool", "list"]
FieldPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleField:
    """`always`: whether every record has it. `values`: all that a text may be, where that is known."""

    path: FieldPath
    kind: Kind
    always: bool
    meaning: str
    values: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it is written in expressions."""
        return ".".join(self.path)


def _field(name: str, kind: Kind, always: bool, meaning: str, values: tuple[str, ...] = ()) -> RuleField:
    return RuleField(tuple(name.split(".")), kind, always, meaning, values)


_SCORE = "score, 1-5"
_ALL = (
    _field("visitor.known", "bool", True, "whether the visitor is a customer whom the snapshot knows"),
    _field("visitor.segment", "text", True, f"RFM segment; {PROSPECT} without orders", SEGMENT_NAMES),
    _field("visitor.value_tier", "text", True, "by rfm.m; none without orders", VALUE_TIERS),
    _field("visitor.rfm.r", "number", False, f"recency {_SCORE}"),
    _field("visitor.rfm.f", "number", False, f"frequency {_SCORE}"),
    _field("visitor.rfm.m", "number", False, f"monetary {_SCORE}"),
    _field("visitor.orders", "number", True, f"orders in {WINDOW_DAYS} days, those since the snapshot counted"),
    _field(
        "visitor.spend",
        "number",
        True,
        f"spent in {WINDOW_DAYS} days, net of refunds; since the snapshot one of each product",
    ),
    _field("visitor.days_since_order", "number", False, "days since the last order"),
    _field("visitor.lifetime_value", "number", False, "expected to be spent in the next 365 days"),
    _field("visitor.churn_risk", "number", False, "0-1: no order in the next 90 days"),
    *(
        _field(f"visitor.propensity.d{d}", "number", False, f"0-1: an order in the next {d} days")
        for d in HORIZONS_DAYS
    ),
    _field("context.placement", "text", False, "the placement that is filled"),
    _field("context.source", "text", False, "where the visit comes from, as the request says it, in lower case"),
    _field("context.device", "text", False, "in lower case"),
    _field("context.country", "text", False, "in upper case"),
    _field("context.query", "text", False, "the search, in lower case"),
    _field("context.category", "text", False, "the category whose page is shown, as a path in the catalog"),
    _field("context.cart_items", "list", True, "ids of the products in the cart"),
    _field("context.cart_value", "number", True, "sum of their prices, where known; quantities are not"),
    _field("context.page_items", "list", True, "ids of the products looked at"),
    _field("now.hour", "number", True, "0-23 by the shop's clock"),
    _field("now.weekday", "text", True, "by the shop's calendar", WEEKDAYS),
    _field("now.date", "text", True, "YYYY-MM-DD by the shop's calendar; < and > compare dates"),
)
FIELDS: dict[FieldPath, RuleField] = {field.path: field for field in _ALL}
ROOTS = tuple(dict.fromkeys(path[0] for path in FIELDS))
LOWER = ("context.source", "context.device", "context.query")

# Known of customers in other tables, and in no snapshot yet.
_ELSEWHERE = ("lifecycle", "cluster", "first_source", "latest_source", "preferences")


def find_field(path: FieldPath) -> RuleField | str:
    """Return the field at `path`, or why there is none."""
    if path in FIELDS:
        return FIELDS[path]
    name = ".".join(path)
    below = [f.name for f in FIELDS.values() if f.path[: len(path)] == path]
    if below:
        return f"{name} has parts; write one of {', '.join(below)}"
    if path[0] == "visitor" and len(path) > 1 and path[1] in _ELSEWHERE:
        return f"{name} is not known while requests are answered"
    near = get_close_matches(name, [f.name for f in FIELDS.values()], 1, 0.7)
    return f"there is no {name}" + (f"; did you mean {near[0]}?" if near else f"; see {path[0]}.* in docs/rules.md")
