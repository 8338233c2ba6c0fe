"""What a recommender is asked and what it answers. Serving, batch inference and tests share these."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np

from features.event_log.schema import EventName
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.generators import Generators
from models.candidates.registry import GeneratorName
from models.two_stage import Candidates

# What ordered the answer: a ranker, the placement's own generators, or only what sells.
Strategy = Literal["one_to_one", "predictive", "generators", "popular"]

# Why the answer is not what was asked for: nothing is known of the visitor; no ranker was trained for their kind; it
# failed; it took too long; there was too little to rank.
Fallback = Literal["unknown_visitor", "no_ranker", "ranker_error", "deadline", "shortage"]


class SessionEvent(NamedTuple):
    """An event of the visit: `age` in seconds before the request, `price` of a unit as seen or paid, where known."""

    item_id: str
    name: EventName
    age: float | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True)
class RankingRules:
    """Who proposes, what may be in the answer, and how it is filled up.

    `generators`: only what these propose (default: those of the recommender). `ranked`: False orders by what the
    generators say, added up. `allowed` bool[items of the snapshot]: nothing else is in the answer. `best_too`: so
    many best sellers of what is allowed are ranked with the candidates, for rules that leave few of these. `fill`:
    generators that fill up an answer that is too short, in this order. `more`: so many candidates are told of beyond
    the limit. `reasons`: most reasons told of an item.
    """

    generators: tuple[GeneratorName, ...] | None = None
    ranked: bool = True
    allowed: np.ndarray | None = field(default=None, compare=False)
    best_too: int = 0
    fill: tuple[GeneratorName, ...] = ("popular",)
    more: int = 0
    reasons: int = 0


NO_RULES = RankingRules()


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """One visitor who wants `limit` products.

    `recent` is what this visit has touched, oldest first, as `Seen` or its first two; items the catalog
    does not know are passed over. `exclude` never appears in the answer.
    """

    limit: int
    customer_id: str | None = None
    recent: tuple[SessionEvent | tuple[str, EventName], ...] = ()
    exclude: frozenset[str] = field(default_factory=frozenset)
    rules: RankingRules = NO_RULES


@dataclass(frozen=True, slots=True)
class Ranking:
    """The products, best first. `scores` only order items within this answer."""

    item_ids: list[str]
    scores: list[float]
    generators: list[tuple[str, ...]]  # per item: which candidate generators proposed it
    strategy: Strategy
    fallback: Fallback | None
    segment: str  # RFM segment of the customer; PROSPECT where there are no orders
    ordered: int = 0  # so many of the items were ordered by the strategy; those after them fill up
    candidates: "RankedCandidates | None" = field(default=None, compare=False, repr=False)
    """What reasons are computed from, where the request wants them (`models.explain.reasons.ranking_reasons`)."""
    positions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)  # in the snapshot


@dataclass(frozen=True, slots=True)
class RankedCandidates:
    """The first candidates of a ranking in its order, and what they were ranked with: all that reasons rest on.

    `candidates.query` counts in `visitors`, the batch that was ranked. `max_reasons`: most reasons per item.
    """

    generators: Generators
    snapshot: Snapshot
    visitors: Visitors
    candidates: Candidates
    max_reasons: int


class Recommender(Protocol):
    """Ranks a batch of visitors in one vectorised call: answer i belongs to request i."""

    def recommend(self, requests: list[RankingRequest]) -> list[Ranking]: ...

    def without_ranker(self, request: RankingRequest, why: Fallback) -> Ranking:
        """An answer made of what fills up alone, for when ranking has failed."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """What is known of customers and items."""
        ...

    @property
    def info(self) -> dict[str, object]:
        """name, as_of (ISO 8601), created_at, metrics, library versions: what `GET /v1/model` shows."""
        ...
