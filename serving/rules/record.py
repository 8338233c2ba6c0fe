"""Records: what `when` reads of one request, as plain data for expressions."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.common.arrays import Float64Array, Int64Array
from features.common.clock import DAY
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

_LIFETIME = {name: n for n, name in enumerate(names(lifetime.COLUMNS))}
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class RecordSources:
    """What a record reads besides the request.

    `prices` returns the current prices of items at positions, NaN where none is known.
    """

    snapshot: Snapshot
    predictions: CustomerPredictions | None
    prices: Callable[[Int64Array], Float64Array]


def build_record(
    fields: Collection[FieldPath],
    sources: RecordSources,
    customer_id: str | None,
    context: Context,
    placement: str | None,
    visit: Sequence[SessionEvent],
    at: int,
    local: LocalTime,
) -> dict[str, dict[str, Any]]:
    """Build the record of a request at `at` (microseconds); parts of it that none of `fields` reads may lack.

    `visit`: the visitor's stored events since the snapshot.
    """
    record: dict[str, dict[str, Any]] = {}
    roots = {path[0] for path in fields}
    if "visitor" in roots:
        record["visitor"] = _visitor(sources, customer_id, visit, at)
    if "context" in roots:
        record["context"] = _context(fields, sources, context, placement)
    if "now" in roots:
        record["now"] = {"hour": local.hour, "weekday": local.weekday, "date": local.date}
    return record


def _visitor(sources: RecordSources, customer_id: str | None, visit: Sequence[SessionEvent], at: int) -> dict[str, Any]:
    snapshot = sources.snapshot
    customer = int(snapshot.customers.find([customer_id or ""])[0])
    orders, spend, since = _purchases(visit)
    visitor: dict[str, Any] = {
        "known": customer >= 0,
        "segment": snapshot.segment(customer),
        "value_tier": VALUE_TIERS[0],
        "rfm": {},
        "propensity": {},
    }
    if customer >= 0:
        row = snapshot.customer_features[customer].tolist()
        orders += _number(row[CUSTOMER["frequency"]])
        spend += _number(row[CUSTOMER["monetary"]])
        recency = row[CUSTOMER["recency_days"]]
        if since is None and not math.isnan(recency):
            since = recency + (at - snapshot.as_of) / DAY
        scores = {key: _number(row[CUSTOMER[f"{key}_score"]]) for key in "rfm"}
        if scores["m"] >= 1:  # 0: without orders
            visitor["rfm"] = scores
            visitor["value_tier"] = VALUE_TIERS[int(scores["m"])]
        expected = snapshot.lifetime[customer].tolist()
        _put(visitor, "lifetime_value", expected[_LIFETIME["expected_value_365d"]])
        _put(visitor, "churn_risk", expected[_LIFETIME["churn_risk_90d"]])
        if sources.predictions is not None and customer < len(sources.predictions.values):
            values = sources.predictions.values[customer].tolist()
            for days in HORIZONS_DAYS:
                _put(visitor["propensity"], f"d{days}", values[PREDICTION[f"propensity_{days}d"]])
    visitor["orders"], visitor["spend"] = orders, spend
    if since is not None:
        visitor["days_since_order"] = since
    return visitor


def _context(
    fields: Collection[FieldPath], sources: RecordSources, context: Context, placement: str | None
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "cart_items": list(context.cart_item_ids),
        "page_items": list(context.item_ids),
        "cart_value": 0.0,
    }
    texts = {
        "placement": placement,
        "category": context.category,
        "source": _lower(context.source),
        "device": _lower(context.device),
        "query": _lower(context.query),
        "country": context.country and context.country.strip().upper(),
    }
    result |= {name: text for name, text in texts.items() if text}
    if ("context", "cart_value") in fields and context.cart_item_ids:
        positions = sources.snapshot.items.find(context.cart_item_ids)
        result["cart_value"] = float(np.nansum(sources.prices(positions[positions >= 0])))
    return result


def _purchases(visit: Sequence[SessionEvent]) -> tuple[float, float, float | None]:
    """Orders, what they cost, and days since the last one; rows of one instant are one order."""
    rows = [event for event in visit if event.name == "purchase"]
    if not rows:
        return 0.0, 0.0, None
    ages = {event.age for event in rows}
    spend = sum(_number(event.price) for event in rows)  # the store reads visits without quantities
    return float(len(ages)), spend, min((age for age in ages if age is not None), default=0.0) / _DAY_S


def _lower(text: str | None) -> str | None:
    return text and text.strip().lower()


def _number(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)


def _put(target: dict[str, Any], name: str, value: float) -> None:
    if not math.isnan(value):
        target[name] = value
