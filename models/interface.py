"""Recommender interface: the requests and rankings that serving, batch inference and tests share."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np

from features.common.arrays import BoolArray, Int64Array
from features.event_log.schema import EventName
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.candidates.generators import Generators
from models.candidates.registry import GeneratorName
from models.two_stage import Candidates

# What ordered the ranking: a ranker, the placement's own generators, or sales alone.
Strategy = Literal["one_to_one", "predictive", "generators", "popular"]

# Why a ranking is not by the requested strategy: the visitor is unknown; no ranker was trained for them; the ranker
# failed; it took too long; there were too few candidates.
Fallback = Literal["unknown_visitor", "no_ranker", "ranker_error", "deadline", "shortage"]


class SessionEvent(NamedTuple):
    """An event of the visit: `age` in seconds before the request, `price` of a unit as shown or paid, if known."""

    item_id: str
    name: EventName
    age: float | None = None
    price: float | None = None
    question: str | None = None  # of `preferences`
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class RankingRules:
    """Where candidates come from, which items are allowed, and how a ranking is filled up.

    `generators`: candidates of these alone (default: of the recommender's). `use_ranker`: False orders by the sum of
    the generators' scores. `allowed` bool[items of the snapshot]: no other item is in the ranking; None: those that the
    snapshot's catalog has as available (`models.availability`).
    `extra_best_sellers`: so many allowed best sellers are ranked with the candidates, for rules that leave few of
    these. `fill`: generators that fill up a ranking that is too short, in this order. `reserve`: candidates beyond the
    limit that the ranking holds too. `max_reasons`: most reasons per item; 0: none are needed.
    """

    generators: tuple[GeneratorName, ...] | None = None
    use_ranker: bool = True
    allowed: BoolArray | None = field(default=None, compare=False)
    extra_best_sellers: int = 0
    fill: tuple[GeneratorName, ...] = ("popular",)
    reserve: int = 0
    max_reasons: int = 0


NO_RULES = RankingRules()


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """A request for `limit` products for one visitor.

    `recent`: the events of this visit, oldest first, as `SessionEvent` or its first two fields; items unknown to the
    catalog are ignored. Items of `exclude` are never in the ranking.
    """

    limit: int
    customer_id: str | None = None
    recent: tuple[SessionEvent | tuple[str, EventName], ...] = ()
    exclude: frozenset[str] = field(default_factory=frozenset)
    rules: RankingRules = NO_RULES


@dataclass(frozen=True, slots=True)
class Ranking:
    """The products, best first. `scores` compare items within this ranking only."""

    item_ids: list[str]
    scores: list[float]
    generators: list[tuple[str, ...]]  # per item: which candidate generators proposed it
    strategy: Strategy
    fallback: Fallback | None
    segment: str  # RFM segment of the customer; PROSPECT where there are no orders
    n_ranked: int = 0  # items ordered by the strategy; those after them fill up
    candidates: "RankedCandidates | None" = field(default=None, compare=False, repr=False)
    """Input of reasons (`models.explain.reasons.explain_ranking`), if the request wants them."""
    positions: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)  # in the snapshot


@dataclass(frozen=True, slots=True)
class RankedCandidates:
    """The first candidates of a ranking in its order, with what they were ranked from: the input of reasons.

    `candidates.query` refers to `visitors`, the batch that was ranked. `max_reasons`: most reasons per item.
    """

    generators: Generators
    snapshot: Snapshot
    visitors: Visitors
    candidates: Candidates
    max_reasons: int


class Recommender(Protocol):
    """Ranks a batch of visitors in one vectorised call: answer i belongs to request i."""

    def recommend(self, requests: list[RankingRequest]) -> list[Ranking]:
        """Rank for each request."""
        ...

    def recommend_without_ranker(self, request: RankingRequest, fallback: Fallback) -> Ranking:
        """Rank by what fills up alone, for when the ranker has failed."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The customers and items that it ranks for and from."""
        ...

    @property
    def info(self) -> dict[str, object]:
        """name, as_of (ISO 8601), created_at, metrics, library versions: what `GET /v1/model` shows."""
        ...
