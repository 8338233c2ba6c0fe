"""Promotion gate: the rules that a challenger must satisfy against the champion on one hold-out.

Differences are challenger minus champion per query, so that how hard a query is for both cancels out. Intervals are 95%
paired-bootstrap intervals of the mean (Efron 1979). `GateConfig` in `training.config` holds the limits.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from features.common.clock import iso
from models import self_check
from models.bundle import RECOMMENDERS, RecommenderName
from models.interface import RankingRequest, Recommender
from training.config import GateConfig, GuardRailsConfig
from training.evaluation.bootstrap import paired_difference
from training.evaluation.evaluate import Evaluation
from training.tracking.metric_names import split_recommender

LATENCY_ROUNDS = 15  # timings of each model; the median of their ratios is what counts
LATENCY_ITEMS = 10  # products per timed request
ANSWER_SHARES = ("empty_share", "filled_share", "available_share")  # what `check_answers` measures
SIDE_METRIC = "ndcg_at_10"  # of the recommenders that the gate's metric does not belong to

Results = Mapping[RecommenderName, Evaluation]


@dataclass(frozen=True)
class Comparison:
    """Both models' results on the same queries of [start, end) (microseconds).

    `basis` says in words which hold-out this is; `measure_latency` takes the number of requests in a batch.
    """

    champion: Results
    challenger: Results
    start: int
    end: int
    basis: str
    measure_latency: Callable[[int], "Latency"] | None = None

    @property
    def window(self) -> str:
        return f"hold-out {iso(self.start)} to {iso(self.end)} ({self.basis})"


@dataclass(frozen=True)
class Latency:
    """Median milliseconds to rank a batch of requests in this process; `ratio` is the median of each round's ratio."""

    champion_ms: float
    challenger_ms: float
    ratio: float


@dataclass(frozen=True)
class GateDecision:
    """The gate's decision: `summary` of the deciding metric, one message in `refusals` for each broken rule."""

    summary: str
    refusals: list[str] = field(default_factory=list)
    measurements: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.refusals


@dataclass(frozen=True)
class Difference:
    """Means of one metric over the same queries; `low` and `high` bound challenger minus champion."""

    champion: float
    challenger: float
    low: float
    high: float
    queries: int

    @classmethod
    def from_pairs(cls, pairs: pl.DataFrame, metric: str) -> "Difference":
        """Compare the queries for which both models have the metric (`pair_queries`); all 0 without any."""
        both = pairs.select(pl.col(f"champion_{metric}", f"challenger_{metric}").cast(pl.Float64).fill_nan(None))
        champion, challenger = both.drop_nulls().to_numpy().T
        if not len(champion):
            return cls(0.0, 0.0, 0.0, 0.0, 0)
        return cls(
            float(champion.mean()),
            float(challenger.mean()),
            *paired_difference(challenger, champion)[1:],
            len(champion),
        )

    @property
    def mean(self) -> float:
        return self.challenger - self.champion

    def fell_by_more_than(self, allowed: float) -> bool:
        """Whether the mean fell by more than `allowed` and the whole interval is below zero."""
        return self.mean < -allowed and self.high < 0

    def __str__(self) -> str:
        return (
            f"{self.challenger:.4f} against the champion's {self.champion:.4f}: {self.mean:+.4f} "
            f"(95% interval {self.low:+.4f} to {self.high:+.4f}, {self.queries:,} queries)"
        )


def apply_gate(gate: GateConfig, comparison: Comparison) -> GateDecision:
    """Check every rule of the gate."""
    name, metric = gate_target(gate)
    challenger, champion = comparison.challenger.get(name), comparison.champion.get(name)
    if challenger is None or metric not in challenger.per_query.columns:
        message = f"the challenger has no {gate.metric} on the hold-out"
        return GateDecision(f"{gate.metric} (missing), {comparison.window}", [f"metric: {message}"])
    if champion is None:
        summary = f"{gate.metric} {_mean(challenger, metric):.4f}, the champion has no {name}; {comparison.window}"
        return GateDecision(summary, _latency(gate, comparison, {}))
    pairs = pair_queries(champion, challenger)
    if pairs is None:
        return GateDecision(f"{gate.metric}, {comparison.window}", [_unpaired_message(name)])
    main = Difference.from_pairs(pairs, metric)
    measurements = {
        "champion": main.champion,
        "challenger": main.challenger,
        "difference": main.mean,
        "interval_low": main.low,
        "interval_high": main.high,
        "queries": float(main.queries),
    }
    refusals = [
        *_deciding_metric(gate, main),
        *_segments(gate, pairs, metric),
        *_new_items(gate, pairs, f"new_{metric}", measurements),
        *_other_recommenders(gate, comparison, name, measurements),
        *_coverage(gate, comparison, measurements),
        *_latency(gate, comparison, measurements),
    ]
    return GateDecision(f"{gate.metric} {main}, {comparison.window}", refusals, measurements)


