"""Bundle recommender: rankings from a bundle, each visitor by the recommender that suits what is known of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from features.common.arrays import BoolArray, Float64Array, Int64Array, UInt32Array
from features.common.memory import keep_freed_memory
from features.event_log.stated_answers import PREFERENCES
from features.ranking.snapshot import Snapshot
from features.ranking.stated_preferences import state
from features.ranking.visitors import KIND, Visitors
from models.availability import catalog_available
from models.bundle import Bundle, RecommenderName
from models.candidates.generators import Generators
from models.candidates.popular import Popular
from models.candidates.registry import NAMED_SCORES, GeneratorName
from models.customers.predictions import CustomerPredictions
from models.interface import Fallback, RankedCandidates, Ranking, RankingRequest, RankingRules, SessionEvent, Strategy
from models.two_stage import Candidates, Chunk, rank_by_score_fusion

_RESERVE = 60  # candidates beyond the limit that have reasons: among these the order of a slate chooses
_BUDGET = 100  # of a generator that a request names and its recommender does not use


def load(path: Path) -> "BundleRecommender":
    """Load the recommender in bundle directory `path`. Raises `InputError` where the bundle does not fit."""
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

    @property
    def predictions(self) -> CustomerPredictions:
        """What each customer is expected to do next."""
        return self.bundle.predictions

    def recommend(self, requests: Sequence[RankingRequest]) -> list[Ranking]:
        """Rank for each request: ranking i belongs to request i, and does not depend on the other requests.

        Customers with history go to one_to_one, everyone else to predictive. Where there are fewer candidates than the
        limit, the generators of `RankingRules.fill` fill up, by default best sellers; a ranking is shorter only if
        there are fewer items that may be shown. Without `RankingRules.allowed`, unavailable items may not.
        """
        rankings: dict[int, Ranking] = {}
        for name, rows, visitors in self.route(requests):
            for positions in _group_by_rules([requests[i].rules for i in rows]):
                members = [rows[p] for p in positions]
                batch = self._rank(name, [requests[i] for i in members], visitors.only(np.array(positions)))
                rankings |= dict(zip(members, batch, strict=True))
        return [rankings[i] for i in range(len(requests))]

    def route(self, requests: Sequence[RankingRequest]) -> Iterator[tuple[RecommenderName, list[int], Visitors]]:
        """Yield which recommender ranks for which requests, with the visitors as it takes them."""
        visitors = build_visitors(self.snapshot, requests)
        personal, active = visitors.customers >= 0, visitors.active
        about_visit = np.zeros(len(requests), bool)
        if "one_to_one_visit" not in self.bundle.recommenders:
            # A ranker trained without visits gets none; requests about the visit go to the ranker trained on visits.
            about_visit = personal & active & np.array([_only_visit_generators(r.rules) for r in requests], bool)
            active = active & ~personal
        routes: tuple[tuple[RecommenderName, Int64Array], ...] = (
            ("one_to_one", np.flatnonzero(personal & ~active & ~about_visit)),
            ("one_to_one_visit", np.flatnonzero(personal & active)),
            ("predictive", np.flatnonzero(~personal | about_visit)),
        )
        for name, rows in routes:
            if len(rows):
                batch = visitors.only(rows)
                if name == "one_to_one" and len(batch.query):
                    batch = Visitors.of_customers(batch.customers, batch.stated)
                yield name, rows.tolist(), batch

    def recommend_without_ranker(self, request: RankingRequest, fallback: Fallback) -> Ranking:
        """Rank by the generators that fill up alone, in the order of the request's rules."""
        visitors = build_visitors(self.snapshot, [request])
        return self._ranking(request, visitors, 0, None, "popular", fallback)

    def _rank(self, name: RecommenderName, requests: list[RankingRequest], visitors: Visitors) -> Iterator[Ranking]:
        """Rank for requests of one group of `_group_by_rules`."""
        rules, two_stage = requests[0].rules, self.bundle.recommenders.get(name)
        if two_stage is None and rules.use_ranker:
            for i, request in enumerate(requests):
                yield self._ranking(request, visitors, i, None, "popular", "no_ranker")
            return
        budgets: dict[GeneratorName, int] = dict.fromkeys(rules.generators or (), _BUDGET)
        extra_items = self._extra_items(requests)
        chunks: Iterable[Chunk]
        strategy: Strategy
        if rules.use_ranker and two_stage:
            # The other generators propose too: the ranker was trained on ranks among the candidates of all.
            strategy = "predictive" if name == "predictive" else "one_to_one"
            chunks = two_stage.rank(self.snapshot, visitors, budgets | two_stage.budgets, extra_items)
        else:
            strategy = "generators"
            chunks = rank_by_score_fusion(self.bundle.generators, self.snapshot, visitors, budgets, extra_items)
        if strategy == "predictive":
            known = np.bincount(visitors.query[visitors.item >= 0], minlength=len(visitors)) > 0
            known[visitors.stated.query] = True
        else:
            known = np.ones(len(visitors), bool)
        for start, batch, candidates, score in chunks:
            bounds = candidates.query.searchsorted(np.arange(len(batch) + 1)).tolist()
            for i, (first, end) in enumerate(pairwise(bounds), start):
                rows = np.arange(first, end)
                ranked = rows, candidates, score, batch
                yield self._ranking(requests[i], visitors, i, ranked, strategy, None if known[i] else "unknown_visitor")

    def _extra_items(self, requests: Sequence[RankingRequest]) -> list[Int64Array] | None:
        """Return the items that are ranked without being proposed, for each request, rising."""
        if not any(r.rules.extra_best_sellers for r in requests):
            return None
        return [self._best_sellers(r.rules) for r in requests]

    def _best_sellers(self, rules: RankingRules) -> Int64Array:
        if not rules.extra_best_sellers or rules.allowed is None:
            return np.zeros(0, np.int64)
        best = self.bundle.generators[Popular].best_sellers
        return np.sort(best[rules.allowed[best]][: rules.extra_best_sellers])

    @cached_property
    def _shown_by_default(self) -> BoolArray | None:
        """bool[items]: what rankings may hold whose rules do not say so; None: every item."""
        mask = catalog_available(self.snapshot)
        return None if mask.all() else mask

    def _ranking(
        self,
        request: RankingRequest,
        visitors: Visitors,
        row: int,
        ranked: tuple[Int64Array, Candidates, Float64Array, Visitors] | None,
        strategy: Strategy,
        fallback: Fallback | None,
    ) -> Ranking:
        """Build a ranking without excluded items, cut to the limit or filled up to it."""
        rules, s = request.rules, self.snapshot
        available = self._available(request)
        items, scores = np.zeros(0, np.int64), list[float]()
        generators: list[tuple[str, ...]] = []
        ranked_candidates = None
        if ranked is not None:
            rows, candidates, score, batch = ranked
            if rules.generators is not None:
                rows = rows[_proposed_by(self.bundle.generators, rules.generators, candidates.proposed[rows])]
            rows = rows if available is None else rows[available[candidates.item[rows]]]
            rows = rows[: request.limit + rules.reserve]
            items, scores = candidates.item[rows], score[rows].tolist()
            proposers = self.bundle.generators.proposers
            generators = [proposers(p) or ("popular",) for p in candidates.proposed[rows].tolist()]
            if rules.max_reasons:
                first = candidates.only(rows[: request.limit + _RESERVE])
                ranked_candidates = RankedCandidates(self.bundle.generators, s, batch, first, rules.max_reasons)
        n_ranked = len(items)
        for name in rules.fill:
            missing = request.limit - len(items)
            if missing <= 0:
                break
            available = np.ones(len(s.items), bool) if available is None else available
            available[items] = False
            best = self._rank_all(name, visitors, row)
            best = best[available[best]][:missing]
            floor = scores[-1] if scores else 0.0
            items = np.concatenate([items, best])
            scores += [floor - 1 - n for n in range(len(best))]
            generators += [(name,)] * len(best)
        return Ranking(
            item_ids=s.items.at(items),
            scores=scores,
            generators=generators,
            strategy=strategy if n_ranked else "popular",
            fallback=fallback,
            segment=s.segment(int(visitors.customers[row])),
            n_ranked=n_ranked,
            candidates=ranked_candidates,
            positions=items,
        )

    def _available(self, request: RankingRequest) -> BoolArray | None:
        """Return which items the ranking may hold, bool[items], an array of its own; None: all."""
        s = self.snapshot
        allowed = self._shown_by_default if request.rules.allowed is None else request.rules.allowed
        if allowed is None and not request.exclude:
            return None
        available = np.ones(len(s.items), bool) if allowed is None else allowed.copy()
        excluded = s.items.find(list(request.exclude))
        available[excluded[excluded >= 0]] = False
        return available

    def _rank_all(self, name: GeneratorName, visitors: Visitors, row: int) -> Int64Array:
        """Return the positions of all items with a score above 0 by a generator, best first."""
        if name == "popular":
            return self.bundle.generators[Popular].best_sellers
        scores = self.bundle.generators.scores(name, self.snapshot, visitors.only(np.array([row])))
        every = np.arange(len(self.snapshot.items))
        values = scores.at(np.zeros(len(every), np.int64), every)
        best = np.argsort(-values, kind="stable")
        return best[values[best] > 0]


