"""A bundle that answers: each visitor goes to the recommender that knows most of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from features.common.memory import keep_freed_memory
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import KIND, Visitors
from models.bundle import Bundle, RecommenderName
from models.candidates.generators import Generators
from models.candidates.popular import Popular
from models.candidates.registry import NAMED_SCORES, GeneratorName
from models.interface import Fallback, RankedCandidates, Ranking, RankingRequest, RankingRules, SessionEvent, Strategy
from models.two_stage import Candidates, Chunk, fused

_RESERVE = 60  # candidates beyond the limit that have reasons: among these the order of a slate chooses
_BUDGET = 100  # of a generator that a request names and its recommender does without


def load(path: Path) -> "BundleRecommender":
    """The recommender in bundle directory `path`. Raises `InputError` where the bundle does not fit."""
    keep_freed_memory()
    return BundleRecommender(Bundle.load(path))


@dataclass(frozen=True)
class BundleRecommender:
    """Implements `models.interface.Recommender` on a bundle."""

    bundle: Bundle

    @property
    def info(self) -> dict[str, object]:
        return self.bundle.info()

    @property
    def snapshot(self) -> Snapshot:
        return self.bundle.snapshot

    def recommend(self, requests: Sequence[RankingRequest]) -> list[Ranking]:
        """Answer i belongs to request i, and does not depend on the other requests.

        Customers with history go to one_to_one, everyone else to predictive. Where the candidates are fewer than the
        limit, what `Rules.fill` names follows, by default what sells; an answer is shorter only if the catalog is.
        """
        answers: dict[int, Ranking] = {}
        for name, rows, visitors in self.routed(requests):
            for place in _group_by_rules([requests[i].rules for i in rows]):
                mine, told = [rows[p] for p in place], visitors.only(np.array(place))
                answers |= dict(zip(mine, self._answers(name, [requests[i] for i in mine], told), strict=True))
        return [answers[i] for i in range(len(requests))]

    def routed(self, requests: Sequence[RankingRequest]) -> Iterator[tuple[RecommenderName, list[int], Visitors]]:
        """Which recommender answers which requests, and what it is to know of their visitors."""
        visitors = build_visitors(self.snapshot, requests)
        personal, active = visitors.customers >= 0, visitors.active
        about_visit = np.zeros(len(requests), bool)
        if "one_to_one_visit" not in self.bundle.recommenders:
            # A ranker that has not seen visits in training is not told of any; what is about the visit goes to who has.
            about_visit = personal & active & np.array([_only_visit_generators(r.rules) for r in requests], bool)
            active = active & ~personal
        routes: tuple[tuple[RecommenderName, np.ndarray], ...] = (
            ("one_to_one", np.flatnonzero(personal & ~active & ~about_visit)),
            ("one_to_one_visit", np.flatnonzero(personal & active)),
            ("predictive", np.flatnonzero(~personal | about_visit)),
        )
        for name, rows in routes:
            if len(rows):
                told = visitors.only(rows)
                if name == "one_to_one" and len(told.query):
                    told = Visitors.of_customers(told.customers)
                yield name, rows.tolist(), told

    def without_ranker(self, request: RankingRequest, why: Fallback) -> Ranking:
        """Only what fills up, in the order of the request's rules."""
        visitors = build_visitors(self.snapshot, [request])
        return self._ranking(request, visitors, 0, None, "popular", why)

    def _answers(self, name: RecommenderName, requests: list[RankingRequest], visitors: Visitors) -> Iterator[Ranking]:
        """`requests` have rules that differ in nothing that `_alike` looks at."""
        rules, two_stage = requests[0].rules, self.bundle.recommenders.get(name)
        if two_stage is None and rules.ranked:
            for i, request in enumerate(requests):
                yield self._ranking(request, visitors, i, None, "popular", "no_ranker")
            return
        asked: dict[GeneratorName, int] = dict.fromkeys(rules.generators or (), _BUDGET)
        also = self._also(requests)
        chunks: Iterable[Chunk]
        strategy: Strategy
        if rules.ranked and two_stage:
            # The others propose too: a ranker is used to places among the candidates of all.
            strategy = "predictive" if name == "predictive" else "one_to_one"
            chunks = two_stage.rank(self.snapshot, visitors, asked | two_stage.budgets, also)
        else:
            strategy, chunks = "generators", fused(self.bundle.generators, self.snapshot, visitors, asked, also)
        if strategy == "predictive":
            known = np.bincount(visitors.query[visitors.item >= 0], minlength=len(visitors)) > 0
        else:
            known = np.ones(len(visitors), bool)
        for start, batch, found, score in chunks:
            bounds = found.query.searchsorted(np.arange(len(batch) + 1)).tolist()
            for i, (first, end) in enumerate(pairwise(bounds), start):
                rows = np.arange(first, end)
                ranked = rows, found, score, batch
                yield self._ranking(requests[i], visitors, i, ranked, strategy, None if known[i] else "unknown_visitor")

    def _also(self, requests: Sequence[RankingRequest]) -> list[np.ndarray] | None:
        """Items that are ranked though nobody proposes them, for each request, rising."""
        if not any(r.rules.best_too for r in requests):
            return None
        return [self._also_of(r.rules) for r in requests]

    def _also_of(self, rules: RankingRules) -> np.ndarray:
        if not rules.best_too or rules.allowed is None:
            return np.zeros(0, np.int64)
        best = self.bundle.generators[Popular].best_sellers
        return np.sort(best[rules.allowed[best]][: rules.best_too])

    def _ranking(
        self,
        request: RankingRequest,
        visitors: Visitors,
        row: int,
        ranked: tuple[np.ndarray, Candidates, np.ndarray, Visitors] | None,
        strategy: Strategy,
        fallback: Fallback | None,
    ) -> Ranking:
        """Without what is excluded, cut to the limit or filled up to it."""
        rules, s = request.rules, self.snapshot
        free = self._free(request)
        items, scores = np.zeros(0, np.int64), list[float]()
        generators: list[tuple[str, ...]] = []
        behind = None
        if ranked is not None:
            rows, found, score, batch = ranked
            if rules.generators is not None:
                rows = rows[_proposed_by(self.bundle.generators, rules.generators, found.proposed[rows])]
            rows = (rows if free is None else rows[free[found.item[rows]]])[: request.limit + rules.more]
            items, scores = found.item[rows], score[rows].tolist()
            proposers = self.bundle.generators.proposers
            generators = [proposers(p) or ("popular",) for p in found.proposed[rows].tolist()]
            if rules.reasons:
                told = found.only(rows[: request.limit + _RESERVE])
                behind = RankedCandidates(self.bundle.generators, s, batch, told, rules.reasons)
        ordered = len(items)
        for name in rules.fill:
            wanted = request.limit - len(items)
            if wanted <= 0:
                break
            free = np.ones(len(s.items), bool) if free is None else free
            free[items] = False
            best = self._best(name, visitors, row)
            best = best[free[best]][:wanted]
            floor = scores[-1] if scores else 0.0
            items = np.concatenate([items, best])
            scores += [floor - 1 - n for n in range(len(best))]
            generators += [(name,)] * len(best)
        return Ranking(
            item_ids=s.items.at(items),
            scores=scores,
            generators=generators,
            strategy=strategy if ordered else "popular",
            fallback=fallback,
            segment=s.segment(int(visitors.customers[row])),
            ordered=ordered,
            candidates=behind,
            positions=items,
        )

    def _free(self, request: RankingRequest) -> np.ndarray | None:
        """bool[items], the request's own: what may be in its answer; None: everything."""
        rules, s = request.rules, self.snapshot
        if rules.allowed is None and not request.exclude:
            return None
        free = np.ones(len(s.items), bool) if rules.allowed is None else rules.allowed.copy()
        banned = s.items.find(list(request.exclude))
        free[banned[banned >= 0]] = False
        return free

    def _best(self, name: GeneratorName, visitors: Visitors, row: int) -> np.ndarray:
        """Positions of all items that a generator has something to say for, best first."""
        if name == "popular":
            return self.bundle.generators[Popular].best_sellers
        scores = self.bundle.generators.scores(name, self.snapshot, visitors.only(np.array([row])))
        every = np.arange(len(self.snapshot.items))
        said = scores.at(np.zeros(len(every), np.int64), every)
        best = np.argsort(-said, kind="stable")
        return best[said[best] > 0]


