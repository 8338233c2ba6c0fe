"""Messages of `POST /v1/recommendations`, `/v1/rerank` and `/v1/explain`, and of the routes about the model.

Types are strict and unknown fields are refused by name: a field that is silently ignored would make
a shop believe that it works.
"""

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from features.common.ids import normalize_id
from features.event_log.schema import EventName
from models.explain.codes import ReasonCode
from models.interface import Fallback, Strategy
from serving.schemas.events import normalize
from serving.schemas.filters import Filter
from serving.schemas.placements import MAX_LIMIT, PATTERN, RERANK, Placement
from serving.schemas.problems import Problem
from serving.schemas.visitor import VisitorIds


def _normalize_item(value: object) -> object:
    # An item of another name is one that is not known, which is no reason to refuse the request.
    return normalize_id(value, "item") or value if type(value) in (str, int) else value


_ID_TYPES: dict[str, Any] = {"type": ["string", "integer"], "maxLength": 256}
Id = Annotated[
    str,
    Field(min_length=1, max_length=256),
    BeforeValidator(_normalize_item),
    WithJsonSchema(_ID_TYPES | {"minLength": 1}, mode="validation"),
]
_VisitorId = Annotated[str, Field(max_length=256)] | None
_VISITOR_ID = WithJsonSchema({"anyOf": [_ID_TYPES, {"type": "null"}]}, mode="validation")
CustomerId = Annotated[_VisitorId, BeforeValidator(partial(normalize, kind="customer")), _VISITOR_ID]
ClientId = Annotated[_VisitorId, BeforeValidator(partial(normalize, kind="client")), _VISITOR_ID]
SessionId = Annotated[_VisitorId, BeforeValidator(partial(normalize, kind="session")), _VISITOR_ID]
Include = Literal["score", "generators", "reasons", "rules"]
ShortText = Annotated[str, Field(max_length=256)]
CursorText = Annotated[str, Field(max_length=4096, pattern="^[A-Za-z0-9_-]*$")]

_REQUEST: dict[str, Any] = {
    "placement": "home.for_you",
    "customer_id": "u_91",
    "session_id": "s7",
    "context": {"item_ids": ["p3"], "cart_item_ids": ["p9"]},
    "limit": 2,
    "exclude": {"item_ids": ["p4"], "purchased_within_days": 30},
    "filter": {"all": [{"field": "price", "op": "<=", "value": 50}]},
    "include": ["score", "reasons"],
}
_CLIENT_ID = "u1.c2l4dGVlbiBieXRlcyEhIQ.bm90IGEgcmVhbCBNQUMhIQ"
_REASON = {"code": "bought_with", "item_id": "p9", "text": "often bought with p9"}

_ANSWER: dict[str, Any] = {
    "results": [
        {
            "recommendation_id": "rec_0f8fad5bd9cb469fa16570867728950e",
            "placement": "home.for_you",
            "items": [
                {"item_id": "p1", "rank": 1, "score": 0.71, "reasons": [_REASON]},
                {"item_id": "p7", "rank": 2, "score": 0.64, "reasons": [_REASON]},
            ],
            "strategy": "one_to_one",
            "fallback": None,
            "degraded": False,
            "identity": "proven",
            "segment": "loyal",
            "thanks": [],
            "model": {"name": "usual", "version": "17", "snapshot": "2026-11-20T00:00:00Z"},
            "experiment": None,
            "next_cursor": "AQB5Jmo...",
        }
    ]
}


class _StrictMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Context(_StrictMessage):
    """What this visit has touched, oldest first, and where it is."""

    item_ids: list[Id] = Field(default_factory=list, max_length=50)
    """Products looked at."""
    cart_item_ids: list[Id] = Field(default_factory=list, max_length=50)
    """Products in the cart; they count as more recent than those looked at."""
    category: ShortText | None = None
    """The category whose page is shown, as a path in the catalog."""
    query: ShortText | None = None
    source: ShortText | None = None
    device: ShortText | None = None
    country: ShortText | None = None
    currency: ShortText | None = None
    """Taken, and without effect on the ranking so far, as are the four above: what they say comes with the events."""


