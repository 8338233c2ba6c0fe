"""Segment's and RudderStack's calls over HTTP: the mapping is that of the source `segment`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.common.errors import InputError
from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP
from features.sources import segment
from features.sources.event_store import COLUMNS, LINK_COLUMNS
from features.sources.parsing import pii
from serving.event_store.protocol import AT, Event, Link, Row
from serving.events.validate import WHEN, Checked, clamped, order_of, outside
from serving.schemas.events import LENGTH, MAX_EVENTS, QUERY_LENGTH, Rejected

_DETAIL = {
    "bad_json": "The call is no JSON object",
    "email_as_id": "An id must not contain an e-mail address; send a hash of it",
    "missing_item_id": "The event needs a product_id or sku",
    "missing_quantity_or_price": "Orders and refunds need a price for each product",
    "no_customer_or_client": "Give userId or anonymousId",
    "bad_timestamp": "Give timestamp as an ISO 8601 time",
    "bad_text": "A text must not contain the character U+0000",
}
_TEXTS = [c for c, t in EVENT_SCHEMA.items() if t in (pl.String, pl.Categorical)]
_LENGTHS = {c: QUERY_LENGTH if c == "query" else LENGTH for c in (*_TEXTS, "previous_id", "token")}
_DETAIL |= {f"bad_{column}": f"This text may have up to {length} characters" for column, length in _LENGTHS.items()}
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

    def __init__(self, calls: Sequence[dict[str, Any]], now: int, where: str) -> None:
        written = [json.dumps(call) for call in _without_secrets([_without_number(call) for call in calls])]
        parsed, ids = segment.calls(written, "http")
        self._where, self.checked = where, Checked()
        self._wrong = set[int]()
        for n, who in enumerate(ids.select("client_id", "customer_id", "previous_id").iter_rows(named=True)):
            if fault := _unkeepable(who):
                self._reject(n, fault)
        self.links = [link for link in _links(parsed.links) if not _unkeepable(link._asdict())]
        reasons = parsed.rejected.select("row", "reason").unique(maintain_order=True).rows()
        reasons = [(n, reason) for n, reason in reasons if n not in self._wrong]
        self.ignored = sum(reason == _IGNORED for _, reason in reasons)
        for n, reason in reasons:
            if reason != _IGNORED:
                self._reject(n, reason)
        keys = ids["event_id"].to_list()
        whole = sorted(set(range(len(keys))) - self._wrong - {n for n, _ in reasons})
        index = {keys[n]: n for n in reversed(whole)}
        self.repeated = len(whole) - len(index)
        # A call that is wrong in part, in some of its products, is kept in part.
        self._keep(parsed.events, {key: n for n, key in enumerate(keys)} | index, now)

    def _keep(self, events: pl.DataFrame, index: Mapping[str, int], now: int) -> None:
        # Our clock says when it came; what Segment's said is not what retention goes by.
        texts = [c for c, t in events.schema.items() if t == pl.Categorical]
        plain = events.with_columns(
            pl.col(texts).cast(pl.String), pl.col("timestamp").dt.timestamp("us"), received_at=pl.lit(now)
        )
        found: dict[str, dict[object, Row]] = {}
        for row in plain.select(COLUMNS).iter_rows():
            found.setdefault(str(row[AT["event_id"]]), {}).setdefault(row[AT["item_id"]], row)
        taken: list[tuple[int, list[Row]]] = []
        at = AT["timestamp"]
        for key, of_items in found.items():
            rows = list(of_items.values())
            t = int(rows[0][at] or 0)
            faults = (_unkeepable({column: row[AT[column]] for column in _TEXTS}) for row in rows)
            if fault := next(filter(None, faults), None) or outside(t, now):
                if index[key] not in self._wrong:
                    self._reject(index[key], fault)
            else:
                taken.append((t, rows))
        for (_, rows), t in zip(taken, clamped([t for t, _ in taken], now), strict=True):
            kept = tuple((*row[:at], t, *row[at + 1 :]) for row in rows)
            self.checked.events.append(Event(kept, order_of(kept)))

    def _reject(self, index: int, reason: str) -> None:
        detail = _DETAIL.get(reason) or WHEN.get(reason) or "The call breaks this rule of the event log"
        rejected = Rejected(index=index, pointer=self._where.format(index), code=reason, detail=detail)
        self.checked.rejected.append(rejected)
        self._wrong.add(index)


def _unkeepable(texts: Mapping[str, object]) -> str | None:
    """Why one of these columns of the log or its links cannot be kept: what `POST /v1/events` refuses too."""
    for column, text in texts.items():
        if isinstance(text, str) and "\0" in text:
            return "bad_text"
        if isinstance(text, str) and len(text) > _LENGTHS.get(column, LENGTH):
            return f"bad_{column}"
    return None


def _without_number(call: dict[str, Any]) -> dict[str, Any]:
    """Without a messageId that is no text: as one that has none, the call is known by what it says."""
    return call if isinstance(call.get("messageId"), str) else {k: v for k, v in call.items() if k != "messageId"}


def _without_secrets(calls: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Without a salt to hash them with, e-mail addresses tie nobody; they are no reason to lose the events."""
    try:
        pii.salt("")
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
