"""Small generators, rankers and bundles, fitted in a second."""

import lightgbm
import numpy as np
import pytest

from features.event_log.schema import EventName
from features.ranking.feature_matrix import STATED, assemble, names
from features.ranking.snapshot import CUSTOMER, Snapshot
from features.ranking.stated_preferences import StatedPreferences, state
from features.ranking.visitors import KIND, Visitors
from models.bundle import Bundle, RecommenderName
from models.candidates.als import AlsConfig
from models.candidates.content import ContentConfig
from models.candidates.covisit import CovisitConfig
from models.candidates.embedding import Embedding, EmbeddingConfig, nearest_by_cosine
from models.candidates.generators import Generators
from models.candidates.item_knn import ItemKnnConfig
from models.candidates.registry import GENERATORS, GeneratorName, GeneratorsConfig
from models.candidates.scores import Scores
from models.candidates.similarity import ItemSimilarity
from models.candidates.user_knn import UserKnnConfig
from models.customers.propensity import HORIZONS_DAYS, PropensityClassifier, PropensityModel, input_matrix
from models.ranker import Ranker, RankerConfig
from models.two_stage import TwoStage, propose
from training.dataset.examples import Examples

FEATURES = names(GENERATORS)
"""The features of a model whose generators are all active."""
CONFIG = GeneratorsConfig(
    als=AlsConfig(factors=6, iterations=3),
    item_knn=ItemKnnConfig(neighbours=8),
    neighbours=UserKnnConfig(neighbours=10),
    covisit=CovisitConfig(neighbours=12),
    content=ContentConfig(neighbours=7, common=0.3),
)
BUDGETS: dict[RecommenderName, dict[GeneratorName, int]] = {
    "one_to_one": {
        "history": 10, "neighbours": 6, "als": 8, "item_knn": 8, "item_knn_last": 5, "covisit_last": 5, "content": 4,
        "popular": 6, "popular_segment": 3, "popular_category": 4, "arrivals": 2,
    },
    "predictive": {
        "visit": 5, "item_knn_visit": 8, "covisit_visit": 6, "content_visit": 4, "popular": 8, "popular_category": 4,
        "stated": 5,
    },
}  # fmt: skip
_VISIT: tuple[EventName, ...] = ("view_item", "view_item", "add_to_cart", "remove_from_cart", "purchase", "search")


def with_active(bundle: Bundle, name: GeneratorName) -> Generators:
    """The bundle's generators, with `embedding` on drawn vectors, which the shop lacks; skips the test where `name` is
    inactive all the same."""
    vectors = np.random.default_rng(3).normal(size=(len(bundle.snapshot.items), 5)).astype(np.float32)
    embedding = Embedding(nearest_by_cosine(vectors, 7), EmbeddingConfig(neighbours=7))
    generators = Generators.of(*bundle.generators.by_key.values(), embedding)
    if name not in generators.names:
        pytest.skip(f"the generator {name} does not apply to this shop")
    return generators


def best(generators: Generators, name: GeneratorName, snapshot: Snapshot, visitors: Visitors, k: int) -> np.ndarray:
    """int64[visitors × k]: one generator's own list, best first, equal scores by item; -1 beyond its end."""
    scores = generators.scores(name, snapshot, visitors)
    query, item = scores.top(k)
    order = np.lexsort((item, -scores.at(query, item), query))
    query, item = query[order], item[order]
    out = np.full((len(visitors), k), -1, np.int64)
    out[query, np.arange(len(query)) - np.searchsorted(query, query)] = item
    return out


def dense(scores: Scores, visitors: int, items: int) -> np.ndarray:
    """float32[visitors × items]: every score."""
    query, item = np.indices((visitors, items)).reshape(2, -1)
    return scores.at(query, item).reshape(visitors, items)


def matrix(similar: ItemSimilarity) -> np.ndarray:
    """float32[items × items]."""
    out = np.zeros((similar.size, similar.size), np.float32)
    out[np.repeat(np.arange(similar.size), np.diff(similar.indptr)), similar.indices] = similar.data
    return out


