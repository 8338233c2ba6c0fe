"""A bundle that answers: each visitor goes to the recommender that knows most of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from features.visitors import KIND, Visitors
from models.bundle import Bundle, RecommenderName
from models.candidates.generators import GENERATORS
from models.candidates.popular import popularity
from models.ranking import Fallback, Ranking, Request


def load(path: Path) -> "BundleRecommender":
    """The recommender in bundle directory `path`. Raises `InputError` where the bundle does not fit."""
    return BundleRecommender(Bundle.load(path))


@dataclass(frozen=True)
class BundleRecommender:
    """Implements `models.ranking.Recommender` on a bundle."""

    bundle: Bundle

    @property
    def info(self) -> dict[str, object]:
        return self.bundle.info()

    def recommend(self, requests: Sequence[Request]) -> list[Ranking]:
        """Answer i belongs to request i, and does not depend on the other requests.

        Customers with history go to one_to_one, everyone else to predictive. Where the candidates are
        fewer than the limit, popular items follow; an answer is shorter only if the catalog is.
        """
        snapshot = self.bundle.snapshot
        customers = snapshot.customers.find([r.customer_id or "" for r in requests])
        personal = snapshot.has_history(customers)
        answers: dict[int, Ranking] = {}
        routes: tuple[tuple[RecommenderName, np.ndarray], ...] = (
            ("one_to_one", np.flatnonzero(personal)),
            ("predictive", np.flatnonzero(~personal)),
        )
        for name, rows in routes:
            if len(rows) and name in self.bundle.recommenders:
                part = [requests[i] for i in rows]
                # one_to_one ranks as of the snapshot: its ranker has not seen the visit's events in training.
                visitors = self._visitors(part, customers[rows], with_visit=name == "predictive")
                answers |= dict(zip(rows.tolist(), self._ranked(name, part, visitors), strict=True))
            else:
                answers |= {int(i): self.popular(requests[i], "no_ranker") for i in rows}
        return [answers[i] for i in range(len(requests))]

    def popular(self, request: Request, fallback: Fallback) -> Ranking:
        """The last resort: what sells now, without a ranker."""
        customer = int(self.bundle.snapshot.customers.find([request.customer_id or ""])[0])
        empty = Ranking([], [], [], "popular", fallback, self.bundle.snapshot.segment(customer))
        return self._topped_up(request, empty)

    def _visitors(self, requests: Sequence[Request], customers: np.ndarray, with_visit: bool) -> Visitors:
        if not with_visit:
            return Visitors.of_customers(customers)
        events = [
            (row, item, KIND[name])
            for row, request in enumerate(requests)
            for item, name in request.recent
            if name in KIND
        ]
        query = np.array([e[0] for e in events], np.int64)
        item = self.bundle.snapshot.items.find([e[1] for e in events])
        kind = np.array([e[2] for e in events], np.uint8)
        return Visitors.of(customers, query, item, kind)

    def _ranked(self, name: RecommenderName, requests: Sequence[Request], visitors: Visitors) -> list[Ranking]:
        snapshot = self.bundle.snapshot
        active = np.bincount(visitors.query[visitors.item >= 0], minlength=len(visitors)) > 0
        rankings = []
        for start, batch, found, score in self.bundle.recommenders[name].rank(snapshot, visitors):
            bounds = np.searchsorted(found.query, np.arange(len(batch) + 1))
            for i, first, end in zip(range(start, start + len(batch)), bounds[:-1], bounds[1:], strict=True):
                request = requests[i]
                last = min(end, first + request.limit + len(request.exclude))
                unknown = name == "predictive" and not active[i]
                ranking = Ranking(
                    item_ids=snapshot.items.at(found.item[first:last]),
                    scores=score[first:last].tolist(),
                    generators=[_proposers(p) for p in found.proposed[first:last].tolist()],
                    strategy=name,
                    fallback="unknown_visitor" if unknown else None,
                    segment=snapshot.segment(int(visitors.customers[i])),
                )
                rankings.append(self._topped_up(request, ranking))
        return rankings

    def _topped_up(self, request: Request, ranking: Ranking) -> Ranking:
        """Without what is excluded, cut to the limit or filled up to it by popularity."""
        keep = [i for i, item in enumerate(ranking.item_ids) if item not in request.exclude][: request.limit]
        items = [ranking.item_ids[i] for i in keep]
        scores = [ranking.scores[i] for i in keep]
        generators = [ranking.generators[i] for i in keep]
        if len(items) < request.limit:
            taken = request.exclude | set(items)
            most = self.bundle.snapshot.items.at(self._by_popularity[: request.limit + len(taken)])
            more = [item for item in most if item not in taken][: request.limit - len(items)]
            floor = scores[-1] if scores else 0.0
            items += more
            scores += [floor - 1 - n for n in range(len(more))]
            generators += [("popular",)] * len(more)
        return replace(ranking, item_ids=items, scores=scores, generators=generators)

    @cached_property
    def _by_popularity(self) -> np.ndarray:
        return np.argsort(-popularity(self.bundle.snapshot), kind="stable")


@cache
def _proposers(mask: int) -> tuple[str, ...]:
    return tuple(name for bit, name in enumerate(GENERATORS) if mask >> bit & 1)
