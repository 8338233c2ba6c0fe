"""The ranker: LightGBM LambdaRank (Burges 2010) over the candidates of a visitor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from features.common.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from features.common.robust import fit_bounds
from features.common.threads import THREADS
from models.native_ranker import Predict, compile_ranker
from models.search_space import Between

if TYPE_CHECKING:
    import lightgbm


BINS = 30  # of gains: LightGBM takes integer labels and a table of the gain of each


class RankerConfig(BaseModel):
    """How the trees are grown."""

    model_config = ConfigDict(extra="forbid")

    rounds: PositiveInt = 160
    """Most trees; prediction time is linear in them."""
    patience: PositiveInt = 30
    """Trees without a better NDCG@10 on the validation window after which no more are grown."""
    learning_rate: Annotated[PositiveFloat, Between(0.03, 0.2, log=True)] = 0.1
    """The share of each tree's output that is added."""
    leaves: Annotated[int, Between(7, 63, log=True)] = Field(31, ge=2)
    """Most leaves of a tree."""
    min_leaf: Annotated[PositiveInt, Between(20, 500, log=True)] = 100
    """Fewest candidates in a leaf."""
    feature_fraction: Annotated[float, Between(0.2, 1.0)] = Field(0.5, gt=0, le=1)
    """Share of the features each tree may use."""
    bagging_fraction: Annotated[float, Between(0.4, 1.0)] = Field(0.7, gt=0, le=1)
    """Share of the candidates each tree learns from."""
    truncation: Annotated[PositiveInt, Between(15, 100, log=True)] = 30
    """Down to which rank the order matters; below about three times the cut-off of the metric loses quality."""
    l2: Annotated[NonNegativeFloat, Between(0.1, 50.0, log=True)] = 5.0
    """Weight of the squared leaf values."""
    seed: NonNegativeInt = 7
    """Seed of the features and candidates that each tree gets."""
    prior: bool = False
    """Whether the trees correct a score by TIFU-KNN instead of starting from nothing; see `Prior`."""
    value: float = Field(0.0, ge=0, le=1)
    """How much of a relevant item's gain is its price: 0 nothing, 1 all of it; see `Gains`."""


