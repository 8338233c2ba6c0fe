"""Why an answer is what it is: the products of one request with reasons, and what the ranker made of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from features.common.clock import iso
from features.common.errors import InputError
from features.ranking.feature_matrix import assemble
from features.ranking.snapshot import Snapshot
from features.ranking.visitors import Visitors
from models.bundle import Bundle
from models.candidates.generators import Generators
from models.customers.predictions import describe_profile
from models.explain.codes import Reason
from models.explain.reasons import reasons
from models.explain.shap import ScoreContributions, explain_scores
from models.explain.texts import ENGLISH, Language
from models.interface import Ranking, RankingRequest, Recommender
from models.recommender import BundleRecommender
from models.two_stage import Candidates, TwoStage, candidates, propose


@dataclass(frozen=True)
class ItemExplanation:
    """One product. `rank` counts from 1; of one that was not proposed, `rank` and `score` are those it would have had.

    `ranked` is None where no ranker had a say: with the strategy `popular`, and for what fills up a short list.
    """

    item_id: str
    rank: int
    score: float
    generators: tuple[str, ...]
    reasons: list[Reason]
    ranked: ScoreContributions | None


@dataclass(frozen=True)
class RankingExplanation:
    """An answer and why. `visit` says whether what was viewed in this visit had a part in it."""

    customer_id: str | None
    as_of: int
    strategy: str
    fallback: str | None
    segment: str
    visit: bool
    items: list[ItemExplanation]
    profile: dict[str, Any] | None = None
    """What the customer is expected to do next, as `Bundle.profile` tells it."""

    def as_dict(self, language: Language = ENGLISH, titles: Mapping[str, str] | None = None) -> dict[str, Any]:
        """JSON values; `titles` by item id, where they are known."""
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
        """For a person to read; with `features`, also what the ranker made of the strongest of them."""
        who = f"customer {self.customer_id}" if self.customer_id else "somebody unknown"
        how = self.strategy + (f", fallback {self.fallback}" if self.fallback else "")
        lines = [f"for {who} ({self.segment}), ranked by {how}, as of {iso(self.as_of)}"]
        lines += describe_profile(self.profile) if self.profile else []
        for item in self.items:
            lines += ["", *_lines(item, language, titles or {}), *(_features(item) if features else ())]
        return "\n".join(lines)


def explain_request(recommender: Recommender, request: RankingRequest, item_ids: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON values of `explain`, with the titles that the snapshot knows.

    Raises `InputError` for a customer or an item that the model does not know, and for a recommender without a bundle.
    """
    if not isinstance(recommender, BundleRecommender):
        raise InputError("only rankings of a bundle can be explained")
    explained, snapshot = explain(recommender, request, item_ids), recommender.snapshot
    cited = [r.item_id for item in explained.items for r in item.reasons if r.item_id is not None]
    ids = list(dict.fromkeys([*item_ids, *(item.item_id for item in explained.items), *cited]))
    titles = snapshot.catalog["title"].take(pa.array(snapshot.items.find(ids))).to_pylist()
    return explained.as_dict(titles={i: t for i, t in zip(ids, titles, strict=True) if t})


def explain(
    recommender: BundleRecommender, request: RankingRequest, item_ids: Sequence[str] = (), most: int = 3
) -> RankingExplanation:
    """What `recommend` answers to `request`, or what it makes of `item_ids`, with at most `most` reasons an item.

    Raises `InputError` for a customer or an item that the model does not know.
    """
    snapshot = recommender.bundle.snapshot
    _check(snapshot, request, item_ids)
    every = replace(request, limit=len(snapshot.items), exclude=frozenset())
    (ranking,) = recommender.recommend([every if item_ids else request])
    ((name, _, visitors),) = recommender.routed([request])
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
            "Check the id, train on a newer log, or leave the customer out to see what somebody unknown is shown"
        )
    asked = [*item_ids, *(event[0] for event in request.recent)]
    for item_id, at in zip(asked, snapshot.items.find(asked), strict=True):
        if at < 0:
            raise InputError(
                f"the model does not know the product {item_id!r}: there was no event with it {when}. "
                "Check the id, or train on a newer log"
            )


