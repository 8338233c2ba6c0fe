"""Ranking explanations: the products of one request with their reasons and the contributions to their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from features.common.arrays import Int64Array
from features.common.clock import iso
from features.common.errors import InputError
from features.event_log.stated_answers import PREFERENCES
from features.ranking.feature_matrix import STATED, assemble
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.bundle import Bundle
from models.candidates.generators import Generators
from models.customers.predictions import describe_profile
from models.explain.codes import Reason
from models.explain.reasons import build_reasons
from models.explain.shap import ScoreContributions, explain_scores
from models.explain.texts import ENGLISH, Language
from models.interface import Ranking, RankingRequest, Recommender
from models.recommender import BundleRecommender
from models.two_stage import Candidates, TwoStage, propose, score_candidates


@dataclass(frozen=True)
class ItemExplanation:
    """One product. `rank` counts from 1; without a proposal, `rank` and `score` are those it would have had.

    `contributions` is None where no ranker was involved: with the strategy `popular`, and for items that fill up.
    """

    item_id: str
    rank: int
    score: float
    generators: tuple[str, ...]
    reasons: list[Reason]
    contributions: ScoreContributions | None


@dataclass(frozen=True)
class RankingExplanation:
    """A ranking and its reasons. `visit`: whether items of the current visit were an input."""

    customer_id: str | None
    as_of: int
    strategy: str
    fallback: str | None
    segment: str
    visit: bool
    items: list[ItemExplanation]
    profile: dict[str, Any] | None = None
    """The customer's predictions, as in `Bundle.profile`."""

    def as_dict(self, language: Language = ENGLISH, titles: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return JSON values; `titles` by item id, if known."""
        return {
            "customer_id": self.customer_id,
            "strategy": self.strategy,
            "fallback": self.fallback,
            "segment": self.segment,
            "snapshot": iso(self.as_of),
            "visit": self.visit,
            "profile": self.profile,
            "items": [_item(item, language, titles or {}) for item in self.items],
        }

    def text(
        self, language: Language = ENGLISH, titles: Mapping[str, str] | None = None, features: bool = False
    ) -> str:
        """Format the explanation for people; with `features`, also the contributions of the strongest features."""
        visitor = f"customer {self.customer_id}" if self.customer_id else "an unknown visitor"
        strategy = self.strategy + (f", fallback {self.fallback}" if self.fallback else "")
        lines = [f"for {visitor} ({self.segment}), ranked by {strategy}, as of {iso(self.as_of)}"]
        lines += describe_profile(self.profile) if self.profile else []
        for item in self.items:
            lines += ["", *_lines(item, language, titles or {}), *(_features(item) if features else ())]
        return "\n".join(lines)


def explain_request(recommender: Recommender, request: RankingRequest, item_ids: Sequence[str] = ()) -> dict[str, Any]:
    """Explain a request as JSON values, with the titles in the snapshot; see `explain`.

    Raises `InputError` for a customer or an item that the model does not know, and for a recommender without a bundle.
    """
    if not isinstance(recommender, BundleRecommender):
        raise InputError("only rankings of a bundle can be explained")
    explanation, snapshot = explain(recommender, request, item_ids), recommender.snapshot
    cited = [r.item_id for item in explanation.items for r in item.reasons if r.item_id is not None]
    ids = list(dict.fromkeys([*item_ids, *(item.item_id for item in explanation.items), *cited]))
    titles = snapshot.catalog["title"].take(pa.array(snapshot.items.find(ids))).to_pylist()
    return explanation.as_dict(titles={i: t for i, t in zip(ids, titles, strict=True) if t})


def explain(
    recommender: BundleRecommender, request: RankingRequest, item_ids: Sequence[str] = (), most: int = 3
) -> RankingExplanation:
    """Explain the ranking of `request`, or how it ranks `item_ids`, with at most `most` reasons per item.

    Raises `InputError` for a customer or an item that the model does not know.
    """
    snapshot = recommender.bundle.snapshot
    _check(snapshot, request, item_ids)
    everything = replace(request.rules, allowed=np.ones(len(snapshot.items), bool))  # also what is not on sale now
    every = replace(request, limit=len(snapshot.items), exclude=frozenset(), rules=everything)
    (ranking,) = recommender.recommend([every if item_ids else request])
    ((name, _, visitors),) = recommender.route([request])
    two_stage = None if ranking.strategy == "popular" else recommender.bundle.recommenders[name]
    return RankingExplanation(
        customer_id=request.customer_id,
        as_of=snapshot.as_of,
        strategy=ranking.strategy,
        fallback=ranking.fallback,
        segment=ranking.segment,
        visit=bool((visitors.item >= 0).any()),
        items=_RankingExplainer(recommender.bundle, two_stage, visitors, ranking).items(item_ids, most),
        profile=recommender.bundle.profile(request.customer_id) if request.customer_id else None,
    )


def _check(snapshot: Snapshot, request: RankingRequest, item_ids: Sequence[str]) -> None:
    when = f"before its snapshot of {iso(snapshot.as_of)}"
    if request.customer_id is not None and snapshot.customers.find([request.customer_id])[0] < 0:
        raise InputError(
            f"the model does not know the customer {request.customer_id!r}: there was no event of theirs {when}. "
            "Check the id, train on a newer log, or leave the customer out to see what an unknown visitor gets"
        )
    ids = [*item_ids, *(event[0] for event in request.recent if event[1] != PREFERENCES)]
    for item_id, position in zip(ids, snapshot.items.find(ids), strict=True):
        if position < 0:
            raise InputError(
                f"the model does not know the product {item_id!r}: there was no event with it {when}. "
                "Check the id, or train on a newer log"
            )


class _RankingExplainer:
    """Explains one visitor's ranking item by item."""

    def __init__(self, bundle: Bundle, two_stage: TwoStage | None, visitors: Visitors, ranking: Ranking) -> None:
        self.bundle, self.two_stage, self.visitors, self.ranking = bundle, two_stage, visitors, ranking
        budgets = two_stage.budgets if two_stage else {}
        self.candidates = propose(bundle.generators, bundle.snapshot, visitors, budgets)

    def items(self, item_ids: Sequence[str], most: int) -> list[ItemExplanation]:
        """Explain `item_ids`, else the items of the ranking."""
        ids = list(dict.fromkeys(item_ids)) or self.ranking.item_ids
        position = self.bundle.snapshot.items.find(ids)
        is_candidate = np.isin(position, self.candidates.item)
        explanations = self._explain(self.candidates, position[is_candidate], most, by_ranker=True)
        if not is_candidate.all():
            # Items that no generator proposed are ranked as if one had.
            every = np.union1d(self.candidates.item, position)
            candidates = candidates_for_items(self.bundle.generators, self.bundle.snapshot, self.visitors, every)
            explanations |= self._explain(candidates, position[~is_candidate], most, by_ranker=bool(item_ids))
        if not item_ids:  # excluded items have no rank in the ranking
            explanations = {i: replace(explanations[i], rank=n) for n, i in enumerate(ids, 1)}
        return [explanations[item_id] for item_id in ids]

    def _explain(
        self, candidates: Candidates, position: Int64Array, most: int, by_ranker: bool
    ) -> dict[str, ItemExplanation]:
        s, row = self.bundle.snapshot, np.searchsorted(candidates.item, position)
        item_reasons = build_reasons(self.bundle.generators, s, self.visitors, candidates.only(row), most)
        item_ids = s.items.at(position)
        if self.two_stage is None or not by_ranker:
            r = self.ranking
            rank_of = {item_id: n for n, item_id in enumerate(r.item_ids)}
            return {
                i: ItemExplanation(i, rank_of[i] + 1, r.scores[rank_of[i]], r.generators[rank_of[i]], of_item, None)
                for i, of_item in zip(item_ids, item_reasons, strict=True)
            }
        c = candidates
        stated = STATED in self.bundle.generators.names
        matrix = assemble(s, self.visitors, c.query, c.item, c.ranks, c.scores, stated)
        score = self.two_stage.ranker.predict(matrix) if len(matrix) else np.zeros(0)
        rank = np.empty(len(score), np.int64)
        rank[np.lexsort((c.item, -score))] = np.arange(1, len(score) + 1)
        proposers = self.bundle.generators.proposers
        parts = explain_scores(self.two_stage.ranker, self.bundle.generators.names, matrix[row])
        return {
            i: ItemExplanation(i, int(rank[r]), float(score[r]), proposers(int(c.proposed[r])), of_item, part)
            for i, r, of_item, part in zip(item_ids, row.tolist(), item_reasons, parts, strict=True)
        }


def candidates_for_items(
    generators: Generators, snapshot: Snapshot, visitors: Visitors, item: Int64Array
) -> Candidates:
    """Return one visitor's `item` (rising) as candidates of no generator: `two_stage.propose` for these items alone."""
    scores = [generators.scores(name, snapshot, visitors) for name in generators.names]
    return score_candidates(scores, np.zeros(len(item), np.int64), item, np.zeros(len(item), np.uint32))


def _item(item: ItemExplanation, language: Language, titles: Mapping[str, str]) -> dict[str, Any]:
    item_reasons = [
        {
            "code": r.code,
            "item_id": r.item_id,
            "strength": round(r.strength, 4),
            "values": {k: round(v, 4) if isinstance(v, float) else v for k, v in r.values.items()},
            "text": language.render(r, titles),
        }
        for r in item.reasons
    ]
    title = {"title": titles[item.item_id]} if item.item_id in titles else {}
    parts = item.contributions
    contributions = parts and {**parts._asdict(), "features": [f._asdict() for f in parts.features]}
    head = {"item_id": item.item_id, **title, "rank": item.rank, "score": item.score, "generators": [*item.generators]}
    return {**head, "reasons": item_reasons, "contributions": contributions}


def _lines(item: ItemExplanation, language: Language, titles: Mapping[str, str]) -> list[str]:
    title = f"{item.item_id}  {titles.get(item.item_id) or ''}".rstrip()
    lines = [f"{item.rank:>4}  {title}", *(f"      - {language.render(r, titles)}" for r in item.reasons)]
    if not item.generators:
        lines.append("      No generator proposed it; rank and score are those it would have had if one had.")
    if item.contributions is None:
        return [*lines, "      No ranker was involved: it is there by its sales."]
    return [*lines, f"      score {item.score:.2f} = {_format_sum(item.contributions)}"]


def _format_sum(contributions: ScoreContributions, most: int = 4) -> str:
    """Format a score as a sum: the base of all products, the largest groups, and the rest."""
    groups = [*contributions.groups.items()]
    rest = sum(part for _, part in groups[most:])
    parts = ", ".join(f"{name} {part:+.2f}" for name, part in [*groups[:most], ("the rest", rest)])
    return f"{contributions.base:.2f} for any product, {parts}"


def _features(item: ItemExplanation) -> list[str]:
    if item.contributions is None:
        return []
    lines = ["      strongest features, with what each adds to the score:"]
    for f in item.contributions.features:
        value = "unknown" if f.value is None else f"{f.value:.4g}"
        lines.append(f"      {f.contribution:>+7.2f}  {f.name} = {value} ({f.unit}: {f.meaning})")
    return lines
