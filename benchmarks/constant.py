"""The real server with a recommender that does no work, which leaves the cost of HTTP; for `benchmarks/serve.py`."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from features.ranking.snapshot import Snapshot
from models.interface import Fallback, Ranking, RankingRequest
from serving.api.app import create_app
from serving.settings import Settings
from tests.serving.small_shop import small_shop

_ITEMS = [f"i{n}" for n in range(600)]


class ConstantRecommender:
    """Recommends the same items to everyone."""

    def recommend(self, requests: list[RankingRequest]) -> list[Ranking]:
        return [_ranking(r.limit) for r in requests]

    def recommend_without_ranker(self, request: RankingRequest, fallback: Fallback) -> Ranking:
        return replace(_ranking(request.limit), fallback=fallback)

    @property
    def snapshot(self) -> Snapshot:
        return small_shop(len(_ITEMS))

    @property
    def info(self) -> dict[str, object]:
        return {"name": "constant", "as_of": "2026-01-01T00:00:00Z"}


def _ranking(limit: int) -> Ranking:
    none: list[tuple[str, ...]] = [()] * limit
    return Ranking(
        _ITEMS[:limit], [0.0] * limit, none, "popular", None, "PROSPECT", n_ranked=limit, positions=np.arange(limit)
    )


def load(_: Path) -> ConstantRecommender:
    return ConstantRecommender()


# The service imports its recommender from this module.
_module = ModuleType("models.recommender")
_module.load = load  # type: ignore[attr-defined]
sys.modules["models.recommender"] = _module

from serving.service import Usual as Usual  # noqa: E402

app = create_app(ConstantRecommender(), Settings())
