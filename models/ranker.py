"""LightGBM LambdaRank (Burges 2010): orders the candidates of one visitor."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from features.common.threads import THREADS
from features.ranking.feature_matrix import NAMES
from models.native_ranker import Predict, compiled
from models.search_space import Between

if TYPE_CHECKING:
    import lightgbm


BINS = 30  # of gains: LightGBM takes whole labels and a table of what each is worth


class RankerConfig(BaseModel):
    """How the trees are grown."""

    model_config = ConfigDict(extra="forbid")

    rounds: PositiveInt = 160
    """Most trees; prediction time is linear in them."""
    patience: PositiveInt = 30
    """Trees without a better NDCG@10 on the validation window after which no more are grown."""
    learning_rate: Annotated[PositiveFloat, Between(0.03, 0.2, log=True)] = 0.1
    """How much of each tree's advice is taken."""
    leaves: Annotated[int, Between(7, 63, log=True)] = Field(31, ge=2)
    """Leaves a tree."""
    min_leaf: Annotated[PositiveInt, Between(20, 500, log=True)] = 100
    """Fewest candidates a leaf may stand on."""
    feature_fraction: Annotated[float, Between(0.2, 1.0)] = Field(0.5, gt=0, le=1)
    """Share of the features each tree may look at."""
    bagging_fraction: Annotated[float, Between(0.4, 1.0)] = Field(0.7, gt=0, le=1)
    """Share of the candidates each tree learns from."""
    truncation: Annotated[PositiveInt, Between(15, 100, log=True)] = 30
    """How deep in the list the order matters; below about three times the cut-off of the metric loses quality."""
    l2: Annotated[NonNegativeFloat, Between(0.1, 50.0, log=True)] = 5.0
    """Weight of the squared leaf values."""
    seed: NonNegativeInt = 7
    """Which features and candidates each tree gets."""
    prior: bool = False
    """Whether the trees correct what customers alike and the customer's own purchases say, instead of learning that,
    too, from nothing; see `Prior`."""
    value: float = Field(0.0, ge=0, le=1)
    """How much of what a wanted item is worth to a list is its price: 0 nothing, 1 all of it; see `Gains`."""


class Grouped(Protocol):
    """Candidates with labels: `matrix` float32[n × features], `labels` 0–3 [n], `groups` rows per query, in order."""

    @property
    def matrix(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def groups(self) -> np.ndarray: ...


def parameters(config: RankerConfig, rows: int) -> dict[str, Any]:
    """LightGBM's own settings, for `rows` candidates to learn from."""
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
    """What a wanted candidate is worth, in labels 1, 2, … of rising gain; label 0, not wanted, is worth nothing.

    With the recipe's `value` v,

        gain = (2^grade - 1) · ((1 - v) + v · price / mean price of what is wanted)

    where 2^grade - 1 is LightGBM's own gain. At v = 1 the DCG that LambdaRank works for is what the list can be
    expected to sell for, discounted by place: the chance that an item is wanted times its price (compare Wu et al.
    2018, Turning Clicks into Purchases). The price is the feature `item_price`, which training and serving share; an
    item without one counts as the mean. Gains are cut into bins of about equally many candidates, and a bin is worth
    its mean: a few very dear items do not drown the rest.

    `edges` float64[bins - 1]: where the next bin begins; `table` float64[bins + 1]: gain by label.
    """

    value: float
    mean: float
    edges: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, examples: Grouped, value: float) -> "Gains":
        """Bins that fit the wanted among `examples`."""
        wanted = examples.labels > 0
        price = _price(examples.matrix[wanted])
        known = price[~np.isnan(price)]
        mean = float(known.mean()) if known.any() else 1.0
        gain = _gain(examples.labels[wanted], price, value, mean)
        edges = np.unique(np.quantile(gain, np.arange(1, BINS) / BINS, method="inverted_cdf"))
        edges = edges[edges > gain.min()]
        place = np.searchsorted(edges, gain, side="right")
        return cls(value, mean, edges, np.append(0.0, np.bincount(place, gain) / np.bincount(place)))

    def labels(self, examples: Grouped) -> np.ndarray:
        """int64[n]"""
        wanted = np.flatnonzero(examples.labels > 0)
        gain = _gain(examples.labels[wanted], _price(examples.matrix[wanted]), self.value, self.mean)
        out = np.zeros(len(examples.labels), np.int64)
        out[wanted] = 1 + np.searchsorted(self.edges, gain, side="right")
        return out


def _price(matrix: np.ndarray) -> np.ndarray:
    return np.maximum(matrix[:, NAMES.index("item_price")].astype(np.float64), 0)


def _gain(grade: np.ndarray, price: np.ndarray, value: float, mean: float) -> np.ndarray:
    worth: np.ndarray = (2.0**grade - 1) * ((1 - value) + value * np.where(np.isnan(price), 1.0, price / mean))
    return worth


def objective(config: RankerConfig, examples: Grouped) -> tuple[dict[str, Any], Callable[[Grouped], np.ndarray]]:
    """LightGBM's settings to learn from `examples`, and what makes the labels they go with, also for validation."""
    settings = parameters(config, len(examples.labels))
    if not config.value:
        return settings, lambda part: part.labels
    gains = Gains.of(examples, config.value)
    return settings | {"label_gain": gains.table.tolist()}, gains.labels


