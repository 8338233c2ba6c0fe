"""Segment's and RudderStack's calls over HTTP: the mapping is that of the source `segment`."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.errors import InputError
from features.events import TIMESTAMP
from features.sources import segment, tokens
from features.sources.store import COLUMNS, LINK_COLUMNS
from serving.event_messages import MAX_EVENTS, Rejected
from serving.event_store.base import AT, Event, Link, Row
from serving.received import WHEN, Checked, clamped, order_of, outside

_DETAIL = {
    "bad_json": "The call is no JSON object",
    "email_as_id": "An id must not contain an e-mail address; send a hash of it",
    "missing_item_id": "The event needs a product_id or sku",
    "missing_quantity_or_price": "Orders and refunds need a price for each product",
    "no_customer_or_client": "Give userId or anonymousId",
    "bad_timestamp": "Give timestamp as an ISO 8601 time",
}
_IGNORED = "not_a_shop_event"


class SegmentCall(BaseModel):
    """A `track`, `identify`, `page`, … call of the Ecommerce Spec v2, or some of them as `batch`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "track",
                    "event": "Product Viewed",
                    "messageId": "ajs-1",
                    "anonymousId": "507f191e",
                    "timestamp": "2026-11-21T10:00:00.123Z",
                    "properties": {"product_id": "p1", "price": 29.95, "currency": "EUR"},
                }
            ]
        },
    )

    type: str | None = None
    batch: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=MAX_EVENTS)


class Calls:
    """Calls as events to be stored, with what they say of who is who."""

    def __init__(self, calls: Sequence[object], now: int, where: str) -> None:
        written = [_with_id(call) for call in calls]
        ids = [str(call["messageId"]).strip() for call in written]
        parsed = segment.calls([json.dumps(call) for call in _without_secrets(written)], "http")
        self.links = _links(parsed.links)
        index = {key: n for n, key in reversed(list(enumerate(ids)))}
        self.repeated = len(ids) - len(index)
        self.checked = Checked()
        reasons = parsed.rejected.select("row", "reason").unique(maintain_order=True).rows()
        self.ignored = sum(reason == _IGNORED for _, reason in reasons)
        for n, reason in reasons:
            if reason != _IGNORED:
                self._reject(n, reason, where)
        self._keep(parsed.events, index, now, where)

    def _keep(self, events: pl.DataFrame, index: dict[str, int], now: int, where: str) -> None:
        # Our clock says when it came; what Segment's said is not what retention goes by.
        texts = [c for c, t in events.schema.items() if t == pl.Categorical]
        plain = events.with_columns(
            pl.col(texts).cast(pl.String), pl.col("timestamp").dt.timestamp("us"), received_at=pl.lit(now)
        )
        found: dict[str, dict[object, Row]] = {}
        for row in plain.select(COLUMNS).iter_rows():
            found.setdefault(str(row[AT["event_id"]]), {}).setdefault(row[AT["item_id"]], row)
        taken: list[tuple[int, int, list[Row]]] = []
        at = AT["timestamp"]
        for key, of_items in found.items():
            rows = list(of_items.values())
            t = int(rows[0][at] or 0)
            if fault := outside(t, now):
                self._reject(index[key], fault, where)
            else:
                taken.append((index[key], t, rows))
        for (n, _, rows), t in zip(taken, clamped([t for _, t, _ in taken], now), strict=True):
            kept = tuple((*row[:at], t, *row[at + 1 :]) for row in rows)
            self.checked.events.append(Event(kept, order_of(kept)))
            self.checked.index.append(n)

    def _reject(self, index: int, reason: str, where: str) -> None:
        detail = _DETAIL.get(reason) or WHEN.get(reason) or "The call breaks this rule of the event log"
        rejected = Rejected(index=index, pointer=where.format(index), code=reason, detail=detail)
        self.checked.rejected.append(rejected)


def _with_id(call: object) -> dict[str, Any]:
    """A call that has no messageId is known by what it says, also when it is sent again."""
    fields: dict[str, Any] = dict(call) if isinstance(call, dict) else {}
    if not str(fields.get("messageId") or "").strip():
        said = json.dumps({k: v for k, v in fields.items() if k not in ("sentAt", "receivedAt")}, sort_keys=True)
        fields["messageId"] = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
    return fields


def _without_secrets(calls: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Without a salt to hash them with, e-mail addresses tie nobody; they are no reason to lose the events."""
    try:
        tokens.salt("")
    except InputError:
        return [_without_email(call) for call in calls]
    return calls


def _without_email(call: dict[str, Any]) -> dict[str, Any]:
    def less(value: object) -> object:
        return {k: v for k, v in value.items() if k != "email"} if isinstance(value, dict) else value

    context = call.get("context")
    if isinstance(context, dict):
        call = call | {"context": context | {"traits": less(context.get("traits"))}}
    return call | {key: less(call[key]) for key in ("traits", "properties") if key in call}


def _links(links: pl.DataFrame) -> list[Link]:
    times = links.with_columns(pl.col(c).dt.timestamp("us") for c, t in links.schema.items() if t == TIMESTAMP)
    texts = times.with_columns(pl.col(c).fill_null("") for c, t in times.schema.items() if t == pl.String)
    return [Link._make(row) for row in texts.select(LINK_COLUMNS).iter_rows()]