class LabelledCandidates(Protocol):
    """Labelled candidates, query by query: `matrix` float32[n × features], the names of its `features`, `labels` 0–3
    int64[n], `groups` int64[queries]: rows of each query."""

    @property
    def matrix(self) -> Float32Array: ...

    @property
    def features(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Int64Array: ...

    @property
    def groups(self) -> Int64Array: ...


def parameters(config: RankerConfig, rows: int) -> dict[str, Any]:
    """LightGBM's parameters for a training set of `rows` candidates."""
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "lambdarank_truncation_level": config.truncation,
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": min(config.min_leaf, max(5, rows // 100)),
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging_fraction,
        # Rows, not queries: with bagging_by_query two threads do not always grow the same trees from the same
        # data, `deterministic` or not (LightGBM 4.7, seen on small data).
        "bagging_freq": 1,
        "lambda_l2": config.l2,
        "seed": config.seed,
        "deterministic": True,
        "force_col_wise": True,  # a third less time than by rows, as each tree looks at half of the features
        # Features that no leaf of `min_leaf` candidates can split would be thrown out with the data. Tuning tries
        # smaller leaves on the same data, and a recipe must give the same trees there and in a training run.
        "feature_pre_filter": False,
        "num_threads": THREADS,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class Gains:
    """The gain of a relevant candidate, as labels 1, 2, … of rising gain; label 0, not relevant, gains nothing.

    With the recipe's `value` v,

        gain = (2^grade - 1) · ((1 - v) + v · price / mean price of relevant items)

    where 2^grade - 1 is LightGBM's own gain. At v = 1 the DCG that LambdaRank works for is what the list can be
    expected to sell for, discounted by rank: the chance that an item is relevant times its price (compare Wu et al.
    2018, Turning Clicks into Purchases). The price is the feature `item_price`, which training and serving share; an
    item without one counts as the mean, and one above all bounds (`features.common.robust`) as the bound, `most`. Gains
    are cut into bins of about equally many candidates, and a bin gains its mean: a few very expensive items do not
    outweigh the rest.

    `edges` float64[bins - 1]: where the next bin begins; `table` float64[bins + 1]: gain by label.
    """

    value: float
    mean: float
    edges: Float64Array
    table: Float64Array
    most: float = float("inf")

    @classmethod
    def fit(cls, examples: LabelledCandidates, value: float) -> "Gains":
        """Fit the bins to the relevant among `examples`."""
        relevant = examples.labels > 0
        price = _price(examples, relevant)
        known = price[~np.isnan(price)]
        bounds = fit_bounds(known)
        most = bounds.high if bounds else float("inf")
        known = np.minimum(known, most)
        mean = float(known.mean()) if known.any() else 1.0
        gain = _gain(examples.labels[relevant], np.minimum(price, most), value, mean)
        edges = np.unique(np.quantile(gain, np.arange(1, BINS) / BINS, method="inverted_cdf"))
        edges = edges[edges > gain.min()]
        place = np.searchsorted(edges, gain, side="right")
        return cls(value, mean, edges, np.append(0.0, np.bincount(place, gain) / np.bincount(place)), most)

    def labels(self, examples: LabelledCandidates) -> Int64Array:
        """int64[n]: the label of each candidate."""
        relevant = np.flatnonzero(examples.labels > 0)
        price = np.minimum(_price(examples, relevant), self.most)
        gain = _gain(examples.labels[relevant], price, self.value, self.mean)
        out = np.zeros(len(examples.labels), np.int64)
        out[relevant] = 1 + np.searchsorted(self.edges, gain, side="right")
        return out


def _price(examples: LabelledCandidates, rows: BoolArray | Int64Array) -> Float64Array:
    column = examples.features.index("item_price")
    price: Float64Array = np.maximum(examples.matrix[rows, column].astype(np.float64), 0)
    return price


def _gain(grade: Int64Array, price: Float64Array, value: float, mean: float) -> Float64Array:
    gain: Float64Array = (2.0**grade - 1) * ((1 - value) + value * np.where(np.isnan(price), 1.0, price / mean))
    return gain


def objective(
    config: RankerConfig, examples: LabelledCandidates
) -> tuple[dict[str, Any], Callable[[LabelledCandidates], Int64Array]]:
    """LightGBM's parameters for `examples`, and the function that labels them and the validation set."""
    settings = parameters(config, len(examples.labels))
    if not config.value:
        return settings, lambda part: part.labels
    gains = Gains.fit(examples, config.value)
    return settings | {"label_gain": gains.table.tolist()}, gains.labels


# The terms of TIFU-KNN's score (Hu et al. 2020), 0.7 x own + 0.3 x neighbours, by feature. Own is the score of the
# generator history. Of the neighbours' only the share of their best is known; a tenth is about what that weighs.
# Popularity breaks ties.
PRIOR = {
    "popular_score": 0.001,
    "neighbours_score": 0.03,
    "pair_bought_by_basket": 0.7,
    "pair_bought_decayed": 0.7,
    "pair_carts_decayed": 0.28,
    "pair_views_decayed": 0.07,
}
_PRIOR_WEIGHTS = np.array([*PRIOR.values()])[:, None]
_PRIOR_FLOOR = 0.02  # the score of a candidate without any of these
_PRIOR_LINE = "tifu_knn_prior="


@dataclass(frozen=True)
class Prior:
    """The score that trees start from: `strength` x the logarithm of a score by TIFU-KNN, the best simple method.

    Trees that start from nothing fall behind it where there are few queries. Starting here, they only add what the
    data is evidence for, as their leaves are shrunk (`l2`). `columns`: where the matrix has the features of `PRIOR`.
    """

    strength: float
    columns: tuple[int, ...]

    @classmethod
    def of(cls, strength: float, features: Sequence[str]) -> "Prior":
        """For a matrix with these features."""
        return cls(strength, tuple(features.index(name) for name in PRIOR))

    @classmethod
    def fit(cls, examples: LabelledCandidates) -> "Prior":
        """Fit the strength: a softmax over each query's candidates makes the relevant ones likeliest."""
        from scipy.optimize import minimize_scalar

        sizes = examples.groups.astype(np.int64)
        starts, query = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)
        unit = cls.of(1.0, examples.features)
        score = unit(examples.matrix)
        score -= np.maximum.reduceat(score, starts)[query]
        relevant = examples.labels > 0
        share = relevant / np.maximum(np.add.reduceat(relevant, starts), 1)[query]

        def loss(strength: float) -> float:
            total = np.log(np.add.reduceat(np.exp(strength * score), starts))[query]
            return float((share * (total - strength * score)).sum() + strength**2 / 2)

        best = minimize_scalar(loss, bounds=(0.0, 5.0), method="bounded")
        return replace(unit, strength=float(best.x))

    def __call__(self, matrix: Float32Array) -> Float64Array:
        """float64[n]: the prior of each candidate."""
        prior: Float64Array = self.strength * np.log(self._sums(matrix)[-1])
        return prior

    def contributions(self, matrix: Float32Array) -> Float64Array:
        """float64[n × (features + 1)]: what each feature adds to the prior, in the order of `PRIOR`; at the end the
        constant that all rows share. A row adds up to its prior."""
        out = np.zeros((len(matrix), matrix.shape[1] + 1))
        logs = self.strength * np.log(self._sums(matrix))
        out[:, list(self.columns)] = np.diff(logs, axis=0).T
        out[:, -1] = logs[0]
        return out

    def _sums(self, matrix: Float32Array) -> Float64Array:
        """float64[1 + features of `PRIOR` × n]: the running sum of the score, one feature after another."""
        # Not a matrix product, whose last bit depends on how many rows there are.
        terms = np.empty((1 + len(PRIOR), len(matrix)))
        terms[0], terms[1:] = _PRIOR_FLOOR, matrix[:, list(self.columns)].T
        terms[np.isnan(terms)] = 0
        terms[1:] *= _PRIOR_WEIGHTS
        sums: Float64Array = terms.cumsum(axis=0)
        return sums


