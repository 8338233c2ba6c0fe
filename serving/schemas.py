"""The messages of `POST /v1/recommendations`.

Types are strict and unknown fields are refused by name: a field that is silently ignored would make
a shop believe that it works.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from features.events import EventName
from models.ranking import Fallback, Request, Strategy
from serving.event_store import Visitor
from serving.problems import Problem

Id = Annotated[str, Field(min_length=1, max_length=256)]
VisitorId = Annotated[str, Field(max_length=256)]
Include = Literal["score", "generators"]

_REQUEST: dict[str, Any] = {
    "placement": "home.for_you",
    "customer_id": "u_91",
    "session_id": "s7",
    "context": {"item_ids": ["p3"], "cart_item_ids": ["p9"]},
    "limit": 2,
    "exclude": {"item_ids": ["p4"]},
    "include": ["score"],
}

_ANSWER: dict[str, Any] = {
    "results": [
        {
            "recommendation_id": "rec_0f8fad5bd9cb469fa16570867728950e",
            "placement": "home.for_you",
            "items": [
                {"item_id": "p1", "rank": 1, "score": 0.71},
                {"item_id": "p7", "rank": 2, "score": 0.64},
            ],
            "strategy": "one_to_one",
            "fallback": None,
            "degraded": False,
            "segment": "loyal",
            "model": {"name": "usual", "version": "17", "snapshot": "2026-11-20T00:00:00Z"},
        }
    ]
}


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Context(_Message):
    """What this visit has touched, oldest first."""

    item_ids: list[Id] = Field(default=[], max_length=50)
    """Products looked at."""
    cart_item_ids: list[Id] = Field(default=[], max_length=50)
    """Products in the cart; they count as more recent than those looked at."""


class Exclude(_Message):
    """What must not be in the answer."""

    item_ids: list[Id] = Field(default=[], max_length=500)


class RecommendationRequest(_Message):
    """One placement to fill for one visitor, who is named by at least one of the three ids."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REQUEST]})

    placement: str = Field("home.for_you", max_length=64, pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$")
    """Where the products are shown; echoed in the answer."""
    customer_id: VisitorId | None = None
    """A known customer. One the bundle does not know is answered with a fallback."""
    client_id: VisitorId | None = None
    """A device or cookie."""
    session_id: VisitorId | None = None
    """A visit."""
    context: Context = Field(default_factory=Context)
    limit: int = Field(12, ge=1, le=100)
    """How many products."""
    exclude: Exclude = Field(default_factory=Exclude)
    include: list[Include] = Field(default=[], max_length=2)
    """What to tell of each product beside its id and rank."""

    @model_validator(mode="after")
    def _names_a_visitor(self) -> "RecommendationRequest":
        if not any((i or "").strip() for i in (self.customer_id, self.client_id, self.session_id)):
            raise PydanticCustomError(
                "no_visitor", "Give at least one of customer_id, client_id and session_id, not empty"
            )
        return self

    @property
    def visitor(self) -> Visitor | None:
        """Whose stored events belong to the request, if it says who."""
        customer, client = _stored(self.customer_id), _stored(self.client_id)
        return Visitor(customer, client) if customer or client else None

    def to_request(self) -> Request:
        """What the recommender is asked."""
        context = self.context
        recent: list[tuple[str, EventName]] = [(i, "view_item") for i in context.item_ids]
        recent += [(i, "add_to_cart") for i in context.cart_item_ids]
        return Request(
            limit=self.limit,
            customer_id=self.customer_id or None,
            recent=tuple(recent),
            exclude=frozenset(self.exclude.item_ids),
        )


def _stored(name: str | None) -> str | None:
    """An id as events have it; None for one that no event can have."""
    plain = (name or "").strip()
    return plain if plain and "\0" not in plain else None


class Envelope(_Message):
    """The body with its requests still unchecked, so that one that is wrong does not refuse the others."""

    requests: list[Any] = Field(min_length=1, max_length=16)


class RecommendationsRequest(_Message):
    """1–16 requests, answered in order."""

    requests: list[RecommendationRequest] = Field(min_length=1, max_length=16)


class Item(BaseModel):
    """One product of an answer. `score` only orders the products within it."""

    item_id: str
    rank: int = Field(ge=1)
    score: float | None = None
    generators: list[str] | None = None


class ModelIdentity(BaseModel):
    """What ranked. `version` is null when a bundle directory is served, which no registry knows."""

    name: str
    version: str | None
    snapshot: str


class Recommendation(BaseModel):
    """The answer to one request. Send `recommendation_id` with the events it leads to."""

    recommendation_id: str = Field(pattern="^rec_[0-9a-f]{32}$")
    placement: str
    items: list[Item]
    strategy: Strategy
    fallback: Fallback | None
    degraded: bool
    segment: str
    model: ModelIdentity


class FailedRecommendation(BaseModel):
    """Takes the place of the answer to a request that is wrong or could not be ranked."""

    error: Problem


class RecommendationsResponse(BaseModel):
    """One result per request, in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    results: list[Recommendation | FailedRecommendation]


class ModelDescription(BaseModel):
    """The bundle that is served: its name, version, snapshot time, metrics and library versions."""

    model_config = ConfigDict(extra="allow")

    name: str
    version: str | None
    as_of: str
