"""Trust: whose word an event is, and what is kept of the ids that its sender has not proven.

The shop's own events, with a secret key, are stored as they are. An event of a page is the word of a visitor, whose
customer id a token proves, or else of the page alone:

- An unproven customer id is dropped: the event is then its device's. The unproven id of a device is kept behind `~`,
  where nothing joins with it, or dropped where the customer is proven.
- Ids of events and orders are compared among those of the same customer or device only, and what is stored of an
  event's id names whose it is: no page can use up an id or order number of the shop, nor of another visitor.
- A purchase or refund of a page is a claim, which is kept apart from the events (`serving/event_store/claims.py`).
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal, NamedTuple

from serving.event_store.protocol import AT, Row, StoredEvent, Value
from serving.events.validate import ValidatedEvents
from serving.identity.caller import Caller
from serving.identity.client_ids import UNPROVEN
from serving.schemas.events import Rejected

PageOrders = Literal["claims", "devices"]
"""What orders of a page are that names no customer and proves its device: claims as all others, or the device's."""

_NAME, _EVENT, _CUSTOMER, _CLIENT = (AT[c] for c in ("name", "event_id", "customer_id", "client_id"))
assert (_EVENT, _CLIENT) == (0, _CUSTOMER + 1)  # noqa: S101 for `_with_ids`, which runs for every row
_PREFIX_LENGTH = 8  # hexadecimal digits in a stored id; ids are compared by all 32
_NOBODY = "0" * 32  # who refused consent: of them not even a hash is kept


class _Sender(NamedTuple):
    """Whose word an event is: the ids that are stored of it, and the scope in which its own id counts.

    `unproven`: an id that the event named is not among them. `claims`: purchases and refunds are claims.
    """

    customer_id: str | None
    client_id: str | None
    prefix: str
    scope: str
    unproven: bool
    claims: bool


def keep_proven(
    validated: ValidatedEvents,
    caller: Caller,
    page_orders: PageOrders,
    pointer: str,
    callers: Mapping[int, Caller] | None = None,
) -> ValidatedEvents:
    """Keep of `validated`, which is changed, what `caller` may say; an event that would be nobody's is rejected.

    `pointer` is the JSON pointer of the customer id of an event in the body, with a place for its index. `callers`:
    those of the events that brought a token of their own, by index.
    """
    if caller.secret:
        return validated
    events, indexes, unproven = list[StoredEvent](), list[int](), set[int]()
    senders: dict[tuple[Value, Value], _Sender | None] = {}
    for event, index in zip(validated.events, validated.indexes, strict=True):
        row = event.rows[0]
        ids = (row[_CUSTOMER], row[_CLIENT])
        if callers and index in callers:
            sender = _find_sender(callers[index], *ids, page_orders)
        elif ids in senders:  # as nearly always: a page speaks of one visitor
            sender = senders[ids]
        else:
            sender = senders[ids] = _find_sender(caller, *ids, page_orders)
        if sender is None:
            detail = "Only a customer is named, and not proven: give client_id, or a visitor token of this customer"
            at = pointer.format(index)
            validated.rejected.append(Rejected(index=index, pointer=at, code="unproven_customer", detail=detail))
            continue
        if sender.unproven:
            unproven.add(len(events))
        claim = sender.claims and row[_NAME] in ("purchase", "refund")
        one = len(event.rows) == 1  # as of nearly all events
        rows = (_with_ids(row, sender),) if one else tuple([_with_ids(row, sender) for row in event.rows])
        events.append(StoredEvent(rows, event.order_key, sender.scope, claim))
        indexes.append(index)
    validated.events, validated.indexes, validated.unproven = events, indexes, unproven
    return validated


def _find_sender(caller: Caller, customer_id: Value, client_id: Value, page_orders: PageOrders) -> _Sender | None:
    """Find whose word an event is; None: only a customer is named who is not proven."""
    customer = None if customer_id is None else str(customer_id)
    client = None if client_id is None else str(client_id)
    proven = caller.resolve(customer, client)
    if proven.customer_id is not None:
        digest = _digest(proven.customer_id)
        return _Sender(
            proven.customer_id, proven.client_id, _prefix("v", digest), f"v{digest}", proven.client_id != client, False
        )
    device = proven.client_id
    if device is None and client is not None:
        device = UNPROVEN + client
    if device is None and customer is not None:
        return None
    believed = page_orders == "devices" and customer is None and proven.client_id is not None
    digest = _NOBODY if device is None else _digest(device)
    unproven = customer is not None or proven.client_id != client
    return _Sender(None, device, _prefix("p", digest), f"p{digest}", unproven, not believed)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _prefix(kind: str, digest: str) -> str:
    return f"{kind}:{digest[:_PREFIX_LENGTH]}:"


def _with_ids(row: Row, sender: _Sender) -> Row:
    event_id = f"{sender.prefix}{row[_EVENT]}"
    return (event_id, *row[1:_CUSTOMER], sender.customer_id, sender.client_id, *row[_CLIENT + 1 :])