class Exclude(_StrictMessage):
    """What must not be in the answer."""

    item_ids: list[Id] = Field(default_factory=list, max_length=500)
    purchased_within_days: float | None = Field(None, ge=0, le=3650, allow_inf_nan=False)
    """What the customer bought in the last days. Unset: what the placement says."""


class VisitorRequest(_StrictMessage):
    """Who asks, named by at least one of the three ids, and what their visit is about."""

    customer_id: CustomerId = None
    """A known customer. One the bundle does not know is answered with a fallback. With a publishable key it counts if
    the visitor token proves it."""
    client_id: ClientId = None
    """A device or cookie. With a publishable key it counts if it is of `POST /v1/clients`, or if the
    token proves it."""
    session_id: SessionId = None
    """A visit."""
    context: Context = Field(default_factory=Context)

    @model_validator(mode="after")
    def _names_a_visitor(self) -> Self:
        if not (self.customer_id or self.client_id or self.session_id):
            raise PydanticCustomError(
                "no_visitor",
                "Give at least one of customer_id, client_id and session_id, not empty and no word such as null",
            )
        return self

    @property
    def visitor(self) -> VisitorIds | None:
        """The visitor whose stored events belong to the request; None where it has no id that an event can have."""
        customer, client = _storable_id(self.customer_id), _storable_id(self.client_id)
        return VisitorIds(customer, client) if customer or client else None

    @property
    def context_events(self) -> tuple[tuple[str, EventName], ...]:
        """The items of the context as events of the visit, oldest first."""
        viewed: list[tuple[str, EventName]] = [(i, "view_item") for i in self.context.item_ids]
        return (*viewed, *((i, "add_to_cart") for i in self.context.cart_item_ids))


class RecommendationRequest(VisitorRequest):
    """One placement to fill for one visitor."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REQUEST]})

    placement: str = Field("home.for_you", max_length=64, pattern=PATTERN)
    """Where the products are shown: one of `GET /v1/placements`; echoed in the answer."""
    limit: int | None = Field(None, ge=1, le=MAX_LIMIT)
    """How many products. Unset: what the placement says."""
    cursor: CursorText | None = None
    """`next_cursor` of an earlier answer: what comes after it, never an item of it again."""
    strict: bool = False
    """Rather fewer products than such that only fill up."""
    diversity: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """How much a product counts less that is like those above it. Unset: what the placement says."""
    filter: Filter | None = None
    """What the catalog must say of every product, those that fill up included."""
    exclude: Exclude = Field(default_factory=Exclude)
    include: list[Include] = Field(default_factory=list, max_length=4)
    """What to tell of each product beside its id and rank."""


def _storable_id(text: str | None) -> str | None:
    """The id; None for one that no event can have."""
    return text if text and "\0" not in text else None


class Envelope(_StrictMessage):
    """The body with its requests still unchecked, so that one that is wrong does not refuse the others."""

    requests: list[Any] = Field(min_length=1, max_length=16)
    distinct: bool = False
    dry_run: bool = False


class RecommendationsRequest(_StrictMessage):
    """1–16 requests, answered in order."""

    requests: list[RecommendationRequest] = Field(min_length=1, max_length=16)
    distinct: bool = False
    """No product twice in the answer: what an earlier request shows, the later ones leave out."""
    dry_run: bool = False
    """A look that nobody will see: the answers have no `recommendation_id`."""


class RerankRequest(VisitorRequest):
    """Products in some order, such as a search's, to be put into the visitor's order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer_id": "u_91", "item_ids": ["p1", "p7", "p9"]}]})

    item_ids: list[Id] = Field(min_length=1, max_length=500)
    """Ids that are not known keep their order behind the others, and after them comes what is not available."""
    limit: int | None = Field(None, ge=1, le=500)
    """How many to give back. Unset: all."""
    include: list[Include] = Field(default_factory=list, max_length=4)

    @property
    def placement(self) -> str:
        """The placement whose rules the ranking follows."""
        return RERANK

    @property
    def unique_item_ids(self) -> list[str]:
        """`item_ids` without repetitions."""
        return list(dict.fromkeys(self.item_ids))