def _only_visit_generators(rules: RankingRules) -> bool:
    """Whether only generators that look at the visit are asked."""
    return rules.generators is not None and all(NAMED_SCORES[name].basis == "visit" for name in rules.generators)


def _proposed_by(generators: Generators, names: Iterable[GeneratorName], proposed: np.ndarray) -> np.ndarray:
    """bool: whether one of the generators `names` proposed each."""
    bits = sum(1 << column for column in generators.columns(names))
    return proposed & bits > 0


def _group_by_rules(rules: Sequence[RankingRules]) -> list[list[int]]:
    """Positions of rules that ask the same generators and order alike."""
    groups: dict[tuple[object, bool], list[int]] = {}
    for n, rule in enumerate(rules):
        groups.setdefault((rule.generators, rule.ranked), []).append(n)
    return list(groups.values())


def build_visitors(snapshot: Snapshot, requests: Sequence[RankingRequest]) -> Visitors:
    """The visitors as training sees them: a customer without history is one whom the snapshot does not know."""
    customers = snapshot.customers.find([r.customer_id or "" for r in requests])
    events = [(row, SessionEvent(*event)) for row, request in enumerate(requests) for event in request.recent]
    events = [(row, event) for row, event in events if event.name in KIND]
    customers = np.where(snapshot.has_history(customers), customers, -1)
    if not events:
        return Visitors.of_customers(customers)
    return Visitors.from_events(
        customers,
        np.array([row for row, _ in events], np.int64),
        snapshot.items.find([event.item_id for _, event in events]),
        np.array([KIND[event.name] for _, event in events], np.uint8),
        np.array([event.age for _, event in events], np.float32),  # None becomes NaN
        np.array([event.price for _, event in events], np.float32),
    )
