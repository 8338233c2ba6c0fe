"""Messages of `POST /v1/events`, `/v1/customers/merge` and `/v1/customers/erase`.

An event is what shops' data layers already send for GA4: parameters and items may carry more than is read
here. At the top, where a misspelt field would lose a visitor, unknown fields are refused by name.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from features.common.ids import SCIENTIFIC_HINT, IdKind, is_scientific_id, normalize_id
from features.event_log.stated_answers import MAX_ANSWERS
from features.sources.parsing.cells.pii import redact_text

MAX_EVENTS = 1000

_EXAMPLE: dict[str, Any] = {
    "event_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "name": "purchase",
    "timestamp": "2026-11-21T10:00:00.123Z",
    "customer_id": "u_91",
    "client_id": "GA1.1.5",
    "session_id": "s7",
    "consent": True,
    "source": "email",
    "device": "mobile",
    "country": "DE",
    "params": {
        "transaction_id": "T1",
        "value": 59.9,
        "currency": "EUR",
        "items": [{"item_id": "p1", "item_list_id": "home.for_you", "index": 1, "price": 29.95, "quantity": 2}],
    },
}


def contains_email(text: str) -> bool:
    """Check for an e-mail address in `text`: addresses are not kept, so it can be no id."""
    return ("@" in text or "%40" in text) and redact_text(text) != text


def _reject_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("bad_text", "A text must not contain the character U+0000")
    return text


def _reject_email(text: str) -> str:
    if contains_email(text):
        raise PydanticCustomError("email_as_id", "An id must not contain an e-mail address; send a hash of it")
    return text


def _require_text(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("timestamp", "Give an ISO 8601 time as text, such as 2026-11-21T10:00:00.123Z")
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        raise PydanticCustomError("timestamp", "In UTC this is no time of the years 1 to 9999") from None


def normalize(value: object, kind: IdKind) -> object:
    """Normalize texts and whole numbers as the event log does: None for a word for no id, "" for nothing but spaces.

    Shops' data layers write ids as they are in the database, and undefined where there is none. Raises
    `PydanticCustomError` for a number that has lost digits.
    """
    written = type(value)
    if written is not str and written is not int and not (written is float and value.is_integer()):  # type: ignore[attr-defined]
        return value
    text = normalize_id(value, kind)
    if text is None:
        return None if written is not str or trim(value) else ""
    if is_scientific_id(text):
        raise PydanticCustomError("scientific_id", "This id has lost digits; " + SCIENTIFIC_HINT)
    return text


def _stored(kind: IdKind) -> BeforeValidator:
    """An id that is stored, or null."""

    def validate(value: object) -> object:
        text = normalize(value, kind)
        if type(text) is str:
            if "\0" in text:
                return _reject_nul(text)
            if "@" in text or "%40" in text:
                return _reject_email(text)
        return text

    return BeforeValidator(validate)


def _stored_always(kind: IdKind) -> BeforeValidator:
    """An id that is stored; a word for no id is refused as if it were missing."""
    validate_stored = _stored(kind).func

    def validate(value: object) -> object:
        text = validate_stored(value)  # type: ignore[call-arg]
        if text is None and value is not None:
            raise PydanticCustomError("missing", "This is a word for no id, such as null")
        return text

    return BeforeValidator(validate)


# Spaces around a text mean nothing, and a text of nothing else is none: GA4's tags send "" for what is not there.
MAX_LENGTH, MAX_QUERY_LENGTH = 256, 1000


def _text(length: int, **more: int) -> Any:
    return StringConstraints(strip_whitespace=True, max_length=length, **more)  # type: ignore[arg-type]


# Python's own strip() takes some control characters for spaces: what it leaves may be somebody else's id.
trim = TypeAdapter(Annotated[str, StringConstraints(strip_whitespace=True)]).validate_python


def _id_schema(**more: int) -> dict[str, Any]:
    return {"type": ["string", "integer"], "maxLength": MAX_LENGTH, **more}


_Text = Annotated[str, _text(MAX_LENGTH), AfterValidator(_reject_nul)]
_Answer = _Text | Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Query = Annotated[str, _text(MAX_QUERY_LENGTH), AfterValidator(_reject_nul)]
_OPTIONAL = WithJsonSchema({"anyOf": [_id_schema(), {"type": "null"}]}, mode="validation")
_REQUIRED = WithJsonSchema(_id_schema(minLength=1), mode="validation")
_Stored = Annotated[str, _text(MAX_LENGTH)]
_StoredAlways = Annotated[str, _text(MAX_LENGTH, min_length=1)]
# A word for no id is none: an order called "undefined" would make every later one its duplicate.
_CustomerId = Annotated[_Stored | None, _stored("customer"), _OPTIONAL]
_ClientId = Annotated[_Stored | None, _stored("client"), _OPTIONAL]
_SessionId = Annotated[_Stored | None, _stored("session"), _OPTIONAL]
_OrderId = Annotated[_Stored | None, _stored("order"), _OPTIONAL]
_Label = Annotated[_Stored | None, _stored("event"), _OPTIONAL]
_EventId = Annotated[_StoredAlways, _stored_always("event"), _REQUIRED]
RequiredItemId = Annotated[_StoredAlways, _stored_always("item"), _REQUIRED]
RequiredCustomerId = Annotated[_StoredAlways, _stored_always("customer"), _REQUIRED]
RequiredClientId = Annotated[_StoredAlways, _stored_always("client"), _REQUIRED]
_Instant = Annotated[datetime, BeforeValidator(_require_text), AfterValidator(_to_utc)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_Quantity = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
_Currency = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern="^([A-Za-z]{3})?$")]


class EventItem(BaseModel):
    """One product of an event."""

    model_config = ConfigDict(title="Item", use_attribute_docstrings=True)

    item_id: RequiredItemId
    item_list_id: _Label = None
    """The placement it was shown in."""
    index: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    """Its rank there."""
    price: Amount | None = None
    """Of one piece, net of discount."""
    quantity: _Quantity | None = None
    """Pieces; one where it is not given."""
    currency: _Currency | None = None


class Params(BaseModel):
    """GA4's parameters of an event; others than these are passed over."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    transaction_id: _OrderId = None
    """The order. A purchase or refund that repeats it is a duplicate, whatever its event_id."""
    value: float | None = None
    currency: _Currency | None = None
    search_term: _Query | None = None
    item_list_id: _Label = None
    items: list[EventItem] = Field(default=[], max_length=200)
    question: _Text | None = None
    """Of `preferences`: what the visitor was asked, such as `brand`, `category`, `price`, `size`."""
    answer: Annotated[list[_Answer], Field(max_length=MAX_ANSWERS)] | _Answer | None = None
    """What they answered: a text, a number or up to ten of them; null withdraws an earlier answer."""
    source: _Label = None
    """Of `preferences`: where they were asked, such as `quiz`, `survey`, `chat`, `account`."""


