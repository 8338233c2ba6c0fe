"""A generator that is added by its file alone: trained, shipped, explained, and free where it does not apply."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NEW = '''
"""Items of one brand: a generator that needs brands."""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel
from scipy import sparse

from models.candidates.protocol import ItemToItemGenerator, NamedScore
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_profile import profile_items


class SameBrandConfig(BaseModel):
    weight: float = 1.0


@dataclass(frozen=True)
class SameBrand(ItemToItemGenerator[SameBrandConfig]):
    key = "same_brand"
    position = 1000
    named_scores = (
        NamedScore("brand", "likeness of the products", "history", "like_what"),
        NamedScore("brand_visit", "this visit", "visit", "like_what"),
    )
    settings = SameBrandConfig

    similar: ItemSimilarity

    @classmethod
    def applies_to(cls, snapshot):
        return bool((snapshot.brands >= 0).any())

    @classmethod
    def fit(cls, snapshot, config):
        brands = snapshot.brands
        same = (brands[:, None] == brands) & (brands >= 0)
        return cls(ItemSimilarity.from_matrix(sparse.csr_matrix(config.weight * same.astype(np.float32))))

    def refit_to(self, snapshot, items):
        return self.fit(snapshot, SameBrandConfig())

    def evidence(self, name, snapshot, visitors):
        return self.similar, profile_items(snapshot, visitors, self.basis_of(name))

    def arrays(self):
        return self.similar.arrays()

    @classmethod
    def from_arrays(cls, arrays):
        return cls(ItemSimilarity.from_arrays(arrays))
'''
HEAD = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from features.ranking.feature_matrix import names, schema_hash
from features.ranking.visitors import Visitors
from models.bundle import Bundle, read_manifest
from models.candidates.generators import Generators
from models.candidates.registry import GENERATORS
from models.explain.explain import explain
from models.interface import RankingRequest, RankingRules
from models.recommender import BundleRecommender, load
from models.two_stage import TwoStageConfig, propose
from tests.features.shop import CATALOG, row, snapshot
from tests.models import fitted

NEW = ("brand", "brand_visit")
assert GENERATORS[-2:] == NEW, GENERATORS
rows = [
    row(("purchase", "view_item")[n % 2], -1 - n % 40, f"c{n % 17}", f"i{n * n % 7}", 1.0, 2.0 + n % 5, f"o{n}")
    for n in range(300)
]
branded, bare = snapshot(rows), snapshot(rows, catalog=CATALOG.with_columns(brand=pl.lit(None, pl.String)))
for budgets in fitted.BUDGETS.values():
    budgets |= {"brand": 9, "brand_visit": 9}
visit = (("i0", "view_item"), ("i1", "view_item"))
requests = [RankingRequest(5, "c3"), RankingRequest(5, None, visit)]
path = Path(sys.argv[1])
"""
ACTIVE = """
bundle = fitted.bundle(branded)
active = bundle.generators.names
assert active[-2:] == NEW
saved = bundle.save(path / "bundle")
loaded = Bundle.load(saved)
assert read_manifest(saved).generators == loaded.generators.names == active
assert read_manifest(saved).features == schema_hash(active)
assert loaded.recommenders["predictive"].ranker.features == names(active)
answers = BundleRecommender(bundle).recommend(requests)
assert load(saved).recommend(requests) == answers
rules = RankingRules(generators=("brand_visit",))
(answer,) = load(saved).recommend([replace(requests[1], rules=rules)])
assert answer.n_ranked and all("brand_visit" in by for by in answer.generators[: answer.n_ranked])
explained = explain(load(saved), requests[1], answer.item_ids[:1], most=20)
assert any(r.code == "like_what" and r.item_id in ("i0", "i1") for r in explained.items[0].reasons)
assert {"brand_rank", "brand_visit_score"} <= set(loaded.recommenders["predictive"].ranker.importance())
refreshed = loaded.refit_to(bare)  # a refresh has nothing for it: still there, without scores
assert refreshed.generators.names == loaded.generators.names
assert BundleRecommender(refreshed).recommend(requests)[0].item_ids
fold = Generators.fit(bare, fitted.CONFIG, bundle.generators.active)  # an earlier boundary has nothing for it
assert fold.names == bundle.generators.names
"""
INACTIVE = """
bundle = fitted.bundle(bare)
active = bundle.generators.names
assert active and not {*active} & {*NEW}
saved = bundle.save(path / "bundle")
assert read_manifest(saved).features == schema_hash(active)
assert not [*(saved / "generators").glob("same_brand*")]
loaded = load(saved)
assert loaded.bundle.generators.names == active
assert loaded.recommend(requests) == BundleRecommender(bundle).recommend(requests)
visitors = Visitors.of_customers(np.array([0, -1]))
generators = bundle.generators
assert not len(generators.scores("brand", bare, visitors).top(5)[0])
assert generators.columns(("brand", "history")) == [0]
without = {"history": 5, "popular": 5}
a, b = (propose(generators, bare, visitors, budgets) for budgets in (without, without | {"brand": 5}))
assert a.item.tolist() == b.item.tolist() and a.proposed.tolist() == b.proposed.tolist()
config = TwoStageConfig(budgets=without | {"brand": 5})
assert config.for_generators(generators.names).budgets == without
rules = RankingRules(generators=("brand",), use_ranker=False, fill=("brand_visit", "popular"))
(answer,) = loaded.recommend([replace(requests[1], rules=rules)])
assert answer.n_ranked == 0 and set(answer.generators) == {("popular",)}
"""


@pytest.mark.parametrize("script", [ACTIVE, INACTIVE], ids=["active", "inactive"])
def test_a_generator_is_one_file(script: str, tmp_path: Path):
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models" / "candidates" / "same_brand.py").write_text(NEW)
    (tmp_path / "script.py").write_text(HEAD + script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
