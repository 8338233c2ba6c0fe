"""Why a product is recommended, as codes with the item and the numbers behind them.

A reason states a fact of the snapshot or of the visit: it is true whatever the ranker made of it. Nothing is said
of anyone but the visitor; other people appear as counts of two and more, except as buyers of an item.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from features.history import COLUMN as HISTORY
from features.history import TYPE_WEIGHT
from features.realtime import DECAY
from features.snapshot import SEGMENT_NAMES, Snapshot
from features.visitors import KIND, VISIT_EVENTS, Visitors
from models.candidates.generators import GENERATORS, GeneratorName, Generators
from models.candidates.taste import asked
from models.evidence import Asked, Targets
from models.two_stage import Candidates

Code = Literal[
    "due_again",
    "due_again_by_item",
    "bought_often",
    "bought_before",
    "carted_in_visit",
    "wished_in_visit",
    "viewed_in_visit",
    "bought_in_visit",
    "carted_before",
    "viewed_before",
    "bought_with",
    "bought_next",
    "viewed_next",
    "like_what",
    "people_like_you",
    "popular_in_category",
    "new_in_your_category",
    "popular_with_segment",
    "new_arrival",
    "fits_taste",
    "popular",
    "sold_before",
    "in_range",
]
CODES: tuple[Code, ...] = get_args(Code)

# The strength of a reason at its best. What is said of this visitor alone goes before what is said of many: the best
# seller has the best score of its generator for everybody, and tells nobody why it is shown to them.
RELEVANCE: dict[Code, float] = {
    "due_again": 1.0,
    "due_again_by_item": 0.85,
    "bought_often": 0.95,
    "bought_before": 0.9,
    "carted_in_visit": 1.0,
    "wished_in_visit": 0.95,
    "viewed_in_visit": 0.9,
    "bought_in_visit": 0.7,
    "carted_before": 0.9,
    "viewed_before": 0.8,
    "bought_with": 0.8,
    "bought_next": 0.75,
    "viewed_next": 0.8,
    "like_what": 0.6,
    "people_like_you": 0.65,
    "popular_in_category": 0.5,
    "new_in_your_category": 0.5,
    "popular_with_segment": 0.35,
    "new_arrival": 0.35,
    "fits_taste": 0.3,
    "popular": 0.25,
    "sold_before": 0.05,
    "in_range": 0.01,
}
LEAST = 0.1  # a generator that scores a candidate below so much of its best has nothing to say for it
LEAST_TASTE = 0.3  # factors give almost every item some score
DUE = (0.75, 2.0)  # of the gap between orders; later, the habit is more likely gone
REPEATS = 0.1  # an item that fewer of its buyers rebuy has no rhythm
_ITEM_TO_ITEM: tuple[tuple[Code, tuple[GeneratorName, ...]], ...] = (
    ("bought_with", ("item_knn", "item_knn_last", "item_knn_visit")),
    ("bought_next", ("covisit_last",)),
    ("viewed_next", ("covisit_visit",)),
    ("like_what", ("content", "content_visit")),
)
_VISIT: tuple[tuple[Code, tuple[str, ...]], ...] = (
    ("bought_in_visit", ("purchase",)),
    ("carted_in_visit", ("add_to_cart",)),
    ("wished_in_visit", ("add_to_wishlist",)),
    ("viewed_in_visit", ("view_item", "select_item")),
)


class Reason(NamedTuple):
    """`strength` (0–1) compares the reasons of one item; `item_id` is the visitor's item it rests on, if one is;
    `values` are the numbers that its text speaks of, and the segment's name.
    """

    code: Code
    strength: float
    item_id: str | None
    values: Mapping[str, Any]


def reasons(
    generators: Generators, snapshot: Snapshot, visitors: Visitors, found: Candidates, most: int = 3
) -> list[list[Reason]]:
    """For each row of `found`, in its order, its reasons: at least one, at most `most`, strongest first.

    `visitors` and `found` are what the answer was ranked by (`two_stage.propose`, `TwoStage.rank`); `found` may hold
    any rows of it. A row's reasons do not depend on the other rows.
    """
    made = _Reasons(generators, snapshot, visitors, found)
    made.own_history()
    made.this_visit()
    made.item_to_item()
    made.people()
    made.of_the_shop()
    return made.strongest(most)


@dataclass(frozen=True)
class _Said:
    code: Code
    rows: np.ndarray
    strength: np.ndarray
    item: np.ndarray | None
    values: dict[str, np.ndarray]


class _Reasons:
    def __init__(self, generators: Generators, snapshot: Snapshot, visitors: Visitors, found: Candidates) -> None:
        self.generators, self.snapshot, self.visitors, self.found = generators, snapshot, visitors, found
        self.targets = Targets(found.query, found.item, len(snapshot.items))
        self.history: Asked = asked(snapshot, visitors, "history")
        self.visit: Asked = asked(snapshot, visitors, "visit")
        self.said: list[_Said] = []

    def score(self, name: GeneratorName) -> np.ndarray:
        """float32[n], best 1: what a generator says of each row, over the best of the visitor's candidates."""
        return self.found.scores[:, GENERATORS.index(name)]

    def add(
        self, code: Code, holds: np.ndarray, strength: np.ndarray, item: np.ndarray | None = None, **values: np.ndarray
    ) -> None:
        rows = np.flatnonzero(holds)
        if len(rows):
            worth = RELEVANCE[code] * np.clip(strength[rows].astype(np.float64), 0, 1)
            cited = None if item is None else item[rows]
            self.said.append(_Said(code, rows, worth, cited, {k: v[rows] for k, v in values.items()}))

    def own_history(self) -> None:
        """What the visitor bought, carted and viewed of the candidate itself."""
        h = self.snapshot.history
        at = h.find(self.visitors.customers[self.found.query], self.found.item)
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
        entry, key = self.targets.find(v.query, np.maximum(v.item, 0))
        touched = v.item[entry] >= 0
        entry, key = entry[touched], key[touched]
        n = len(self.targets.keys)
        # A cart that was emptied again weighs as a view, and is told as one.
        emptied = (v.kind[entry] == KIND["add_to_cart"]) & (v.weight[entry] < VISIT_EVENTS["add_to_cart"])
        kind = np.where(emptied, KIND["view_item"], v.kind[entry])
        for code, names in _VISIT:
            of = np.isin(kind, [KIND[name] for name in names])  # type: ignore[index]
            events, ago = np.bincount(key[of], minlength=n), np.full(n, np.iinfo(np.int64).max)
            np.minimum.at(ago, key[of], v.back[entry[of]])
            events, ago = events[self.targets.back], ago[self.targets.back]
            freshness = np.where(events > 0, DECAY ** np.minimum(ago, 99), 0)
            self.add(code, events > 0, freshness, events=events, events_ago=ago)

    def item_to_item(self) -> None:
        """The visitor's item that contributes most to a candidate's score, of the generator that says most for it."""
        for code, names in _ITEM_TO_ITEM:
            strength = np.full(len(self.found.item), LEAST, np.float32)
            item, share, items = np.full(len(strength), -1), np.zeros(len(strength)), np.zeros(len(strength), np.int64)
            for name in names:
                better = self.score(name) > strength
                if better.any():
                    behind = self.targets.behind(*self._basis(name))
                    better &= behind.item >= 0
                    item = np.where(better, behind.item, item)
                    share, items = np.where(better, behind.share, share), np.where(better, behind.items, items)
                    strength = np.where(better, self.score(name), strength)
            self.add(code, item >= 0, strength, item, share=share, items=items)

    def _basis(self, name: GeneratorName) -> tuple[Any, Asked]:
        """The similarities and the visitor's items that a generator's score is the sum over."""
        g, s, v = self.generators, self.snapshot, self.visitors
        knn = g.item_knn
        of: dict[GeneratorName, Any] = {
            "item_knn": lambda: (knn.similar, self.history),
            "item_knn_last": lambda: (knn.similar, asked(s, v, "last_baskets", knn.last_baskets)),
            "item_knn_visit": lambda: (knn.similar, asked(s, v, "visit", visit_decay=knn.visit_decay)),
            "covisit_last": lambda: (g.covisit.orders, asked(s, v, "last_baskets")),
            "covisit_visit": lambda: (g.covisit.touches, self.visit),
            "content": lambda: (g.content.similar, self.history),
            "content_visit": lambda: (g.content.similar, self.visit),
        }
        basis: tuple[Any, Asked] = of[name]()
        return basis

    def people(self) -> None:
        """Customers alike, and the visitor's segment."""
        alike = self.score("neighbours")
        if (alike > LEAST).any():
            bought, of = self.targets.bought_by(self.snapshot, self.generators.neighbours, self.visitors)
            holds = (alike > LEAST) & (bought > 1)  # of a single other customer nothing is told
            self.add("people_like_you", holds, alike, neighbours_bought=bought, neighbours=of)
        taste = self.score("als")
        self.add("fits_taste", taste > LEAST_TASTE, taste)
        segment = self.score("popular_segment")
        # Only where it says more than that everybody buys it.
        more = (segment > LEAST) & (segment > self.score("popular"))
        if more.any():
            customers = self.visitors.customers[self.found.query]
            names = np.array(SEGMENT_NAMES, object)[self.snapshot.segments[np.maximum(customers, 0)]]
            self.add("popular_with_segment", more, segment, segment=names)

    def of_the_shop(self) -> None:
        """What sells and what is new, in the visitor's categories and everywhere; something for every row."""
        item = self.found.item
        lately, ever = (np.nan_to_num(self.snapshot.item(c)[item]).astype(np.int64) for c in ("buyers_28d", "buyers"))
        age = self.snapshot.item("age_days")[item]
        arrivals, popular = self.score("arrivals"), self.score("popular")
        category = self.score("popular_category")
        kin = self.targets.kin(self.snapshot.categories, [self.visit, self.history])
        sells = (category > LEAST) & (kin >= 0) & (lately > 1)
        self.add("popular_in_category", sells, category, kin, buyers_28d=lately)
        new = arrivals > LEAST
        self.add("new_in_your_category", new & (kin >= 0), arrivals, kin, age_days=age)
        self.add("new_arrival", new & (kin < 0), arrivals, age_days=age)
        self.add("popular", (popular > LEAST) & (lately > 0), popular, buyers_28d=lately)
        bare = np.ones(len(item), bool)
        for said in self.said:
            bare[said.rows] = False
        one = np.ones(len(item))
        self.add("popular", bare & (lately > 0), popular, buyers_28d=lately)
        self.add("sold_before", bare & (lately == 0) & (ever > 0), one, buyers=ever)
        self.add("in_range", bare & (lately == 0) & (ever == 0), one)

    def strongest(self, most: int) -> list[list[Reason]]:
        out: list[list[Reason]] = [[] for _ in self.found.item]
        if not out:
            return out
        row, strength = (np.concatenate([getattr(s, part) for s in self.said]) for part in ("rows", "strength"))
        block = np.repeat(np.arange(len(self.said)), [len(s.rows) for s in self.said])
        within = np.concatenate([np.arange(len(s.rows)) for s in self.said])
        order = np.lexsort((block, -strength, row))  # of equal strength: in the order they were said
        place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
        order = order[place < most]
        made: list[Any] = [None] * len(order)
        for b, said in enumerate(self.said):
            kept = np.flatnonzero(block[order] == b)
            at = within[order[kept]]
            cited = [None] * len(at) if said.item is None else self.snapshot.items.at(said.item[at])
            columns = [v[at].tolist() for v in said.values.values()]
            numbers = [dict(zip(said.values, line, strict=True)) for line in zip(*columns, strict=True)]
            lines = zip(kept, said.strength[at].tolist(), cited, numbers or [{} for _ in at], strict=True)
            for n, worth, item_id, values in lines:
                made[n] = Reason(said.code, worth, item_id, values)
        for r, reason in zip(row[order].tolist(), made, strict=True):
            out[r].append(reason)
        return out