class ReceivedEvent(BaseModel):
    """Something a visitor did. `customer_id` or `client_id` says who."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, json_schema_extra={"examples": [_EXAMPLE]})

    event_id: _EventId
    """Unique for each event; one sent again within seven days is a duplicate."""
    name: Annotated[str, StringConstraints(pattern="^[A-Za-z][A-Za-z0-9_]{0,63}$")]
    """GA4's name. Others are kept, and nothing is learnt from them."""
    timestamp: _Instant | None = None
    """When it happened, at most 30 days ago; when it arrives, if not given."""
    customer_id: _CustomerId = None
    client_id: _ClientId = None
    """A device or cookie."""
    session_id: _SessionId = None
    consent: bool | None = None
    """False keeps it out of every model and of what the visitor is shown."""
    recommendation_id: _Label = None
    """Of the answer that led to this."""
    source: _Label = None
    device: _Text | None = None
    country: _Text | None = None
    params: Params = Field(default_factory=Params)


class EventsRequest(BaseModel):
    """1–1,000 events. One that is wrong does not refuse the others."""

    model_config = ConfigDict(extra="forbid")

    events: list[ReceivedEvent] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsEnvelope(BaseModel):
    """The body with its events still unchecked."""

    model_config = ConfigDict(extra="forbid")

    events: list[Any] = Field(min_length=1, max_length=MAX_EVENTS)


class Rejected(BaseModel):
    """An event that was not kept, why, and where in the body it is wrong."""

    index: int
    pointer: str
    code: str
    detail: str


class EventsResponse(BaseModel):
    """What became of the events, once all that were accepted are on disk.

    `duplicates` were there already. Of the accepted, `unproven` are kept without an id that the page has not proven;
    `claims` are purchases and refunds that count for nothing until the shop's server sends them, or the page with a
    visitor token. `ignored` are Segment calls that are no shop's events.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"accepted": 2, "duplicates": 1, "unproven": 0, "claims": 0, "rejected": []}],
        }
    )

    accepted: int
    duplicates: int
    unproven: int
    claims: int
    rejected: list[Rejected]
    ignored: int | None = None


class MergeRequest(BaseModel):
    """From now on this client is that customer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    client_id: RequiredClientId
    customer_id: RequiredCustomerId


class MergeResponse(BaseModel):
    """`changed`: the two were not known to belong together before."""

    changed: bool


class EraseRequest(BaseModel):
    """Whose events are to be removed: those of a customer, or those of a device, whoever used it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer_id: RequiredCustomerId | None = None
    client_id: RequiredClientId | None = None

    @model_validator(mode="after")
    def _one(self) -> "EraseRequest":
        if (self.customer_id is None) == (self.client_id is None):
            raise PydanticCustomError("one_id", "Give customer_id or client_id, and only one of them")
        return self


class EraseResponse(BaseModel):
    """How much was removed; `shared_clients` are devices that other customers use too."""

    events: int
    links: int
    clients: int
    shared_clients: int
    claims: int