def check_answers(rails: GuardRailsConfig, recommender: Recommender, measurements: dict[str, float]) -> list[str]:
    """Check that a model can answer: that a sample of visitors gets lists, full ones, of what is in demand."""
    check = self_check.check_answers(recommender, rails.sample)
    measurements |= {"empty_share": check.empty_share, "filled_share": check.filled}
    refusals = []
    if rails.empty_share is not None and check.empty_share > rails.empty_share:
        refusals.append(
            f"empty_share: {check.empty:,} of {check.visitors:,} visitors get an empty list, allowed "
            f"{rails.empty_share:.0%}; {check.available:,} of {check.items:,} items are available"
        )
    elif rails.filled_share is not None and check.filled < rails.filled_share:
        refusals.append(
            f"filled_share: lists of {self_check.LIMIT} are {check.filled:.0%} full on average, to be "
            f"{rails.filled_share:.0%}; {check.available:,} of {check.items:,} items are available"
        )
    if check.available_share is not None:
        measurements["available_share"] = check.available_share
        if rails.available_share is not None and check.available_share < rails.available_share:
            refusals.append(
                f"available_share: {check.available_share:.1%} of what was viewed, carted and bought in the last 28 "
                f"days is available, to be {rails.available_share:.0%}. Are the ids of catalog and events written "
                "alike, and is the catalog's column `available` right?"
            )
    return refusals


def checks_answers(rails: GuardRailsConfig) -> bool:
    """Whether any rail needs the challenger's answers."""
    return any(getattr(rails, name) is not None for name in ANSWER_SHARES)


def gate_target(gate: GateConfig) -> tuple[RecommenderName, str]:
    """Return the recommender that the gate's metric belongs to, and the metric's own name."""
    name, metric = split_recommender(gate.metric)
    return name or "one_to_one", metric


def pair_queries(champion: Evaluation, challenger: Evaluation) -> pl.DataFrame | None:
    """Join the evaluations: one row per query with segment, and each metric as champion_… and challenger_….

    Queries are matched by customer if both sides have customer ids, else by position. Returns None unless all columns
    that do not depend on the model agree row by row: the evaluations then rest on different queries.
    """
    old, new = (e.per_query.with_columns(pl.col("relevant").cast(pl.Int64)) for e in (champion, challenger))
    have_ids = all("customer_id" in t.columns and not t["customer_id"].has_nulls() for t in (old, new))
    keys = ["customer_id", "segment", "relevant"] if have_ids else ["segment", "relevant"]
    if have_ids:
        old, new = (t.sort("customer_id", maintain_order=True) for t in (old, new))
    if old.height != new.height or not old.select(keys).equals(new.select(keys)):
        return None
    shared = [c for c in new.columns if c in old.columns and new[c].dtype.is_float()]
    sides = [t.select(pl.col(shared).name.prefix(f"{name}_")) for name, t in (("champion", old), ("challenger", new))]
    return pl.concat([new.select("segment"), *sides], how="horizontal")


