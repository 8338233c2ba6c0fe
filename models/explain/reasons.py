"""Reasons: why a product is recommended, as codes with the item and the numbers behind them.

A reason states a fact of the snapshot or of the visit, which is true however the ranker used it. It is about the
visitor alone; other customers appear as counts of two and more, except as buyers of an item.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.common.arrays import AnyArray, BoolArray, Float32Array, Float64Array, FloatArray, Int64Array
from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from features.ranking.stated_preferences import PRICE, match, name_term
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

LEAST = 0.1  # share of a generator's best score below which its score is no reason
LEAST_FACTORS = 0.3  # factors give almost every item some score
DUE = (0.75, 1.5)  # of the gap between orders; later, the habit has more likely ended
FEW = 3  # fewer buyers in four weeks are not called popular
REPEATS = 0.1  # an item that fewer of its buyers rebuy has no rhythm
_VISIT: tuple[tuple[ReasonCode, tuple[str, ...]], ...] = (
    ("bought_in_visit", ("purchase",)),
    ("carted_in_visit", ("add_to_cart",)),
    ("wished_in_visit", ("add_to_wishlist",)),
    ("viewed_in_visit", ("view_item", "select_item")),
)


def explain_ranking(ranking: Ranking) -> list[list[Reason]] | None:
    """Return the reasons of each item of a ranking, strongest first; an empty list for items that fill it up.

    None if the request wants no reasons, or nothing was ranked.
    """
    r = ranking.candidates
    if r is None:
        return None
    reasons = build_reasons(r.generators, r.snapshot, r.visitors, r.candidates, r.max_reasons)
    return reasons + [[] for _ in range(len(ranking.item_ids) - len(reasons))]


def build_reasons(
    generators: Generators, snapshot: Snapshot, visitors: Visitors, candidates: Candidates, most: int = 3
) -> list[list[Reason]]:
    """Return the reasons of each candidate, in their order: at least one, at most `most`, strongest first.

    `visitors` and `candidates` are those of the ranking (`two_stage.propose`, `TwoStage.rank`); `candidates` may be any
    rows of it. The reasons of a row do not depend on the other rows.
    """
    builder = _ReasonBuilder(generators, snapshot, visitors, candidates, most)
    builder.add_history()
    builder.add_visit()
    builder.add_stated()
    builder.add_popularity()
    builder.add_item_to_item()
    builder.add_neighbours()
    builder.add_categories()
    builder.add_fallbacks()
    return builder.select_strongest()


@dataclass(frozen=True)
class _ReasonBlock:
    """Reasons of one code: one entry per row of the candidates."""

    code: ReasonCode
    rows: Int64Array
    strength: Float64Array
    item: Int64Array | None
    values: dict[str, AnyArray]


class _ReasonBuilder:
    def __init__(
        self, generators: Generators, snapshot: Snapshot, visitors: Visitors, candidates: Candidates, most: int
    ) -> None:
        self.generators, self.snapshot, self.visitors, self.candidates = generators, snapshot, visitors, candidates
        self.index = CandidateIndex(candidates.query, candidates.item, len(visitors), len(snapshot.items))
        self.history: ProfileItems = profile_items(snapshot, visitors, "history")
        self.visit: ProfileItems = profile_items(snapshot, visitors, "visit")
        self.recent_buyers, self.buyers = (
            np.nan_to_num(snapshot.item(name)[candidates.item]).astype(np.int64) for name in ("buyers_28d", "buyers")
        )
        self.blocks: list[_ReasonBlock] = []
        self.top = np.full((len(candidates.item), most), -1.0)  # the strongest of each row so far, -1 for none

    def score(self, name: GeneratorName) -> Float32Array:
        """Return a generator's score of each row over the best of the visitor's candidates, float32[n]."""
        return self.candidates.scores[:, self.generators.names.index(name)]

    def add(
        self,
        code: ReasonCode,
        holds: BoolArray,
        strength: FloatArray,
        item: Int64Array | None = None,
        **values: AnyArray,
    ) -> None:
        """Add a reason to the rows where it holds; the arrays have one entry per candidate."""
        rows = np.flatnonzero(holds)
        cited = None if item is None else item[rows]
        self.add_at(code, rows, strength[rows], cited, **{name: v[rows] for name, v in values.items()})

    def add_at(
        self,
        code: ReasonCode,
        rows: Int64Array,
        strength: FloatArray,
        item: Int64Array | None = None,
        **values: AnyArray,
    ) -> None:
        """Add a reason to `rows`; the other arrays have one entry per row."""
        if len(rows):
            worth = _strength(code, strength)
            self.blocks.append(_ReasonBlock(code, rows, worth, item, values))
            top = self.top[rows]
            least = top.argmin(axis=1)
            self.top[rows, least] = np.maximum(top[np.arange(len(rows)), least], worth)

    def open(self, code: ReasonCode, score: Float32Array, least: float = LEAST) -> BoolArray:
        """Return where such a reason holds and may be among the strongest, bool[n]; evidence elsewhere is wasted."""
        holds: BoolArray = (score > least) & (_strength(code, score) >= self.top.min(axis=1))
        return holds

    def add_history(self) -> None:
        """Add the visitor's purchases, carts and views of the candidate itself before the visit."""
        h = self.snapshot.history
        at = self.visitors.find(h, self.candidates.query, self.candidates.item)
        if not len(at) or at.max() < 0:
            return
        pair = np.where(at[:, None] >= 0, h.values[np.maximum(at, 0)], np.float32(np.nan))
        orders, last, viewed = (pair[:, HISTORY[c]] for c in ("orders", "bought_last_days", "viewed_last_days"))
        # The generator's score, split by kind of interaction.
        bought = pair[:, HISTORY["bought_by_basket"]] + pair[:, HISTORY["bought_decayed"]]
        carts = np.float32(TYPE_WEIGHT["add_to_cart"]) * pair[:, HISTORY["carts_decayed"]]
        views = np.float32(TYPE_WEIGHT["view_item"]) * pair[:, HISTORY["views_decayed"]]
        whole = self.score("history") / np.maximum(bought + carts + views, np.float32(1e-30))
        times = np.nan_to_num(orders).astype(np.int64)
        self.add("bought_often", orders > 1, whole * bought, orders=times, days_ago=last)
        self.add("bought_before", orders == 1, whole * bought, orders=times, days_ago=last)
        self.add("carted_before", (orders == 0) & (carts > 0), whole * carts)
        viewed_since = (views > 0) & ((orders == 0) | (viewed < last))
        self.add("viewed_before", viewed_since, whole * views, days_ago=viewed)
        self._due(orders, last, pair[:, HISTORY["bought_first_days"]])

    def _due(self, orders: Float32Array, last: Float32Array, first: Float32Array) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(orders > 1, (first - last) / (orders - 1), np.float32(np.nan))
            rebought = self.snapshot.item("repeat_share")[self.candidates.item] >= REPEATS
            of_item = np.where(
                np.isnan(own) & rebought,
                self.snapshot.item("repeat_gap_days")[self.candidates.item],
                np.float32(np.nan),
            )
            for code, gap in (("due_again", own), ("due_again_by_item", of_item)):
                cycle = last / gap
                holds = (gap >= 1) & (cycle >= DUE[0]) & (cycle <= DUE[1])
                nearness = np.minimum(cycle, 1 / cycle)
                self.add(code, holds, nearness, days_ago=last, gap_days=gap)  # type: ignore[arg-type]

    def add_visit(self) -> None:
        """Add the visit's events with the candidate itself: `events` of them, the last `events_ago` events before."""
        v = self.visitors
        touched = np.flatnonzero(v.item >= 0)
        entry, row = self.index.find(v.query[touched], v.item[touched])
        if not len(entry):
            return
        entry, n = touched[entry], len(self.candidates.item)
        # A cart that was emptied again has the weight of a view, and is a view as a reason, too.
        emptied = (v.kind[entry] == KIND["add_to_cart"]) & (v.weight[entry] < VISIT_EVENTS["add_to_cart"])
        kind = np.where(emptied, KIND["view_item"], v.kind[entry])
        for code, names in _VISIT:
            of = np.isin(kind, [KIND[name] for name in names])  # type: ignore[index]
            events, ago = np.bincount(row[of], minlength=n), np.full(n, np.iinfo(np.int64).max)
            np.minimum.at(ago, row[of], v.back[entry[of]])
            self.add(code, events > 0, self.score("visit"), events=events, events_ago=ago)

    def add_stated(self) -> None:
        """Add what the visitor said they like and the candidate has: `stated` names it, at most two answers."""
        stated, c = self.visitors.stated, self.candidates
        if not len(stated):
            return
        row, entry = match(self.snapshot.item_terms, self.snapshot.item("price"), stated, c.query, c.item)
        matches = np.bincount(row, minlength=len(c.item))
        of_visitor = np.bincount(stated.query, minlength=len(self.visitors))[c.query]
        share = (matches / np.maximum(of_visitor, 1)).astype(np.float32)
        holds = self.open("stated", share, 0.0)
        entries: dict[int, list[int]] = {}
        for r, e in zip(row.tolist(), entry.tolist(), strict=True):
            if holds[r]:
                entries.setdefault(r, []).append(e)
        texts = np.full(len(c.item), "", object)
        for r, of_row in entries.items():
            texts[r] = " and ".join(self._name_stated(int(c.item[r]), e) for e in sorted(of_row)[:2])
        self.add("stated", holds & (texts != ""), share, stated=texts)

    def _name_stated(self, item: int, entry: int) -> str:
        s, stated = self.snapshot, self.visitors.stated
        if stated.facet[entry] == PRICE:
            low, high = float(stated.low[entry]), float(stated.high[entry])
            return (
                f"prices up to {high:g}"
                if not low
                else f"prices of {low:g}" + (f" to {high:g}" if high < np.inf else " or more")
            )
        category = s.category_names[int(s.categories[item])].as_py() if s.categories[item] >= 0 else None
        brand, attributes = (s.catalog[name][item].as_py() for name in ("brand", "attributes"))
        return name_term(int(stated.term[entry]), category, brand, attributes)

    def add_item_to_item(self) -> None:
        """Add the visitor's item that contributes most to a candidate's score, by the generator with the highest score.

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
                    source = self.index.find_sources(rows, similarity, items)
                    # An item that contributes a tenth of the score explains little of it.
                    worth = strength[rows] * np.sqrt(source.share)
                    self.add_at(code, rows, worth, source.item, share=source.share, items=source.items)

    def add_neighbours(self) -> None:
        """Add the purchases of similar customers."""
        score = self.score("neighbours")
        rows = np.flatnonzero(self.open("people_like_you", score))
        if len(rows):
            bought, of = self.index.count_buyers(rows, self.snapshot, self.generators[UserKnn], self.visitors)
            several = bought > 1  # a single other customer is never mentioned
            rows, bought, of = rows[several], bought[several], of[several]
            self.add_at("people_like_you", rows, score[rows], neighbours_bought=bought, neighbours=of)

    def add_popularity(self) -> None:
        """Add sales, to everyone and to the visitor's segment, and the factors' match."""
        factors, segment, popular = (self.score(name) for name in ("als", "popular_segment", "popular"))
        self.add("fits_taste", factors > LEAST_FACTORS, factors)
        self.add("popular", (popular > LEAST) & (self.recent_buyers >= FEW), popular, buyers_28d=self.recent_buyers)
        # Only where the segment buys it more than everyone does.
        more = (segment > LEAST) & (segment > popular)
        if more.any():
            customers = np.maximum(self.visitors.customers[self.candidates.query], 0)
            names = np.array(SEGMENT_NAMES, object)[self.snapshot.segments[customers]]
            self.add("popular_with_segment", more, segment, segment=names)

    def add_categories(self) -> None:
        """Add best sellers and new arrivals in the categories of the visitor's items."""
        sells, new = self.score("popular_category"), self.score("arrivals")
        holds = self.open("popular_in_category", sells) & (self.recent_buyers >= FEW)
        fresh = self.open("new_in_your_category", new)
        rows = np.flatnonzero(holds | fresh)
        if not len(rows):
            return
        kin = np.full(len(holds), -1)
        kin[rows] = self.index.find_category_items(rows, self.snapshot.categories, [self.visit, self.history])
        age = self.snapshot.item("age_days")[self.candidates.item]
        self.add("popular_in_category", holds & (kin >= 0), sells, kin, buyers_28d=self.recent_buyers)
        self.add("new_in_your_category", fresh & (kin >= 0), new, kin, age_days=age)
        self.add("new_arrival", fresh & (kin < 0), new, age_days=age)

    def add_fallbacks(self) -> None:
        """Add sales numbers to the rows without a reason."""
        bare = self.top.max(axis=1) < 0
        if bare.any():
            few, one = bare & (self.recent_buyers < FEW), np.ones(len(bare))
            self.add(
                "popular", bare & (self.recent_buyers >= FEW), self.score("popular"), buyers_28d=self.recent_buyers
            )
            self.add("sold_before", few & (self.buyers > 0), one, buyers=self.buyers)
            self.add("in_range", few & (self.buyers == 0), one)

    def select_strongest(self) -> list[list[Reason]]:
        """Return the strongest reasons of each row."""
        out: list[list[Reason]] = [[] for _ in self.candidates.item]
        if not out:
            return out
        sizes = [len(b.rows) for b in self.blocks]
        row = np.concatenate([b.rows for b in self.blocks])
        strength = np.concatenate([b.strength for b in self.blocks])
        block = np.repeat(np.arange(len(sizes)), sizes)
        code = np.repeat([REASON_CODES.index(b.code) for b in self.blocks], sizes)
        order = np.lexsort((code, -strength, row))
        place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
        order = order[place < self.top.shape[1]]
        cited = np.concatenate([np.full(len(b.rows), -1) if b.item is None else b.item for b in self.blocks])[order]
        ids = iter(self.snapshot.items.at(cited[cited >= 0]))
        item_ids = [next(ids) if c >= 0 else None for c in cited.tolist()]
        starts = np.cumsum(sizes) - sizes
        values: list[dict[str, Any]] = [{} for _ in item_ids]
        for number, b in enumerate(self.blocks):
            places = np.flatnonzero(block[order] == number)
            entries = order[places] - starts[number]
            for name, column in b.values.items():
                for n, value in zip(places.tolist(), column[entries].tolist(), strict=True):
                    values[n][name] = value
        lines = zip(row[order].tolist(), block[order].tolist(), strength[order].tolist(), item_ids, values, strict=True)
        for r, number, worth, item_id, numbers in lines:
            out[r].append(Reason(self.blocks[number].code, worth, item_id, numbers))
        return out


def _strength(code: ReasonCode, score: FloatArray) -> Float64Array:
    low, high = STRENGTH_RANGES[code]
    worth: Float64Array = low + (high - low) * np.minimum(np.maximum(score.astype(np.float64), 0), 1)
    return worth