# The terms of TIFU-KNN's score (Hu et al. 2020), 0.7 x own + 0.3 x neighbours, by feature. Own is the score of the
# generator history. Of the neighbours' only the share of their best is known; a tenth is about what that weighs. What
# sells decides between equals.
PRIOR = {
    "popular_score": 0.001,
    "neighbours_score": 0.03,
    "pair_bought_by_basket": 0.7,
    "pair_bought_decayed": 0.7,
    "pair_carts_decayed": 0.28,
    "pair_views_decayed": 0.07,
}
_PRIOR_COLUMNS = [NAMES.index(name) for name in PRIOR]
_PRIOR_WEIGHTS = np.array([*PRIOR.values()])[:, None]
_PRIOR_FLOOR = 0.02  # what a candidate has of which nothing is known
_PRIOR_LINE = "tifu_knn_prior="


@dataclass(frozen=True)
class Prior:
    """Where trees begin: `strength` x the logarithm of a score after TIFU-KNN, the best simple method.

    Where few queries are known trees from nothing fall behind it. From here they can only add what the data is
    evidence for, as their leaves are shrunk (`l2`).
    """

    strength: float

    @classmethod
    def fit(cls, examples: Grouped) -> "Prior":
        """The strength with which the softmax over a query's candidates makes what is wanted likeliest."""
        from scipy.optimize import minimize_scalar

        sizes = examples.groups.astype(np.int64)
        starts, query = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)
        score = cls(1.0)(examples.matrix)
        score -= np.maximum.reduceat(score, starts)[query]
        wanted = examples.labels > 0
        share = wanted / np.maximum(np.add.reduceat(wanted, starts), 1)[query]

        def surprise(strength: float) -> float:
            total = np.log(np.add.reduceat(np.exp(strength * score), starts))[query]
            return float((share * (total - strength * score)).sum() + strength**2 / 2)

        return cls(float(minimize_scalar(surprise, bounds=(0.0, 5.0), method="bounded").x))

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n]"""
        return self.strength * np.log(self._sums(matrix)[-1])

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n × (features + 1)]: what each feature adds to the prior, in the order of `PRIOR`; at the end what
        all rows share. A row adds up to the prior of it."""
        out = np.zeros((len(matrix), matrix.shape[1] + 1))
        logs = self.strength * np.log(self._sums(matrix))
        out[:, _PRIOR_COLUMNS] = np.diff(logs, axis=0).T
        out[:, -1] = logs[0]
        return out

    def _sums(self, matrix: np.ndarray) -> np.ndarray:
        """float64[1 + features of `PRIOR` × n]: the score so far, one feature after another."""
        # Not a matrix product, whose last bit depends on how many rows there are.
        terms = np.empty((1 + len(PRIOR), len(matrix)))
        terms[0], terms[1:] = _PRIOR_FLOOR, matrix[:, _PRIOR_COLUMNS].T
        terms[np.isnan(terms)] = 0
        terms[1:] *= _PRIOR_WEIGHTS
        sums: np.ndarray = terms.cumsum(axis=0)
        return sums


@dataclass(frozen=True)
class Ranker:
    """A trained booster over the columns of `features.ranking.feature_matrix`, on top of a prior or of nothing."""

    booster: "lightgbm.Booster"
    history: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """NDCG@10 on the validation window after each tree, where there was one; not saved. By `Gains` with a value."""
    native: Predict | None = field(default=None, compare=False, repr=False)
    """The booster as machine code, where there is one; see `models.native_ranker`."""
    prior: Prior | None = None
    """What is added to the trees' score."""

    @classmethod
    def fit(cls, examples: Grouped, config: RankerConfig, validation: Grouped | None = None) -> "Ranker":
        """As many trees as `config.rounds`, or as few as do best on `validation`."""
        import lightgbm

        settings, labels = objective(config, examples)
        prior = Prior.fit(examples) if config.prior else None

        def begun(part: Grouped) -> np.ndarray | None:
            return prior(part.matrix) if prior else None

        data = lightgbm.Dataset(
            examples.matrix,
            labels(examples),
            group=examples.groups,
            init_score=begun(examples),
            feature_name=NAMES,
        )
        if validation is None or not len(validation.groups):
            return cls(lightgbm.train(settings, data, num_boost_round=config.rounds), prior=prior)
        unseen = data.create_valid(
            validation.matrix, labels(validation), group=validation.groups, init_score=begun(validation)
        )
        stop = lightgbm.early_stopping(config.patience, verbose=False)
        told: dict[str, dict[str, list[float]]] = {}
        after_each: list[Any] = [stop, lightgbm.record_evaluation(told)]
        booster = lightgbm.train(settings, data, config.rounds, valid_sets=[unseen], callbacks=after_each)
        return cls(booster, tuple(told["valid_0"]["ndcg@10"]), prior=prior)

    @property
    def trees(self) -> int:
        """How many are used: those up to the best on the validation window, if there was one."""
        return int(self.booster.best_iteration) if self.booster.best_iteration > 0 else int(self.booster.num_trees())

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n]; only the order within one visitor means anything."""
        found = self.native(matrix) if self.native else self.booster.predict(matrix, num_threads=THREADS)
        scores: np.ndarray = np.asarray(found)
        return scores + self.prior(matrix) if self.prior else scores

    def importance(self) -> dict[str, float]:
        """Total gain per feature, largest first."""
        gains = zip(self.booster.feature_name(), self.booster.feature_importance("gain"), strict=True)
        return dict(sorted(((n, float(g)) for n, g in gains), key=lambda pair: -pair[1]))

    def text(self) -> str:
        """LightGBM's own text format, and a line with the prior's strength: it holds numbers, no code."""
        model: str = self.booster.model_to_string()
        return f"{model}{_PRIOR_LINE}{self.prior.strength!r}\n" if self.prior else model

    @classmethod
    def from_text(cls, text: str) -> "Ranker":
        import lightgbm

        text, _, strength = text.partition(_PRIOR_LINE)
        booster = lightgbm.Booster(model_str=text)
        return cls(booster, native=compiled(booster, text), prior=Prior(float(strength)) if strength else None)