@dataclass(frozen=True)
class Ranker:
    """A trained booster over the columns of `features.ranking.feature_matrix`, with or without a prior."""

    booster: "lightgbm.Booster"
    validation_curve: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """NDCG@10 on the validation window after each tree, if there was one; by `Gains` with a value. Not saved."""
    native: Predict | None = field(default=None, compare=False, repr=False)
    """The booster as machine code, where there is one; see `models.native_ranker`."""
    prior: Prior | None = None
    """Added to the trees' score."""

    @classmethod
    def fit(
        cls, examples: LabelledCandidates, config: RankerConfig, validation: LabelledCandidates | None = None
    ) -> "Ranker":
        """Grow `config.rounds` trees, or the number that does best on `validation`."""
        import lightgbm

        settings, labels = objective(config, examples)
        prior = Prior.fit(examples) if config.prior else None

        def initial_score(part: LabelledCandidates) -> Float64Array | None:
            return prior(part.matrix) if prior else None

        data = lightgbm.Dataset(
            examples.matrix,
            labels(examples),
            group=examples.groups,
            init_score=initial_score(examples),
            feature_name=list(examples.features),
        )
        if validation is None or not len(validation.groups):
            return cls(lightgbm.train(settings, data, num_boost_round=config.rounds), prior=prior)
        holdout = data.create_valid(
            validation.matrix, labels(validation), group=validation.groups, init_score=initial_score(validation)
        )
        stop = lightgbm.early_stopping(config.patience, verbose=False)
        curve: dict[str, dict[str, list[float]]] = {}
        callbacks: list[Any] = [stop, lightgbm.record_evaluation(curve)]
        booster = lightgbm.train(settings, data, config.rounds, valid_sets=[holdout], callbacks=callbacks)
        return cls(booster, tuple(curve["valid_0"]["ndcg@10"]), prior=prior)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the columns it was trained on."""
        return tuple(self.booster.feature_name())

    @property
    def trees(self) -> int:
        """The number of trees in use: up to the best on the validation window, if there was one."""
        return int(self.booster.best_iteration) if self.booster.best_iteration > 0 else int(self.booster.num_trees())

    def predict(self, matrix: Float32Array) -> Float64Array:
        """Score the rows of `matrix`: float64[n]; only the order within one visitor means anything."""
        raw = self.native(matrix) if self.native else self.booster.predict(matrix, num_threads=THREADS)
        scores: Float64Array = np.asarray(raw)
        return scores + self.prior(matrix) if self.prior else scores

    def importance(self) -> dict[str, float]:
        """Total gain per feature, largest first."""
        gains = zip(self.features, self.booster.feature_importance("gain"), strict=True)
        return dict(sorted(((n, float(g)) for n, g in gains), key=lambda pair: -pair[1]))

    def text(self) -> str:
        """Serialise to LightGBM's text format and a line with the prior's strength: numbers, no code."""
        model: str = self.booster.model_to_string()
        return f"{model}{_PRIOR_LINE}{self.prior.strength!r}\n" if self.prior else model

    @classmethod
    def from_text(cls, text: str) -> "Ranker":
        """Restore a ranker from its `text()`."""
        import lightgbm

        text, _, strength = text.partition(_PRIOR_LINE)
        booster = lightgbm.Booster(model_str=text)
        prior = Prior.of(float(strength), booster.feature_name()) if strength else None
        return cls(booster, native=compile_ranker(booster, text), prior=prior)