def _only_visit_generators(rules: RankingRules) -> bool:
    """Return whether the rules name generators, and all of them score by the visit."""
    return rules.generators is not None and all(NAMED_SCORES[name].basis == "visit" for name in rules.generators)


def _proposed_by(generators: Generators, names: Iterable[GeneratorName], proposed: UInt32Array) -> BoolArray:
    """Return whether one of the generators `names` proposed each candidate, bool[n]."""
    bits = sum(1 << column for column in generators.columns(names))
    return proposed & bits > 0


def _group_by_rules(rules: Sequence[RankingRules]) -> list[list[int]]:
    """Group the positions of rules with the same generators and the same order."""
    groups: dict[tuple[object, bool], list[int]] = {}
    for n, rule in enumerate(rules):
        groups.setdefault((rule.generators, rule.use_ranker), []).append(n)
    return list(groups.values())


def build_visitors(snapshot: Snapshot, requests: Sequence[RankingRequest]) -> Visitors:
    """Build the visitors as in training: a customer without history counts as unknown."""
    customers = snapshot.customers.find([r.customer_id or "" for r in requests])
    events = [(row, SessionEvent(*event)) for row, request in enumerate(requests) for event in request.recent]
    answers = [(row, event) for row, event in events if event.name == PREFERENCES]
    events = [(row, event) for row, event in events if event.name in KIND]
    stated = state(
        snapshot.answers,
        customers,
        np.array([row for row, _ in answers], np.int64),
        [event.question for _, event in answers],
        [event.answer for _, event in answers],
    )
    customers = np.where(snapshot.has_history(customers), customers, -1)
    if not events:
        return Visitors.of_customers(customers, stated)
    return Visitors.from_events(
        customers,
        np.array([row for row, _ in events], np.int64),
        snapshot.items.find([event.item_id for _, event in events]),
        np.array([KIND[event.name] for _, event in events], np.uint8),
        np.array([event.age for _, event in events], np.float32),  # None becomes NaN
        np.array([event.price for _, event in events], np.float32),
        stated,
    )
