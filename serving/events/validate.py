"""Validation of `POST /v1/events`: events as rows of the event store, rejected by the rules of the event log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from features.common.clock import DAY, micros
from features.event_log import stated_answers
from features.event_log.schema import EVENT_SCHEMA, ITEM_EVENTS
from features.event_log.stated_answers import PREFERENCES
from features.sources.ga4 import NAMES
from features.sources.parsing.cells.pii import redact_text
from serving.event_store import StoredEvent
from serving.event_store.protocol import Row, Value
from serving.schemas.events import EventItem, ReceivedEvent, Rejected
from serving.schemas.problems import pointer_to

MAX_AGE_DAYS = 30
MAX_AHEAD = timedelta(minutes=10)
_MAX_AHEAD_US = MAX_AHEAD // timedelta(microseconds=1)
_MAX_AMOUNT = 1e15  # a larger one would not fit the sums it goes into
_EMPTY_ROW = dict.fromkeys(EVENT_SCHEMA)

TIME_FAULTS = {
    "too_old": f"Events may come up to {MAX_AGE_DAYS} days late",
    "too_far_ahead": "The clock that stamped this event is more than 10 minutes ahead",
}


@dataclass
class ValidatedEvents:
    """Events to be stored, and those that are rejected.

    `indexes`: where in the body each of `events` was. `unproven`: positions in `events` of those that lost an id which
    their sender has not proven.
    """

    events: list[StoredEvent] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    unproven: set[int] = field(default_factory=set)


class _InvalidEvent(Exception):
    def __init__(self, code: str, detail: str, *location: str | int) -> None:
        super().__init__(code)
        self.code, self.detail, self.location = code, detail, location


def validate_events(bodies: Sequence[object], now: int, pointer: str = "/events/{}") -> ValidatedEvents:
    """Validate events received at `now` (microseconds).

    `pointer` is the JSON pointer of an event in the body, with a place for its index.
    """
    result = ValidatedEvents()
    valid: list[ReceivedEvent] = []
    for index, value in enumerate(bodies):
        try:
            event = ReceivedEvent.model_validate(value)
            _check_event(event)
            if event.timestamp is not None and (fault := time_fault(micros(event.timestamp), now)):
                raise _InvalidEvent(fault, TIME_FAULTS[fault], "timestamp")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            invalid = _InvalidEvent(_code(first), _detail(first), *first["loc"])
        except _InvalidEvent as error:
            invalid = error
        else:
            valid.append(event)
            result.indexes.append(index)
            continue
        place = pointer.format(index) + pointer_to(invalid.location)
        result.rejected.append(Rejected(index=index, pointer=place, code=invalid.code, detail=invalid.detail))
    times = clamp_to_now([micros(e.timestamp) if e.timestamp else now for e in valid], now)
    result.events += [_stored_event(event, t, now) for event, t in zip(valid, times, strict=True)]
    return result


def time_fault(t: int, now: int) -> str | None:
    """Why an event that happened at `t` is rejected at `now`: a key of `TIME_FAULTS`, or None."""
    if t < now - MAX_AGE_DAYS * DAY:
        return "too_old"
    return "too_far_ahead" if t > now + _MAX_AHEAD_US else None


def clamp_to_now(times: Sequence[int], now: int) -> list[int]:
    """Move times after `now` to it and before; these keep their order, a microsecond apart."""
    ahead = sorted(range(len(times)), key=lambda n: times[n], reverse=True)
    clamped = list(times)
    for back, n in enumerate(n for n in ahead if times[n] > now):
        clamped[n] = now - back
    return clamped


def _check_event(event: ReceivedEvent) -> None:
    if not event.customer_id and not event.client_id:
        raise _InvalidEvent("no_customer_or_client", "Give customer_id or client_id, not empty")
    name, items = NAMES.get(event.name, event.name), event.params.items
    if name in ITEM_EVENTS and not items:
        raise _InvalidEvent("missing_item_id", f"A {name} needs items", "params", "items")
    if name == PREFERENCES and not event.params.question:
        raise _InvalidEvent("missing_question", "A preferences needs the question", "params", "question")
    for n, item in enumerate(items):
        if name in ("purchase", "refund") and item.price is None:
            raise _InvalidEvent("missing_quantity_or_price", f"A {name} needs a price", "params", "items", n, "price")
    for line in _merge_lines(items):
        if (line.price or 0) * (line.quantity or 1) > _MAX_AMOUNT:
            raise _InvalidEvent("absurd_amount", "Price × quantity is beyond belief", "params", "items")


def _stored_event(event: ReceivedEvent, t: int, now: int) -> StoredEvent:
    params = event.params
    # Who refused consent is counted, and not known: no id of theirs is kept.
    known = event.consent is not False
    shared: dict[str, Value] = _EMPTY_ROW | {
        "event_id": event.event_id,
        "name": NAMES.get(event.name, event.name),
        "timestamp": t,
        "received_at": now,
        "customer_id": (known and event.customer_id) or None,
        "client_id": (known and event.client_id) or None,
        "session_id": (known and event.session_id) or None,
        "currency": params.currency or None,
        "order_id": (known and params.transaction_id) or None,
        "query": _redacted(params.search_term),
        "list_id": params.item_list_id or None,
        "recommendation_id": event.recommendation_id or None,
        "source": event.source or None,
        "device": event.device or None,
        "country": event.country or None,
        "consent": event.consent,
    }
    if shared["name"] == PREFERENCES:
        if known:
            shared |= {"question": _redacted(params.question), "answer": _redacted(_encode_answer(params.answer))}
        shared["list_id"] = params.source or shared["list_id"]
        return StoredEvent((tuple(shared.values()),))
    lines = _merge_lines(params.items)
    rows = tuple(tuple(row.values()) for row in (shared | _item_columns(item, shared) for item in lines)) or (
        tuple(shared.values()),
    )
    return StoredEvent(rows, _order_key(str(shared["name"]), params.transaction_id or None, lines))


def _encode_answer(answer: list[str | float] | str | float | None) -> str | None:
    return None if answer is None else stated_answers.encode(answer if isinstance(answer, list) else [answer])


def _redacted(text: str | None) -> str | None:
    # People type addresses into the search box.
    return redact_text(text) if text and ("@" in text or "%40" in text) else text or None


def _item_columns(item: EventItem, shared: dict[str, Value]) -> dict[str, Value]:
    return {
        "item_id": item.item_id,
        "quantity": 1.0 if item.quantity is None else item.quantity,
        "price": item.price,
        "currency": item.currency or shared["currency"],
        "list_id": item.item_list_id or shared["list_id"],
        "position": item.index,
    }


def _merge_lines(items: Sequence[EventItem]) -> list[EventItem]:
    """Merge lines of one item: quantities added, the price their mean, as the sources of the event log do."""
    if len(items) < 2:
        return list(items)
    lines: dict[str, list[EventItem]] = {}
    for item in items:
        lines.setdefault(item.item_id, []).append(item)
    return [_merge_same(same) if len(same) > 1 else same[0] for same in lines.values()]


def _merge_same(same: list[EventItem]) -> EventItem:
    quantities = [1.0 if item.quantity is None else item.quantity for item in same]
    priced = [(item.price, n) for item, n in zip(same, quantities, strict=True) if item.price is not None]
    price = same[0].price
    if len({p for p, _ in priced}) > 1:
        price = sum(p * n for p, n in priced) / sum(n for _, n in priced)
    return same[0].model_copy(update={"quantity": sum(quantities), "price": price})


def _order_key(name: str, order_id: str | None, lines: Sequence[EventItem]) -> str | None:
    if order_id is None or name not in ("purchase", "refund"):
        return None
    return order_key(name, order_id, [(item.item_id, item.quantity) for item in lines])


def order_key(name: str, order_id: str, lines: Sequence[tuple[str, float | None]]) -> str:
    """Build what identifies a purchase or refund; an order may be refunded item by item."""
    if name == "purchase":
        return f"purchase/{order_id}"
    return f"refund/{order_id}/{sorted((item, float(n or 1)) for item, n in lines)}"


def order_key_of_rows(rows: Sequence[Row]) -> str | None:
    """`order_key` of an event in rows of the event log; None where it is neither purchase nor refund."""
    row = dict(zip(EVENT_SCHEMA, rows[0], strict=True))
    if row["order_id"] is None or row["name"] not in ("purchase", "refund"):
        return None
    item, quantity = (list(EVENT_SCHEMA).index(c) for c in ("item_id", "quantity"))
    return order_key(str(row["name"]), str(row["order_id"]), [(str(r[item]), r[quantity]) for r in rows])  # type: ignore[misc]


_OWN_CODES = ("email_as_id", "scientific_id", "bad_text")


def _code(error: ErrorDetails) -> str:
    if error["type"] in _OWN_CODES:
        return error["type"]
    if error["type"] == "extra_forbidden":
        return "unknown_field"
    field = next((step for step in reversed(error["loc"]) if isinstance(step, str)), "event")
    return f"missing_{field}" if error["type"] == "missing" else f"bad_{field}"


def _detail(error: ErrorDetails) -> str:
    return "This field is not supported" if error["type"] == "extra_forbidden" else error["msg"]