def measure_latency(champion: Recommender, challenger: Recommender, customers: list[str], batch: int) -> Latency:
    """Time both models on requests of `batch` customers, alternating so that other load slows both equally."""
    chosen = [customers[n * len(customers) // batch] for n in range(batch)] if customers else [None] * batch
    requests = [RankingRequest(LATENCY_ITEMS, customer) for customer in chosen]

    def time_ms(recommender: Recommender) -> float:
        begin = time.perf_counter()
        recommender.recommend(requests)
        return 1000 * (time.perf_counter() - begin)

    time_ms(champion), time_ms(challenger)  # the first call reads files and fills caches
    rounds = []
    for n in range(LATENCY_ROUNDS):
        first, second = (champion, challenger) if n % 2 else (challenger, champion)
        times = time_ms(first), time_ms(second)
        rounds.append(times if n % 2 else times[::-1])
    champion_ms, challenger_ms = (statistics.median(side) for side in zip(*rounds, strict=True))
    return Latency(champion_ms, challenger_ms, statistics.median(b / a for a, b in rounds))


def _deciding_metric(gate: GateConfig, main: Difference) -> list[str]:
    if main.queries < gate.min_queries:
        return [
            f"metric: {main.queries} queries on the hold-out are too few to tell (min_queries {gate.min_queries}); "
            "compare on a longer window"
        ]
    if not main.mean >= -gate.margin:
        allowed = f"better by {-gate.margin:g}" if gate.margin < 0 else f"worse by {gate.margin:g} at most"
        return [f"metric: {gate.metric} {main.mean:+.4f}, to be {allowed} (margin)"]
    if not main.low >= -gate.worst_case:
        return [
            f"metric: {gate.metric} may be worse by {-main.low:.4f}, the lower end of its interval; worst_case allows "
            f"{gate.worst_case:g}. More queries make the interval narrower: compare on a longer window"
        ]
    return []


def _segments(gate: GateConfig, pairs: pl.DataFrame, metric: str) -> list[str]:
    if gate.rails.segment_drop is None:
        return []
    refusals = []
    for (segment,), rows in sorted(pairs.group_by("segment")):
        d = Difference.from_pairs(rows, metric)
        if d.queries >= gate.rails.segment_queries and d.fell_by_more_than(gate.rails.segment_drop):
            refusals.append(f"segment_drop: {segment} {metric} {d}, allowed {gate.rails.segment_drop:g}")
    return refusals


def _new_items(gate: GateConfig, pairs: pl.DataFrame, metric: str, measurements: dict[str, float]) -> list[str]:
    if f"champion_{metric}" not in pairs.columns:
        return []
    d = Difference.from_pairs(pairs, metric)
    measurements |= {"new_items_champion": d.champion, "new_items_challenger": d.challenger}
    allowed = gate.rails.new_items_drop
    if allowed is None or d.queries < gate.min_queries or not d.fell_by_more_than(allowed):
        return []
    return [f"new_items_drop: {metric} {d}, allowed {allowed:g}"]


def _other_recommenders(
    gate: GateConfig, comparison: Comparison, about: RecommenderName, measurements: dict[str, float]
) -> list[str]:
    """Check the other recommenders, which are swapped together with that of the gate's metric."""
    return [
        line
        for name in RECOMMENDERS
        if name != about
        for line in _other_recommender(gate, comparison, name, measurements)
    ]


def _other_recommender(
    gate: GateConfig, comparison: Comparison, name: RecommenderName, measurements: dict[str, float]
) -> list[str]:
    champion, challenger = comparison.champion.get(name), comparison.challenger.get(name)
    allowed = gate.rails.other_recommender_drop
    if champion is None or allowed is None:
        return []
    if challenger is None:
        return [f"other_recommender_drop: the champion has {name}, the challenger has none"]
    pairs = pair_queries(champion, challenger)
    if pairs is None:
        return [_unpaired_message(name)]
    d = Difference.from_pairs(pairs, SIDE_METRIC)
    measurements |= {f"{name}_champion": d.champion, f"{name}_challenger": d.challenger}
    if d.queries < gate.min_queries or not d.fell_by_more_than(allowed):
        return []
    return [f"other_recommender_drop: {name}_{SIDE_METRIC} {d}, allowed {allowed:g}"]


def _coverage(gate: GateConfig, comparison: Comparison, measurements: dict[str, float]) -> list[str]:
    refusals = []
    for name, challenger in sorted(comparison.challenger.items()):
        sides = [e.summary.get("coverage") for e in (comparison.champion.get(name), challenger) if e is not None]
        if len(sides) < 2 or None in sides:
            continue
        old, new = (float(s) for s in sides if s is not None)
        measurements |= {
            f"{name}_coverage_champion": old,
            f"{name}_coverage_challenger": new,
        }
        allowed = gate.rails.coverage_drop_share
        if allowed is not None and new < old * (1 - allowed):
            refusals.append(
                f"coverage_drop_share: {name} recommends {new:.1%} of the items, the champion "
                f"{old:.1%}: {1 - new / old:.0%} less, allowed {allowed:.0%}"
            )
    return refusals


def _latency(gate: GateConfig, comparison: Comparison, measurements: dict[str, float]) -> list[str]:
    allowed = gate.rails.latency_ratio
    if allowed is None or comparison.measure_latency is None:
        return []
    t = comparison.measure_latency(gate.rails.latency_batch)
    measurements |= {"latency_champion_ms": t.champion_ms, "latency_challenger_ms": t.challenger_ms}
    if t.ratio <= allowed:
        return []
    return [
        f"latency_ratio: {gate.rails.latency_batch} requests take {t.challenger_ms:.1f} ms, with the champion "
        f"{t.champion_ms:.1f} ms: {t.ratio:.2f} times as long, allowed {allowed:g}"
    ]


def _unpaired_message(name: RecommenderName) -> str:
    return (
        f"{name}: the queries of the two results are not the same, so they cannot be compared one by one; give --log "
        "with events newer than both models"
    )


def _mean(evaluation: Evaluation, metric: str) -> float:
    return float(np.nanmean(evaluation.per_query[metric].to_numpy()))
