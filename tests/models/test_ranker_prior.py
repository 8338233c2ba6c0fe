"""The prior of a ranker: a score by TIFU-KNN that its trees start from."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from models.ranker import PRIOR, Prior, Ranker, RankerConfig
from tests.features.shop import same_arrays
from tests.models.fitted import FEATURES

OWN, ALIKE = FEATURES.index("pair_bought_decayed"), FEATURES.index("neighbours_score")
EACH = 30


@dataclass(frozen=True)
class Examples:
    matrix: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    features: tuple[str, ...] = FEATURES


def shop(queries: int, seed: int, surprise: float = 0.0) -> Examples:
    """Items bought before are relevant, those bought more often the more so. All else is noise, but for column 0,
    which counts by `surprise`."""
    draw = np.random.default_rng(seed)
    n = queries * EACH
    matrix = draw.normal(size=(n, len(FEATURES))).astype(np.float32)
    for name in PRIOR:
        matrix[:, FEATURES.index(name)] = 0
    own = draw.random(n) < 0.3
    matrix[:, OWN] = np.where(own, draw.exponential(1.0, n), np.nan)
    matrix[:, ALIKE] = draw.random(n)
    score = 1.5 * Prior.of(1.0, FEATURES)(matrix) + surprise * matrix[:, 0] + draw.gumbel(size=n)
    best = score.reshape(queries, EACH).argsort(axis=1)[:, -2:]
    labels = np.zeros((queries, EACH), np.int64)
    np.put_along_axis(labels, best, 3, axis=1)
    return Examples(matrix, labels.ravel(), np.full(queries, EACH))


def config(**changes: float) -> RankerConfig:
    settings = {"rounds": 40, "leaves": 7, "min_leaf": 20, "l2": 50.0, "prior": True} | changes
    return RankerConfig.model_validate(settings)


def hits(scores: np.ndarray, fresh: Examples) -> float:
    """The share of the relevant candidates among the first three."""
    top = np.argsort(-scores.reshape(-1, EACH), axis=1)[:, :3]
    return float((np.take_along_axis(fresh.labels.reshape(-1, EACH), top, axis=1) > 0).sum() / (fresh.labels > 0).sum())


def row(**values: float) -> np.ndarray:
    matrix = np.full((1, len(FEATURES)), np.nan, np.float32)
    for name, value in values.items():
        matrix[:, FEATURES.index(name)] = value
    return matrix


def test_the_formula_by_hand():
    """Own: 1.2 by orders + 0.8 by time + 0.4 x 0.5 carts + 0.1 x 2 views = 2.4."""
    own = {"pair_bought_by_basket": 1.2, "pair_bought_decayed": 0.8, "pair_carts_decayed": 0.5, "pair_views_decayed": 2}
    known = row(**own, neighbours_score=0.5, popular_score=1.0)
    assert Prior.of(2.0, FEATURES)(known) == pytest.approx(2 * np.log(0.02 + 0.7 * 2.4 + 0.03 * 0.5 + 0.001))
    assert Prior.of(2.0, FEATURES)(row()) == pytest.approx(2 * np.log(0.02))


def test_own_purchases_come_first_then_those_of_neighbours_then_best_sellers():
    rows = [row(pair_bought_by_basket=0.2), row(neighbours_score=1.0), row(neighbours_score=0.1, popular_score=1.0)]
    rows += [row(neighbours_score=0.1), row(popular_score=0.2), row()]
    scores = Prior.of(1.0, FEATURES)(np.concatenate(rows))
    assert (np.diff(scores) < 0).all()


def test_the_strength_is_fitted_to_the_data():
    weak, strong = shop(400, 1), shop(400, 1)
    strong = replace(strong, labels=np.where(Prior.of(1.0, FEATURES)(strong.matrix) > -0.5, 3, 0))
    queries = (strong.labels.reshape(-1, EACH) > 0).any(axis=1)
    rows = np.repeat(queries, EACH)
    strong = Examples(strong.matrix[rows], strong.labels[rows], strong.groups[queries])
    noise = replace(weak, labels=np.random.default_rng(4).permutation(weak.labels))
    noise = replace(noise, labels=np.where(np.arange(len(noise.labels)) % EACH == 0, 3, noise.labels))
    strengths = [Prior.fit(examples).strength for examples in (noise, weak, strong)]
    assert strengths[0] < 0.2 < 1.0 < strengths[1] < strengths[2]


def test_with_few_queries_trees_do_not_fall_behind_the_prior():
    few, fresh = shop(25, 1), shop(2000, 2)
    alone = hits(Prior.fit(few)(fresh.matrix), fresh)
    with_prior = hits(Ranker.fit(few, config()).predict(fresh.matrix), fresh)
    without = hits(Ranker.fit(few, config(prior=False, l2=5.0)).predict(fresh.matrix), fresh)
    assert without < alone - 0.02
    assert with_prior > alone - 0.01


def test_with_many_queries_trees_learn_more_than_the_prior():
    many, fresh = shop(600, 1, surprise=2.0), shop(1000, 2, surprise=2.0)
    alone = hits(Prior.fit(many)(fresh.matrix), fresh)
    assert hits(Ranker.fit(many, config(), shop(100, 3, 2.0)).predict(fresh.matrix), fresh) > alone + 0.15


def test_the_prior_is_saved_with_the_trees_if_there_is_one():
    few, fresh = shop(25, 1), shop(40, 2).matrix
    ranker = Ranker.fit(few, config())
    again = Ranker.from_text(ranker.text())
    assert again.prior is not None
    assert again.prior == ranker.prior
    assert same_arrays(again.predict(fresh), ranker.predict(fresh))
    plain = Ranker.fit(few, config(prior=False))
    assert plain.prior is None
    assert Ranker.from_text(plain.text()).prior is None
    assert plain.text() == plain.booster.model_to_string()


def test_the_prior_is_added_to_native_scores_too():
    ranker, fresh = Ranker.fit(shop(25, 1), config()), shop(9, 2).matrix
    native = replace(ranker, native=lambda matrix: np.asarray(ranker.booster.predict(matrix)))
    assert same_arrays(native.predict(fresh), ranker.predict(fresh))


def test_a_row_scores_the_same_alone_and_in_any_batch():
    ranker, fresh = Ranker.fit(shop(25, 1), config()), shop(9, 2).matrix
    whole = ranker.predict(fresh)
    for step in (1, 7, 64):
        parts = [ranker.predict(fresh[n : n + step]) for n in range(0, len(fresh), step)]
        assert same_arrays(np.concatenate(parts), whole)


def test_contributions_add_up_to_the_prior():
    matrix = shop(9, 2).matrix
    prior = Prior.of(1.3, FEATURES)
    parts = prior.contributions(matrix)
    assert parts.shape == (len(matrix), len(FEATURES) + 1)
    assert parts.sum(axis=1) == pytest.approx(prior(matrix))
    assert (np.delete(parts[:, :-1], [FEATURES.index(name) for name in PRIOR], axis=1) == 0).all()
    assert (parts[:, OWN] >= 0).all()
    assert (parts[np.isnan(matrix[:, OWN]), OWN] == 0).all()