class _RankingExplainer:
    """One visitor's answer, to be looked at item by item."""

    def __init__(self, bundle: Bundle, two_stage: TwoStage | None, visitors: Visitors, ranking: Ranking) -> None:
        self.bundle, self.two_stage, self.visitors, self.ranking = bundle, two_stage, visitors, ranking
        budgets = two_stage.budgets if two_stage else {}
        self.candidates = propose(bundle.generators, bundle.snapshot, visitors, budgets)

    def items(self, item_ids: Sequence[str], most: int) -> list[ItemExplanation]:
        """Those asked for, else those of the ranking."""
        shown = list(dict.fromkeys(item_ids)) or self.ranking.item_ids
        position = self.bundle.snapshot.items.find(shown)
        proposed = np.isin(position, self.candidates.item)
        explained = self._of(self.candidates, position[proposed], most, by_ranker=True)
        if not proposed.all():
            # What nobody proposed is looked at as if it had been.
            every = np.union1d(self.candidates.item, position)
            found = candidates_for_items(self.bundle.generators, self.bundle.snapshot, self.visitors, every)
            explained |= self._of(found, position[~proposed], most, by_ranker=bool(item_ids))
        if not item_ids:  # what the answer leaves out has no rank in it
            explained = {i: replace(explained[i], rank=n) for n, i in enumerate(shown, 1)}
        return [explained[item_id] for item_id in shown]

    def _of(self, found: Candidates, position: np.ndarray, most: int, by_ranker: bool) -> dict[str, ItemExplanation]:
        s, row = self.bundle.snapshot, np.searchsorted(found.item, position)
        told = reasons(self.bundle.generators, s, self.visitors, found.only(row), most)
        item_ids = s.items.at(position)
        if self.two_stage is None or not by_ranker:
            place = {item_id: n for n, item_id in enumerate(self.ranking.item_ids)}
            return {
                i: ItemExplanation(
                    i, place[i] + 1, self.ranking.scores[place[i]], self.ranking.generators[place[i]], why, None
                )
                for i, why in zip(item_ids, told, strict=True)
            }
        matrix = assemble(s, self.visitors, found.query, found.item, found.ranks, found.scores)
        score = self.two_stage.ranker.predict(matrix) if len(matrix) else np.zeros(0)
        rank = np.empty(len(score), np.int64)
        rank[np.lexsort((found.item, -score))] = np.arange(1, len(score) + 1)
        proposers = self.bundle.generators.proposers
        parts = explain_scores(self.two_stage.ranker, self.bundle.generators.names, matrix[row])
        return {
            i: ItemExplanation(i, int(rank[r]), float(score[r]), proposers(int(found.proposed[r])), why, of)
            for i, r, why, of in zip(item_ids, row.tolist(), told, parts, strict=True)
        }


def candidates_for_items(generators: Generators, snapshot: Snapshot, visitors: Visitors, item: np.ndarray) -> Candidates:
    """One visitor's `item` (rising) as candidates, whoever proposes them: `two_stage.propose` for a given union."""
    scores = [generators.scores(name, snapshot, visitors) for name in generators.names]
    return candidates(scores, np.zeros(len(item), np.int64), item, np.zeros(len(item), np.uint16))


def _item(item: ItemExplanation, language: Language, titles: Mapping[str, str]) -> dict[str, Any]:
    said = [
        {
            "code": r.code,
            "item_id": r.item_id,
            "strength": round(r.strength, 4),
            "values": {k: round(v, 4) if isinstance(v, float) else v for k, v in r.values.items()},
            "text": language.say(r, titles),
        }
        for r in item.reasons
    ]
    title = {"title": titles[item.item_id]} if item.item_id in titles else {}
    ranked = item.ranked and {**item.ranked._asdict(), "features": [f._asdict() for f in item.ranked.features]}
    head = {"item_id": item.item_id, **title, "rank": item.rank, "score": item.score, "generators": [*item.generators]}
    return {**head, "reasons": said, "contributions": ranked}


def _lines(item: ItemExplanation, language: Language, titles: Mapping[str, str]) -> list[str]:
    title = f"{item.item_id}  {titles.get(item.item_id) or ''}".rstrip()
    lines = [f"{item.rank:>4}  {title}", *(f"      - {language.say(r, titles)}" for r in item.reasons)]
    if not item.generators:
        lines.append("      No generator proposed it; rank and score are those it would have had if one had.")
    if item.ranked is None:
        return [*lines, "      The ranker had no say in it: it is there by its sales."]
    return [*lines, f"      score {item.score:.2f} = {_sum(item.ranked)}"]


def _sum(ranked: ScoreContributions, most: int = 4) -> str:
    """The score as a sum: what all products share, the largest groups, and the rest."""
    groups = [*ranked.groups.items()]
    rest = sum(part for _, part in groups[most:])
    parts = ", ".join(f"{name} {part:+.2f}" for name, part in [*groups[:most], ("the rest", rest)])
    return f"{ranked.base:.2f} for any product, {parts}"


def _features(item: ItemExplanation) -> list[str]:
    if item.ranked is None:
        return []
    lines = ["      strongest features, with what each adds to the score:"]
    for f in item.ranked.features:
        value = "unknown" if f.value is None else f"{f.value:.4g}"
        lines.append(f"      {f.contribution:>+7.2f}  {f.name} = {value} ({f.unit}: {f.meaning})")
    return lines
