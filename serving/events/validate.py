"""Received events as rows of the event log. What breaks a rule of the log is rejected by the same name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from features.common.clock import DAY, micros
from features.event_log.schema import EVENT_SCHEMA, ITEM_EVENTS
from features.sources.ga4 import NAMES
from features.sources.parsing.pii import redacted
from serving.event_store import Event
from serving.event_store.protocol import Row, Value
from serving.schemas.events import Item, ReceivedEvent, Rejected
from serving.schemas.problems import pointer_to

LATEST_DAYS = 30
AHEAD = timedelta(minutes=10)
_AHEAD_US = AHEAD // timedelta(microseconds=1)
_ABSURD = 1e15  # an amount beyond this would not fit the sums it goes into
_NONE = dict.fromkeys(EVENT_SCHEMA)

WHEN = {
    "too_old": f"Events may come up to {LATEST_DAYS} days late",
    "too_far_ahead": "The clock that stamped this event is more than 10 minutes ahead",
}


@dataclass
class Checked:
    """Events to be stored, and those that are not."""

    events: list[Event] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


class _Refused(Exception):
    def __init__(self, code: str, detail: str, *place: str | int) -> None:
        super().__init__(code)
        self.code, self.detail, self.place = code, detail, place


def check(raw: Sequence[object], now: int, where: str = "/events/{}") -> Checked:
    """`raw` as events received at `now` (microseconds); `where` is the JSON pointer of an event in the body."""
    checked = Checked()
    asked: list[ReceivedEvent] = []
    for index, value in enumerate(raw):
        try:
            event = ReceivedEvent.model_validate(value)
            _check_who_and_what(event)
            if event.timestamp is not None and (fault := outside(micros(event.timestamp), now)):
                raise _Refused(fault, WHEN[fault], "timestamp")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            refused = _Refused(_code(first), _detail(first), *first["loc"])
        except _Refused as error:
            refused = error
        else:
            asked.append(event)
            continue
        pointer = where.format(index) + pointer_to(refused.place)
        checked.rejected.append(Rejected(index=index, pointer=pointer, code=refused.code, detail=refused.detail))
    times = clamped([micros(e.timestamp) if e.timestamp else now for e in asked], now)
    checked.events += [_event(event, t, now) for event, t in zip(asked, times, strict=True)]
    return checked


def outside(t: int, now: int) -> str | None:
    """Why an event that happened at `t` is not taken at `now`, if it is not."""
    if t < now - LATEST_DAYS * DAY:
        return "too_old"
    return "too_far_ahead" if t > now + _AHEAD_US else None


def clamped(times: Sequence[int], now: int) -> list[int]:
    """`times` with none after `now`; those that were keep their order, a microsecond apart."""
    ahead = sorted(range(len(times)), key=lambda n: times[n], reverse=True)
    fitting = list(times)
    for back, n in enumerate(n for n in ahead if times[n] > now):
        fitting[n] = now - back
    return fitting


def _check_who_and_what(event: ReceivedEvent) -> None:
    if not event.customer_id and not event.client_id:
        raise _Refused("no_customer_or_client", "Give customer_id or client_id, not empty")
    name, items = NAMES.get(event.name, event.name), event.params.items
    if name in ITEM_EVENTS and not items:
        raise _Refused("missing_item_id", f"A {name} needs items", "params", "items")
    for n, item in enumerate(items):
        if name in ("purchase", "refund") and item.price is None:
            raise _Refused("missing_quantity_or_price", f"A {name} needs a price", "params", "items", n, "price")
    for line in _once(items):
        if (line.price or 0) * (line.quantity or 1) > _ABSURD:
            raise _Refused("absurd_amount", "Price × quantity is beyond belief", "params", "items")


def _event(event: ReceivedEvent, t: int, now: int) -> Event:
    params = event.params
    typed = params.search_term
    shared: dict[str, Value] = _NONE | {
        "event_id": event.event_id,
        "name": NAMES.get(event.name, event.name),
        "timestamp": t,
        "received_at": now,
        "customer_id": event.customer_id or None,
        "client_id": event.client_id or None,
        "session_id": event.session_id or None,
        "currency": params.currency or None,
        "order_id": params.transaction_id or None,
        # People type addresses into the search box.
        "query": redacted(typed) if typed and ("@" in typed or "%40" in typed) else typed or None,
        "list_id": params.item_list_id or None,
        "recommendation_id": event.recommendation_id or None,
        "source": event.source or None,
        "device": event.device or None,
        "country": event.country or None,
        "consent": event.consent,
    }
    lines = _once(params.items)
    rows = tuple(tuple(row.values()) for row in (shared | _line(item, shared) for item in lines)) or (
        tuple(shared.values()),
    )
    return Event(rows, _order(str(shared["name"]), params.transaction_id or None, lines))


def _line(item: Item, shared: dict[str, Value]) -> dict[str, Value]:
    return {
        "item_id": item.item_id,
        "quantity": 1.0 if item.quantity is None else item.quantity,
        "price": item.price,
        "currency": item.currency or shared["currency"],
        "list_id": item.item_list_id or shared["list_id"],
        "position": item.index,
    }


def _once(items: Sequence[Item]) -> list[Item]:
    """One per item, quantities added and the price their mean, as the sources of the log have it."""
    if len(items) < 2:
        return list(items)
    lines: dict[str, list[Item]] = {}
    for item in items:
        lines.setdefault(item.item_id, []).append(item)
    return [_together(same) if len(same) > 1 else same[0] for same in lines.values()]


def _together(same: list[Item]) -> Item:
    pieces = [1.0 if item.quantity is None else item.quantity for item in same]
    paid = [(item.price, n) for item, n in zip(same, pieces, strict=True) if item.price is not None]
    price = same[0].price
    if len({p for p, _ in paid}) > 1:
        price = sum(p * n for p, n in paid) / sum(n for _, n in paid)
    return same[0].model_copy(update={"quantity": sum(pieces), "price": price})


def _order(name: str, order_id: str | None, lines: Sequence[Item]) -> str | None:
    if order_id is None or name not in ("purchase", "refund"):
        return None
    return order(name, order_id, [(item.item_id, item.quantity) for item in lines])


def order(name: str, order_id: str, lines: Sequence[tuple[str, float | None]]) -> str:
    """What purchases and refunds are told apart by; an order may be given back item by item."""
    if name == "purchase":
        return f"purchase/{order_id}"
    return f"refund/{order_id}/{sorted((item, float(n or 1)) for item, n in lines)}"


def order_of(rows: Sequence[Row]) -> str | None:
    """The same of rows of the event log."""
    row = dict(zip(EVENT_SCHEMA, rows[0], strict=True))
    if row["order_id"] is None or row["name"] not in ("purchase", "refund"):
        return None
    item, quantity = (list(EVENT_SCHEMA).index(c) for c in ("item_id", "quantity"))
    return order(str(row["name"]), str(row["order_id"]), [(str(r[item]), r[quantity]) for r in rows])  # type: ignore[misc]


_OWN_CODES = ("email_as_id", "bad_text")


def _code(error: ErrorDetails) -> str:
    if error["type"] in _OWN_CODES:
        return error["type"]
    if error["type"] == "extra_forbidden":
        return "unknown_field"
    named = next((step for step in reversed(error["loc"]) if isinstance(step, str)), "event")
    return f"missing_{named}" if error["type"] == "missing" else f"bad_{named}"


def _detail(error: ErrorDetails) -> str:
    return "This field is not supported" if error["type"] == "extra_forbidden" else error["msg"]
