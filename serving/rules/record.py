"""Records: what `when` reads of one request, as plain data for expressions."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from features.common.arrays import Float32Array, Float64Array, Int64Array
from features.common.clock import DAY, SECOND
from features.ranking.snapshot import CUSTOMER, Snapshot
from features.segments.build import VALUE_TIERS
from features.tables import lifetime
from features.tables.columns import names
from models.customers.predictions import COLUMN as PREDICTION
from models.customers.predictions import CustomerPredictions
from models.customers.propensity import HORIZONS_DAYS
from models.interface import SessionEvent
from serving.rules.fields import FieldPath
from serving.rules.schedule import LocalTime
from serving.schemas.recommendations import Context

_LIFETIME = names(lifetime.COLUMNS)
_EXPECTED = {
    "lifetime_value": _LIFETIME.index("expected_value_365d"),
    "churn_risk": _LIFETIME.index("churn_risk_90d"),
}
_OF_ORDERS = frozenset(("orders", "spend", "days_since_order"))
_DAY_S = 86_400
_MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class RecordSources:
    """What a record reads besides the request.

    `prices` returns the current prices of items at positions, NaN where none is known.
    """

    snapshot: Snapshot
    predictions: CustomerPredictions | None
    prices: Callable[[Int64Array], Float64Array]


def build_record(
    fields: frozenset[FieldPath],
    sources: RecordSources,
    customer: int,
    context: Context,
    placement: str | None,
    visit: Sequence[SessionEvent],
    at: int,
    zone: ZoneInfo,
) -> dict[str, dict[str, Any]]:
    """Build the record of a request at `at` (microseconds): those of `fields` that are known.

    `customer`: position in the snapshot, -1 for somebody it does not know. `visit`: the visitor's stored events since
    the snapshot. Every value costs CEL a microsecond or two to take over, so no others are there.
    """
    field_names = _names(fields)
    record: dict[str, dict[str, Any]] = {}
    if "visitor" in field_names:
        record["visitor"] = _visitor(field_names["visitor"], sources, customer, visit, at)
    if "context" in field_names:
        record["context"] = _context(field_names["context"], sources, context, placement)
    if "now" in field_names:
        local = _local_time(at // _MINUTE, zone)
        values = {"hour": local.hour, "weekday": local.weekday, "date": local.date}
        record["now"] = {name: values[name] for name in field_names["now"]}
    return record


@lru_cache(16)
def _local_time(minute: int, zone: ZoneInfo) -> LocalTime:
    return LocalTime.at(minute * _MINUTE, zone)  # no clock changes within a minute


@lru_cache(16)
def _names(fields: frozenset[FieldPath]) -> dict[str, frozenset[str]]:
    """The names below each root that fields begin with."""
    return {root: frozenset(p[1] for p in fields if p[0] == root) for root in {path[0] for path in fields}}


def _visitor(
    field_names: Collection[str], sources: RecordSources, customer: int, visit: Sequence[SessionEvent], at: int
) -> dict[str, Any]:
    snapshot = sources.snapshot
    visitor: dict[str, Any] = {}
    if "known" in field_names:
        visitor["known"] = customer >= 0
    if "segment" in field_names:
        visitor["segment"] = snapshot.segment(customer)
    features = snapshot.customer_features[customer] if customer >= 0 else None
    if not _OF_ORDERS.isdisjoint(field_names):
        _put_orders(visitor, field_names, features, visit, (at - snapshot.as_of) / DAY)
    if "rfm" in field_names or "value_tier" in field_names:
        scores = {} if features is None else {key: float(features[CUSTOMER[f"{key}_score"]]) for key in "rfm"}
        if not scores.get("m", 0) >= 1:  # 0: without orders
            scores = {}
        if "rfm" in field_names:
            visitor["rfm"] = scores
        if "value_tier" in field_names:
            visitor["value_tier"] = VALUE_TIERS[int(scores.get("m", 0))]
    for name, column in _EXPECTED.items():
        if name in field_names and customer >= 0:
            _put(visitor, name, float(snapshot.lifetime[customer, column]))
    if "propensity" in field_names:
        propensity: dict[str, float] = {}
        visitor["propensity"] = propensity
        predictions = sources.predictions
        if customer >= 0 and predictions is not None and customer < len(predictions.values):
            for days in HORIZONS_DAYS:
                _put(propensity, f"d{days}", float(predictions.values[customer, PREDICTION[f"propensity_{days}d"]]))
    return visitor


def _put_orders(
    visitor: dict[str, Any],
    field_names: Collection[str],
    features: Float32Array | None,
    visit: Sequence[SessionEvent],
    days: float,
) -> None:
    """Put what was ordered before the snapshot, `days` ago, and since then."""
    orders, spend, since = _purchases(visit)
    if features is not None:
        orders += _number(features[CUSTOMER["frequency"]])
        spend += _number(features[CUSTOMER["monetary"]])
        recency = float(features[CUSTOMER["recency_days"]])
        if since is None and not math.isnan(recency):
            since = recency + days
    values = {"orders": orders, "spend": spend, "days_since_order": since}
    visitor.update({name: value for name, value in values.items() if name in field_names and value is not None})


def _context(
    field_names: Collection[str], sources: RecordSources, context: Context, placement: str | None
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if "cart_items" in field_names:
        result["cart_items"] = context.cart_item_ids
    if "page_items" in field_names:
        result["page_items"] = context.item_ids
    if "cart_value" in field_names:
        result["cart_value"] = 0.0
        if context.cart_item_ids:
            positions = sources.snapshot.items.find(context.cart_item_ids)
            result["cart_value"] = float(np.nansum(sources.prices(positions[positions >= 0])))
    if placement and "placement" in field_names:
        result["placement"] = placement
    if context.category and "category" in field_names:
        result["category"] = context.category
    for name, text in (("source", context.source), ("device", context.device), ("query", context.query)):
        if text and name in field_names:
            result[name] = text.strip().lower()
    if context.country and "country" in field_names:
        result["country"] = context.country.strip().upper()
    return result


def _purchases(visit: Sequence[SessionEvent]) -> tuple[float, float, float | None]:
    """Orders, what they cost, and days since the last one; rows of one instant are one order."""
    rows = [event for event in visit if event.name == "purchase"]
    if not rows:
        return 0.0, 0.0, None
    ages = {event.age for event in rows}
    spend = sum(_number(event.price) for event in rows)  # the store reads visits without quantities
    return float(len(ages)), spend, min((age for age in ages if age is not None), default=0.0) / _DAY_S


def _number(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)


def _put(target: dict[str, Any], name: str, value: float) -> None:
    if not math.isnan(value):
        target[name] = value
