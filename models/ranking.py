"""What a recommender is asked and what it answers. Serving, batch inference and tests share these."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from features.events import EventName

# Which recommender ranked the answer. `popular` is the last resort: no ranker was used.
Strategy = Literal["one_to_one", "predictive", "popular"]

# Why the answer is not personal: nothing is known of the visitor; no ranker was trained for their kind; it failed.
Fallback = Literal["unknown_visitor", "no_ranker", "ranker_error"]


class Seen(NamedTuple):
    """An event of the visit: `age` in seconds before the request, `price` of a unit as seen or paid, where known."""

    item_id: str
    name: EventName
    age: float | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One visitor who wants `limit` products.

    `recent` is what this visit has touched, oldest first, as `Seen` or its first two; items the catalog
    does not know are passed over. `exclude` never appears in the answer.
    """

    limit: int
    customer_id: str | None = None
    recent: tuple[Seen | tuple[str, EventName], ...] = ()
    exclude: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The products, best first. `scores` only order items within this answer."""

    item_ids: list[str]
    scores: list[float]
    generators: list[tuple[str, ...]]  # per item: which candidate generators proposed it
    strategy: Strategy
    fallback: Fallback | None
    segment: str  # RFM segment of the customer; PROSPECT where there are no orders


class Recommender(Protocol):
    """Ranks a batch of visitors in one vectorised call: answer i belongs to request i."""

    def recommend(self, requests: list[Request]) -> list[Ranking]: ...

    @property
    def info(self) -> dict[str, object]:
        """name, as_of (ISO 8601), created_at, metrics, library versions: what `GET /v1/model` shows."""
        ...
