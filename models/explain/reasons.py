"""Why a product is recommended, as codes with the item and the numbers behind them.

A reason states a fact of the snapshot or of the visit: it is true whatever the ranker made of it. Nothing is said
of anyone but the visitor; other people appear as counts of two and more, except as buyers of an item.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from features.ranking.visitors import KIND, VISIT_EVENTS, Visitors
from features.tables.history import COLUMN as HISTORY
from features.tables.history import TYPE_WEIGHT
from models.candidates.generators import Generators
from models.candidates.registry import NAMED_SCORES, GeneratorName
from models.candidates.user_knn import UserKnn
from models.candidates.user_profile import ProfileItems, profile_items
from models.explain.codes import REASON_CODES, STRENGTH_RANGES, Reason, ReasonCode
from models.explain.evidence import CandidateIndex
from models.interface import Ranking
from models.two_stage import Candidates

LEAST = 0.1  # a generator that scores a candidate below so much of its best has nothing to say for it
LEAST_TASTE = 0.3  # factors give almost every item some score
DUE = (0.75, 1.5)  # of the gap between orders; later, the habit is more likely gone
FEW = 3  # fewer buyers in four weeks are not called popular
REPEATS = 0.1  # an item that fewer of its buyers rebuy has no rhythm
_VISIT: tuple[tuple[ReasonCode, tuple[str, ...]], ...] = (
    ("bought_in_visit", ("purchase",)),
    ("carted_in_visit", ("add_to_cart",)),
    ("wished_in_visit", ("add_to_wishlist",)),
    ("viewed_in_visit", ("view_item", "select_item")),
)


def ranking_reasons(ranking: Ranking) -> list[list[Reason]] | None:
    """For each item of a ranking its reasons, strongest first; none for what fills it up.

    None where the request wanted no reasons, and where nothing was ranked.
    """
    behind = ranking.candidates
    if behind is None:
        return None
    ranked = reasons(behind.generators, behind.snapshot, behind.visitors, behind.candidates, behind.max_reasons)
    return ranked + [[] for _ in range(len(ranking.item_ids) - len(ranked))]


def reasons(
    generators: Generators, snapshot: Snapshot, visitors: Visitors, found: Candidates, most: int = 3
) -> list[list[Reason]]:
    """For each row of `found`, in its order, its reasons: at least one, at most `most`, strongest first.

    `visitors` and `found` are what the answer was ranked by (`two_stage.propose`, `TwoStage.rank`); `found` may hold
    any rows of it. A row's reasons do not depend on the other rows.
    """
    made = _ReasonBuilder(generators, snapshot, visitors, found, most)
    made.own_history()
    made.this_visit()
    made.of_the_shop()
    made.item_to_item()
    made.people()
    made.categories()
    made.if_nothing_else()
    return made.strongest()


@dataclass(frozen=True)
class _ReasonBlock:
    code: ReasonCode
    rows: np.ndarray
    strength: np.ndarray
    item: np.ndarray | None
    values: dict[str, np.ndarray]


class _ReasonBuilder:
    def __init__(
        self, generators: Generators, snapshot: Snapshot, visitors: Visitors, found: Candidates, most: int
    ) -> None:
        self.generators, self.snapshot, self.visitors, self.found = generators, snapshot, visitors, found
        self.targets = CandidateIndex(found.query, found.item, len(visitors), len(snapshot.items))
        self.history: ProfileItems = profile_items(snapshot, visitors, "history")
        self.visit: ProfileItems = profile_items(snapshot, visitors, "visit")
        self.lately, self.ever = (
            np.nan_to_num(snapshot.item(name)[found.item]).astype(np.int64) for name in ("buyers_28d", "buyers")
        )
        self.said: list[_ReasonBlock] = []
        self.top = np.full((len(found.item), most), -1.0)  # the strongest of each row so far, -1 for none

    def score(self, name: GeneratorName) -> np.ndarray:
        """float32[n], best 1: what a generator says of each row, over the best of the visitor's candidates."""
        return self.found.scores[:, self.generators.names.index(name)]

    def add(
        self, code: ReasonCode, holds: np.ndarray, strength: np.ndarray, item: np.ndarray | None = None, **values: np.ndarray
    ) -> None:
        rows = np.flatnonzero(holds)
        cited = None if item is None else item[rows]
        self.add_at(code, rows, strength[rows], cited, **{name: v[rows] for name, v in values.items()})

    def add_at(
        self, code: ReasonCode, rows: np.ndarray, strength: np.ndarray, item: np.ndarray | None = None, **values: np.ndarray
    ) -> None:
        """The same with one entry per row."""
        if len(rows):
            worth = _strength(code, strength)
            self.said.append(_ReasonBlock(code, rows, worth, item, values))
            top = self.top[rows]
            least = top.argmin(axis=1)
            self.top[rows, least] = np.maximum(top[np.arange(len(rows)), least], worth)

    def open(self, code: ReasonCode, score: np.ndarray, least: float = LEAST) -> np.ndarray:
        """bool[n]: where such a reason holds and may be among the strongest; to look elsewhere is work for nothing."""
        holds: np.ndarray = (score > least) & (_strength(code, score) >= self.top.min(axis=1))
        return holds

    def own_history(self) -> None:
        """What the visitor bought, carted and viewed of the candidate itself."""
        h = self.snapshot.history
        at = self.visitors.find(h, self.found.query, self.found.item)
        if not len(at) or at.max() < 0:
            return
        pair = np.where(at[:, None] >= 0, h.values[np.maximum(at, 0)], np.float32(np.nan))
        orders, last, viewed = (pair[:, HISTORY[c]] for c in ("orders", "bought_last_days", "viewed_last_days"))
        # The generator's score, by what it is made of.
        bought = pair[:, HISTORY["bought_by_basket"]] + pair[:, HISTORY["bought_decayed"]]
        carts = np.float32(TYPE_WEIGHT["add_to_cart"]) * pair[:, HISTORY["carts_decayed"]]
        views = np.float32(TYPE_WEIGHT["view_item"]) * pair[:, HISTORY["views_decayed"]]
        whole = self.score("history") / np.maximum(bought + carts + views, np.float32(1e-30))
        times = np.nan_to_num(orders).astype(np.int64)
        self.add("bought_often", orders > 1, whole * bought, orders=times, days_ago=last)
        self.add("bought_before", orders == 1, whole * bought, orders=times, days_ago=last)
        self.add("carted_before", (orders == 0) & (carts > 0), whole * carts)
        looked = (views > 0) & ((orders == 0) | (viewed < last))
        self.add("viewed_before", looked, whole * views, days_ago=viewed)
        self._due(orders, last, pair[:, HISTORY["bought_first_days"]])

    def _due(self, orders: np.ndarray, last: np.ndarray, first: np.ndarray) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(orders > 1, (first - last) / (orders - 1), np.float32(np.nan))
            rebought = self.snapshot.item("repeat_share")[self.found.item] >= REPEATS
            of_item = np.where(
                np.isnan(own) & rebought, self.snapshot.item("repeat_gap_days")[self.found.item], np.float32(np.nan)
            )
            for code, gap in (("due_again", own), ("due_again_by_item", of_item)):
                cycle = last / gap
                holds = (gap >= 1) & (cycle >= DUE[0]) & (cycle <= DUE[1])
                nearness = np.minimum(cycle, 1 / cycle)
                self.add(code, holds, nearness, days_ago=last, gap_days=gap)  # type: ignore[arg-type]

    def this_visit(self) -> None:
        """What the visit did with the candidate itself: `events` times, the last `events_ago` events before now."""
        v = self.visitors
        touched = np.flatnonzero(v.item >= 0)
        entry, row = self.targets.find(v.query[touched], v.item[touched])
        if not len(entry):
            return
        entry, n = touched[entry], len(self.found.item)
        # A cart that was emptied again weighs as a view, and is told as one.
        emptied = (v.kind[entry] == KIND["add_to_cart"]) & (v.weight[entry] < VISIT_EVENTS["add_to_cart"])
        kind = np.where(emptied, KIND["view_item"], v.kind[entry])
        for code, names in _VISIT:
            of = np.isin(kind, [KIND[name] for name in names])  # type: ignore[index]
            events, ago = np.bincount(row[of], minlength=n), np.full(n, np.iinfo(np.int64).max)
            np.minimum.at(ago, row[of], v.back[entry[of]])
            self.add(code, events > 0, self.score("visit"), events=events, events_ago=ago)

    def item_to_item(self) -> None:
        """The visitor's item that contributes most to a candidate's score, by the generator with the highest score.

        Which reason a generator's candidates have is declared beside it (`NamedScore.reason`).
        """
        by_reason: dict[ReasonCode, list[GeneratorName]] = {}
        for name in self.generators.names:
            if reason := NAMED_SCORES[name].reason:
                by_reason.setdefault(reason, []).append(name)
        for code, names in by_reason.items():
            each = np.stack([self.score(name) for name in names])
            strongest, strength = each.argmax(axis=0), each.max(axis=0)
            holds = self.open(code, strength)
            for n, name in enumerate(names):
                rows = np.flatnonzero(holds & (strongest == n))
                if len(rows):
                    similarity, items = self.generators.evidence(name, self.snapshot, self.visitors)
                    behind = self.targets.behind(rows, similarity, items)
                    # An item that is behind a tenth of the score explains little of it.
                    worth = strength[rows] * np.sqrt(behind.share)
                    self.add_at(code, rows, worth, behind.item, share=behind.share, items=behind.items)

    def people(self) -> None:
        """Customers alike."""
        alike = self.score("neighbours")
        rows = np.flatnonzero(self.open("people_like_you", alike))
        if len(rows):
            bought, of = self.targets.bought_by(rows, self.snapshot, self.generators[UserKnn], self.visitors)
            several = bought > 1  # of a single other customer nothing is told
            rows, bought, of = rows[several], bought[several], of[several]
            self.add_at("people_like_you", rows, alike[rows], neighbours_bought=bought, neighbours=of)

    def of_the_shop(self) -> None:
        """What sells, to everyone and to the visitor's segment, and what the visitor's taste is said to be."""
        taste, segment, popular = (self.score(name) for name in ("als", "popular_segment", "popular"))
        self.add("fits_taste", taste > LEAST_TASTE, taste)
        self.add("popular", (popular > LEAST) & (self.lately >= FEW), popular, buyers_28d=self.lately)
        # Only where it says more than that everybody buys it.
        more = (segment > LEAST) & (segment > popular)
        if more.any():
            customers = np.maximum(self.visitors.customers[self.found.query], 0)
            names = np.array(SEGMENT_NAMES, object)[self.snapshot.segments[customers]]
            self.add("popular_with_segment", more, segment, segment=names)

    def categories(self) -> None:
        """What sells and what is new in the categories of the visitor's items."""
        sells, new = self.score("popular_category"), self.score("arrivals")
        holds = self.open("popular_in_category", sells) & (self.lately >= FEW)
        fresh = self.open("new_in_your_category", new)
        rows = np.flatnonzero(holds | fresh)
        if not len(rows):
            return
        kin = np.full(len(holds), -1)
        kin[rows] = self.targets.kin(rows, self.snapshot.categories, [self.visit, self.history])
        age = self.snapshot.item("age_days")[self.found.item]
        self.add("popular_in_category", holds & (kin >= 0), sells, kin, buyers_28d=self.lately)
        self.add("new_in_your_category", fresh & (kin >= 0), new, kin, age_days=age)
        self.add("new_arrival", fresh & (kin < 0), new, age_days=age)

    def if_nothing_else(self) -> None:
        bare = self.top.max(axis=1) < 0
        if bare.any():
            few, one = bare & (self.lately < FEW), np.ones(len(bare))
            self.add("popular", bare & (self.lately >= FEW), self.score("popular"), buyers_28d=self.lately)
            self.add("sold_before", few & (self.ever > 0), one, buyers=self.ever)
            self.add("in_range", few & (self.ever == 0), one)

    def strongest(self) -> list[list[Reason]]:
        out: list[list[Reason]] = [[] for _ in self.found.item]
        if not out:
            return out
        sizes = [len(said.rows) for said in self.said]
        row = np.concatenate([said.rows for said in self.said])
        strength = np.concatenate([said.strength for said in self.said])
        block = np.repeat(np.arange(len(sizes)), sizes)
        code = np.repeat([REASON_CODES.index(said.code) for said in self.said], sizes)
        order = np.lexsort((code, -strength, row))
        place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
        order = order[place < self.top.shape[1]]
        cited = np.concatenate([np.full(len(s.rows), -1) if s.item is None else s.item for s in self.said])[order]
        ids = iter(self.snapshot.items.at(cited[cited >= 0]))
        named = [next(ids) if c >= 0 else None for c in cited.tolist()]
        starts = np.cumsum(sizes) - sizes
        values: list[dict[str, Any]] = [{} for _ in named]
        for b, said in enumerate(self.said):
            kept = np.flatnonzero(block[order] == b)
            at = order[kept] - starts[b]
            for name, column in said.values.items():
                for n, value in zip(kept.tolist(), column[at].tolist(), strict=True):
                    values[n][name] = value
        lines = zip(row[order].tolist(), block[order].tolist(), strength[order].tolist(), named, values, strict=True)
        for r, b, worth, item_id, numbers in lines:
            out[r].append(Reason(self.said[b].code, worth, item_id, numbers))
        return out


def _strength(code: ReasonCode, score: np.ndarray) -> np.ndarray:
    low, high = STRENGTH_RANGES[code]
    worth: np.ndarray = low + (high - low) * np.minimum(np.maximum(score.astype(np.float64), 0), 1)
    return worth