RankedRequest = RecommendationRequest | RerankRequest
"""A request that is answered with a ranking."""


class ExplainRequest(VisitorRequest):
    """Whose ranking is to be explained, and of which products; without any, of those at its head."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer_id": "u_91", "item_ids": ["p1"]}]})

    item_ids: list[Id] = Field(default_factory=list, max_length=20)
    limit: int = Field(10, ge=1, le=20)


class ItemReason(BaseModel):
    """Why a product is shown: a code, the visitor's product it rests on if one is, and the same in words."""

    code: ReasonCode
    item_id: str | None
    text: str


class ItemMove(BaseModel):
    """What a rule did to a product: its places before and after; `from` is null where the rule brought it in."""

    id: str
    action: Literal["boost", "bury", "share", "pin"]
    from_: int | None = Field(alias="from")
    to: int


class AppliedRules(BaseModel):
    """The rules that act on an answer, and those that would if the visitor were not held out of them."""

    applied: list[str]
    held_out: list[str]


class RecommendedItem(BaseModel):
    """One product of an answer. `score` only orders the products within it."""

    model_config = ConfigDict(title="Item")

    item_id: str
    rank: int = Field(ge=1)
    score: float | None = None
    generators: list[str] | None = None
    reasons: list[ItemReason] | None = None
    rules: list[ItemMove] | None = None


class FallbackUsed(BaseModel):
    """Why the answer is not wholly what was asked for, and what stood in: a strategy or a generator."""

    why: Fallback
    to: str


class ModelIdentity(BaseModel):
    """What ranked. `version` is null when a bundle directory is served, which no registry knows."""

    name: str
    version: str | None
    snapshot: str


class Recommendation(BaseModel):
    """The answer to one request. Send `recommendation_id` with the events it leads to."""

    recommendation_id: str | None = Field(pattern="^rec_[0-9a-f]{32}$")
    placement: str
    items: list[RecommendedItem]
    strategy: Strategy
    fallback: FallbackUsed | None
    degraded: bool
    """What the visitor has just done could not be read, or ranking failed."""
    identity: Literal["proven", "unproven", "anonymous"]
    """Whether the customer is proven, by a secret key or a visitor token; `unproven`: the request named a customer or
    a device that is not, and is answered as if it had not."""
    segment: str
    thanks: list[str]
    """What the visitor has just bought, in placements that cool down after a purchase: to thank for, not to push."""
    model: ModelIdentity
    experiment: str | None
    next_cursor: str | None
    rules: AppliedRules | None = None
    """On request of a secret key."""


class FailedRecommendation(BaseModel):
    """Takes the place of the answer to a request that is wrong or could not be ranked."""

    error: Problem


class RecommendationsResponse(BaseModel):
    """One result per request, in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    results: list[Recommendation | FailedRecommendation]


class ClientResponse(BaseModel):
    """The id of a device that has none yet; nobody can guess it, and whoever has it is that device."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"client_id": _CLIENT_ID}]})

    client_id: str


class ModelDescription(BaseModel):
    """The bundle that is served: its name, version, snapshot time; to a secret key also metrics and library versions.

    To a publishable key `following` is null.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    version: str | None
    as_of: str
    following: "FollowingDescription | None"


class FollowingDescription(BaseModel):
    """How it stands with what is published: why it is not served, if it is not, and the last refresh."""

    problem: str | None
    refreshing: bool
    refresh_problem: str | None


class PlacementsDescription(BaseModel):
    """Placements by name."""

    placements: dict[str, Placement]


class Explanation(BaseModel):
    """A ranking and why; `contributions` are what each feature added to a product's score."""

    model_config = ConfigDict(extra="allow")

    customer_id: str | None
    strategy: Strategy
    segment: str
    snapshot: str
    visit: bool
    items: list[dict[str, Any]]


class ReloadResponse(BaseModel):
    """What is served now; `swapped`: whether it was not before."""

    swapped: bool
    model: ModelIdentity


class RefreshResponse(BaseModel):
    """A snapshot is being made; it is served when it is ready. `GET /v1/model` says when that is."""

    refreshing: bool
