"""Segment's and RudderStack's calls over HTTP, converted by the mapping of the source `segment`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.common.errors import InputError
from features.common.ids import SCIENTIFIC_HINT
from features.event_log.consent import FORGOTTEN
from features.event_log.schema import EVENT_SCHEMA, TIMESTAMP
from features.event_log.stated_answers import MAX_ENCODED_LENGTH
from features.sources import segment
from features.sources.event_store import COLUMNS, LINK_COLUMNS
from features.sources.parsing.cells import pii
from serving.event_store.protocol import AT, Link, Row, StoredEvent
from serving.events.trust import PageOrders, keep_proven
from serving.events.validate import TIME_FAULTS, ValidatedEvents, clamp_to_now, order_key_of_rows, time_fault
from serving.identity.caller import SHOP, Caller
from serving.schemas.events import MAX_EVENTS, MAX_LENGTH, MAX_QUERY_LENGTH, Rejected

_DETAIL = {
    "bad_json": "The call is no JSON object",
    "email_as_id": "An id must not contain an e-mail address; send a hash of it",
    "scientific_id": f"An id has lost digits; {SCIENTIFIC_HINT}",
    "missing_item_id": "The event needs a product_id or sku",
    "missing_quantity_or_price": "Orders and refunds need a price for each product",
    "ambiguous_price": "Send the price as a number: of 1,299 it is unknown whether it is more than a thousand",
    "no_customer_or_client": "Give userId or anonymousId",
    "bad_timestamp": "Give timestamp as an ISO 8601 time",
    "missing_question": "Preferences Given needs a question",
    "bad_text": "A text must not contain the character U+0000",
}
_TEXTS = [c for c, t in EVENT_SCHEMA.items() if t in (pl.String, pl.Categorical)]
_LENGTHS = dict.fromkeys((*_TEXTS, "previous_id", "token"), MAX_LENGTH)
_LENGTHS |= {"query": MAX_QUERY_LENGTH, "answer": MAX_ENCODED_LENGTH}
_DETAIL |= {f"bad_{column}": f"This text may have up to {length} characters" for column, length in _LENGTHS.items()}
_IGNORED = "not_a_shop_event"
_TOKEN = "visitor_token"  # noqa: S105 the name of a field
_REFUSED = {AT[column] for column in FORGOTTEN}


class SegmentCall(BaseModel):
    """A `track`, `identify`, `page`, … call of the Ecommerce Spec v2 or v1, or some of them as `batch`."""

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


class ParsedCalls:
    """Calls as events to be stored, with the links between clients and customers that follow from them.

    `repeated` counts calls whose id came before in the same batch, `ignored` those that are no shop's events. Of a
    page, kept is what `caller` has proven, or the token in the `context` of a call.
    """

    def __init__(
        self,
        calls: Sequence[dict[str, Any]],
        now: int,
        pointer: str,
        caller: Caller = SHOP,
        page_orders: PageOrders = "claims",
    ) -> None:
        calls, callers = _take_tokens(calls, caller)
        calls = [_without_bad_id(call) for call in calls]
        # An address links whom it occurs with, which a page can make up.
        calls = _without_unhashable(calls) if caller.secret else [_without_email(call) for call in calls]
        parsed, ids = segment.parse_calls([json.dumps(call) for call in calls], "http")
        self._pointer, self.validated = pointer, ValidatedEvents()
        self._rejected = set[int]()
        merged = set[tuple[str | None, str | None]]()  # previous id and customer, of which a link needs both proven
        for n, call_ids in enumerate(ids.select("client_id", "customer_id", "previous_id").iter_rows(named=True)):
            if fault := _text_fault(call_ids):
                self._reject(n, fault)
            if call_ids["previous_id"] is not None and not caller.secret:
                proven = callers.get(n, caller).resolve(call_ids["customer_id"], call_ids["previous_id"])
                merged.add((proven.client_id, proven.customer_id))
        links = _links(parsed.links)
        if not caller.secret:
            links = [k for k in links if k.kind == "merge" and (k.client_id, k.customer_id) in merged]
        self.links = [link for link in links if not _text_fault(link._asdict())]
        reasons = parsed.rejected.select("row", "reason").unique(maintain_order=True).rows()
        reasons = [(n, reason) for n, reason in reasons if n not in self._rejected]
        self.ignored = sum(reason == _IGNORED for _, reason in reasons)
        for n, reason in reasons:
            if reason != _IGNORED:
                self._reject(n, reason)
        keys = ids["event_id"].to_list()
        valid = sorted(set(range(len(keys))) - self._rejected - {n for n, _ in reasons})
        index = {keys[n]: n for n in reversed(valid)}
        self.repeated = len(valid) - len(index)
        # A call that is wrong in some of its products keeps the others.
        self._add_events(parsed.events, {key: n for n, key in enumerate(keys)} | index, now)
        self.validated = keep_proven(self.validated, caller, page_orders, f"{pointer}/userId", callers)

    def _add_events(self, events: pl.DataFrame, index: Mapping[str, int], now: int) -> None:
        # By our clock, which retention goes by; not by Segment's.
        texts = [c for c, t in events.schema.items() if t == pl.Categorical]
        plain = events.with_columns(
            pl.col(texts).cast(pl.String), pl.col("timestamp").dt.timestamp("us"), received_at=pl.lit(now)
        )
        rows_by_event: dict[str, dict[object, Row]] = {}
        for row in plain.select(COLUMNS).iter_rows():
            rows_by_event.setdefault(str(row[AT["event_id"]]), {}).setdefault(row[AT["item_id"]], row)
        valid: list[tuple[int, str, list[Row]]] = []
        at = AT["timestamp"]
        for key, rows_by_item in rows_by_event.items():
            rows = list(rows_by_item.values())
            t = int(rows[0][at] or 0)
            faults = (_text_fault({column: row[AT[column]] for column in _TEXTS}) for row in rows)
            if fault := next(filter(None, faults), None) or time_fault(t, now):
                if index[key] not in self._rejected:
                    self._reject(index[key], fault)
            else:
                valid.append((t, key, rows))
        for (_, key, rows), t in zip(valid, clamp_to_now([t for t, _, _ in valid], now), strict=True):
            clamped = tuple((*row[:at], t, *row[at + 1 :]) for row in rows)
            order_key = order_key_of_rows(clamped)
            self.validated.events.append(StoredEvent(tuple(map(_without_refused_ids, clamped)), order_key))
            self.validated.indexes.append(index[key])

    def _reject(self, index: int, reason: str) -> None:
        detail = _DETAIL.get(reason) or TIME_FAULTS.get(reason) or "The call breaks this rule of the event log"
        rejected = Rejected(index=index, pointer=self._pointer.format(index), code=reason, detail=detail)
        self.validated.rejected.append(rejected)
        self._rejected.add(index)


def _text_fault(texts: Mapping[str, object]) -> str | None:
    """Why one of these columns of the log or its links cannot be stored, as in `POST /v1/events`; None: all can."""
    for column, text in texts.items():
        if isinstance(text, str) and "\0" in text:
            return "bad_text"
        if isinstance(text, str) and len(text) > _LENGTHS.get(column, MAX_LENGTH):
            return f"bad_{column}"
    return None


def _without_refused_ids(row: Row) -> Row:
    """Drop the ids of who refused consent, as in `POST /v1/events`."""
    if row[AT["consent"]] is not False:
        return row
    return tuple(None if n in _REFUSED else value for n, value in enumerate(row))


def _take_tokens(calls: Sequence[dict[str, Any]], caller: Caller) -> tuple[list[dict[str, Any]], dict[int, Caller]]:
    """Take the visitor tokens out of `calls`; returns these without, and the callers of those that had one."""
    without, callers = list(calls), dict[int, Caller]()
    for n, call in enumerate(calls):
        context = call.get("context")
        if isinstance(context, dict) and _TOKEN in context:
            without[n] = call | {"context": {key: value for key, value in context.items() if key != _TOKEN}}
            if not caller.secret:
                callers[n] = caller.with_token(context[_TOKEN])
    return without, callers


def _without_bad_id(call: dict[str, Any]) -> dict[str, Any]:
    """Drop a messageId that is no text: as a call without one, it is identified by its content."""
    return call if isinstance(call.get("messageId"), str) else {k: v for k, v in call.items() if k != "messageId"}


def _without_unhashable(calls: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Drop e-mail addresses where there is no salt to hash them with: they are no reason to lose the events."""
    try:
        pii.load_salt("")
    except InputError:
        return [_without_email(call) for call in calls]
    return calls


def _without_email(call: dict[str, Any]) -> dict[str, Any]:
    def without(value: object) -> object:
        return {k: v for k, v in value.items() if k != "email"} if isinstance(value, dict) else value

    context = call.get("context")
    if isinstance(context, dict):
        call = call | {"context": context | {"traits": without(context.get("traits"))}}
    return call | {key: without(call[key]) for key in ("traits", "properties") if key in call}


def _links(links: pl.DataFrame) -> list[Link]:
    times = links.with_columns(pl.col(c).dt.timestamp("us") for c, t in links.schema.items() if t == TIMESTAMP)
    texts = times.with_columns(pl.col(c).fill_null("") for c, t in times.schema.items() if t == pl.String)
    return [Link._make(row) for row in texts.select(LINK_COLUMNS).iter_rows()]