def dense_pair_weights(s: Snapshot) -> np.ndarray:
    """float64[customers × items], NaN for a pair that is not there."""
    out = np.full((len(s.customers), len(s.items)), np.nan)
    for customer in range(len(s.customers)):
        for at in range(s.history.indptr[customer], s.history.indptr[customer + 1]):
            bought, carts, views = (
                float(s.history.column(c)[at]) for c in ("bought_decayed", "carts_decayed", "views_decayed")
            )
            out[customer, s.history.items[at]] = bought + 0.4 * carts + 0.1 * views
    return out


def visitors_of(snapshot: Snapshot, known: int, strangers: int, seed: int = 1) -> Visitors:
    """The first customers, and strangers of whom all but the first have a visit of one to three events."""
    rng = np.random.default_rng(seed)
    customers = np.concatenate([np.arange(known), np.full(strangers, -1)])
    touched = np.concatenate([np.zeros(known + min(1, strangers), int), rng.integers(1, 4, max(0, strangers - 1))])
    query = np.repeat(np.arange(len(customers)), touched)
    item = rng.integers(0, len(snapshot.items), len(query))
    kind = rng.choice([KIND[name] for name in _VISIT], len(query))
    age, price = 300 * rng.random(len(query)), 40 * rng.random(len(query))
    return Visitors.from_events(customers, query, item, kind, age, price, stated_by(snapshot, customers))


def stated_by(snapshot: Snapshot, customers: np.ndarray) -> StatedPreferences:
    """What the snapshot has of customers; every other stranger says that they like a category, a brand and a price."""
    strangers = np.flatnonzero(customers < 0)[1::2]
    brands = [b for b in snapshot.catalog["brand"].to_pylist() if b] or ["none"]
    names = snapshot.category_names.to_pylist() or ["none"]
    answers = [
        answer
        for n in range(len(strangers))
        for answer in (names[n % len(names)], brands[n % len(brands)], f"{5 + n}-{30 + n}")
    ]
    questions = ["category", "brand", "price"] * len(strangers)
    return state(snapshot.answers, customers, strangers.repeat(3), questions, answers)


def ranker(snapshot: Snapshot, generators: Generators, visitors: Visitors, budgets: dict[GeneratorName, int]) -> Ranker:
    """A ranker that prefers items bought before, items like those of the visit, and cheap items."""
    c = propose(generators, snapshot, visitors, budgets)
    matrix = assemble(snapshot, visitors, c.query, c.item, c.ranks, c.scores, STATED in generators.names)
    features = names(generators.names)
    of = {name: np.nan_to_num(matrix[:, n]) for n, name in enumerate(features)}
    labels = (of["pair_orders"] > 0).astype(int) + (of["visit_category_share"] > 0.3) + (of["item_price"] < 20)
    groups = np.bincount(c.query, minlength=len(visitors))
    config = RankerConfig(rounds=8, leaves=7, min_leaf=5, learning_rate=0.2)
    return Ranker.fit(Examples(matrix, labels, groups[groups > 0], features), config)


def propensity(snapshot: Snapshot) -> PropensityModel:
    """A model by which customers who ordered lately order again."""
    rows = input_matrix(snapshot)
    if not len(rows):
        return PropensityModel()
    labels = np.nan_to_num(snapshot.customer_features[:, CUSTOMER["orders_30d"]]) > 0
    settings = {"objective": "binary", "num_leaves": 4, "min_data_in_leaf": 5, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, labels), 5)
    return PropensityModel({days: PropensityClassifier(booster, 1.0, 0.1 * days) for days in HORIZONS_DAYS})


def bundle(snapshot: Snapshot) -> Bundle:
    generators = Generators.fit(snapshot, CONFIG)
    known = min(60, len(snapshot.customers))
    visitors = {"one_to_one": visitors_of(snapshot, known, 0), "predictive": visitors_of(snapshot, 0, 60)}
    return Bundle(
        snapshot=snapshot,
        generators=generators,
        recommenders={
            name: TwoStage(generators, budgets, ranker(snapshot, generators, visitors[name], budgets))
            for name, budgets in BUDGETS.items()
            if len(visitors[name])
        },
        metrics={"one_to_one_ndcg_at_10": 0.25},
        propensity=propensity(snapshot),
    )
