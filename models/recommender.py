"""A bundle that answers: each visitor goes to the recommender that knows most of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.snapshot import Snapshot
from features.visitors import KIND, Visitors
from models.bundle import Bundle, RecommenderName
from models.ranking import Fallback, Ranking, Request, Seen
from models.two_stage import proposers


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
        answers: dict[int, Ranking] = {}
        for name, rows, visitors in self.routed(requests):
            part = [requests[i] for i in rows]
            if name in self.bundle.recommenders:
                answers |= dict(zip(rows, self._ranked(name, part, visitors), strict=True))
            else:
                answers |= {i: self.popular(request, "no_ranker") for i, request in zip(rows, part, strict=True)}
        return [answers[i] for i in range(len(requests))]

    def routed(self, requests: Sequence[Request]) -> Iterator[tuple[RecommenderName, list[int], Visitors]]:
        """Which recommender answers which requests, and what it is to know of their visitors."""
        visitors = visitors_of(self.bundle.snapshot, requests)
        personal, active = visitors.customers >= 0, visitors.active
        if "one_to_one_visit" not in self.bundle.recommenders:
            active = active & ~personal  # a ranker that has not seen visits in training is not told of any
        routes: tuple[tuple[RecommenderName, np.ndarray], ...] = (
            ("one_to_one", np.flatnonzero(personal & ~active)),
            ("one_to_one_visit", np.flatnonzero(personal & active)),
            ("predictive", np.flatnonzero(~personal)),
        )
        for name, rows in routes:
            if len(rows):
                told = visitors.only(rows)
                yield name, rows.tolist(), Visitors.of_customers(told.customers) if name == "one_to_one" else told

    def popular(self, request: Request, fallback: Fallback) -> Ranking:
        """The last resort: what sells now, without a ranker."""
        customer = int(self.bundle.snapshot.customers.find([request.customer_id or ""])[0])
        empty = Ranking([], [], [], "popular", fallback, self.bundle.snapshot.segment(customer))
        return self._topped_up(request, empty)

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
                    generators=[proposers(p) for p in found.proposed[first:last].tolist()],
                    strategy="predictive" if name == "predictive" else "one_to_one",
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
            best_sellers = self.bundle.generators.popular.best_sellers
            most = self.bundle.snapshot.items.at(best_sellers[: request.limit + len(taken)])
            more = [item for item in most if item not in taken][: request.limit - len(items)]
            floor = scores[-1] if scores else 0.0
            items += more
            scores += [floor - 1 - n for n in range(len(more))]
            generators += [("popular",)] * len(more)
        return replace(ranking, item_ids=items, scores=scores, generators=generators)


def visitors_of(snapshot: Snapshot, requests: Sequence[Request]) -> Visitors:
    """The visitors as training sees them: a customer without history is one whom the snapshot does not know."""
    customers = snapshot.customers.find([r.customer_id or "" for r in requests])
    events = [(row, Seen(*event)) for row, request in enumerate(requests) for event in request.recent]
    events = [(row, event) for row, event in events if event.name in KIND]
    return Visitors.of(
        np.where(snapshot.has_history(customers), customers, -1),
        np.array([row for row, _ in events], np.int64),
        snapshot.items.find([event.item_id for _, event in events]),
        np.array([KIND[event.name] for _, event in events], np.uint8),
        np.array([event.age for _, event in events], np.float32),  # None becomes NaN
        np.array([event.price for _, event in events], np.float32),
    )
