"""The promotion gate: what a challenger must not be worse at, judged on one hold-out and side by side.

Differences are challenger minus champion, query by query, so that what is hard for both cancels out; their
interval is the 95% bootstrap of the mean (paired; Efron 1979).
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from features.common.clock import iso
from models.bundle import RECOMMENDERS, RecommenderName
from models.interface import Recommender, Request
from training.config import Gate
from training.evaluation.bootstrap import difference
from training.evaluation.evaluate import Evaluation
from training.tracking.metric_names import recommender_of

ROUNDS = 15  # timings of each model; the median of their ratios is what counts
LIMIT = 10  # products per timed request
SIDE = "ndcg_at_10"  # the metric by which the recommender that the gate's metric is not about is judged

Results = Mapping[RecommenderName, Evaluation]


@dataclass(frozen=True)
class Comparison:
    """Both models' results on the same queries of [start, end), and how it came to that."""

    champion: Results
    challenger: Results
    start: int
    end: int
    how: str
    time: Callable[[int], "Latency"] | None = None  # given how many requests to rank at once

    @property
    def window(self) -> str:
        return f"hold-out {iso(self.start)} to {iso(self.end)} ({self.how})"


@dataclass(frozen=True)
class Latency:
    """Milliseconds to rank a batch of requests in this process: medians; `ratio` is the median of the rounds'."""

    champion_ms: float
    challenger_ms: float
    ratio: float


@dataclass(frozen=True)
class Judgement:
    """`summary` is the metric that decides, in words; `refusals` says of each broken rule what broke it."""

    summary: str
    refusals: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.refusals


@dataclass(frozen=True)
class Difference:
    """Means over the same queries, and challenger minus champion with its interval."""

    champion: float
    challenger: float
    low: float
    high: float
    queries: int

    @classmethod
    def of(cls, pairs: pl.DataFrame, metric: str) -> "Difference":
        """Of the queries for which both have the metric; no query gives zeros."""
        both = pairs.select(pl.col(f"champion_{metric}", f"challenger_{metric}").cast(pl.Float64).fill_nan(None))
        old, new = both.drop_nulls().to_numpy().T
        if not len(old):
            return cls(0.0, 0.0, 0.0, 0.0, 0)
        return cls(float(old.mean()), float(new.mean()), *difference(new, old)[1:], len(old))

    @property
    def mean(self) -> float:
        return self.challenger - self.champion

    def fell(self, allowed: float) -> bool:
        """By more than `allowed`, and not by chance: the whole interval is below zero."""
        return self.mean < -allowed and self.high < 0

    def __str__(self) -> str:
        return (
            f"{self.challenger:.4f} against the champion's {self.champion:.4f}: {self.mean:+.4f} "
            f"(95% interval {self.low:+.4f} to {self.high:+.4f}, {self.queries:,} queries)"
        )


def judge(gate: Gate, compared: Comparison) -> Judgement:
    """Every rule of the gate, on what was measured."""
    name, metric = judged(gate)
    ours, theirs = compared.challenger.get(name), compared.champion.get(name)
    if ours is None or metric not in ours.per_query.columns:
        told = f"the challenger has no {gate.metric} on the hold-out"
        return Judgement(f"{gate.metric} (missing), {compared.window}", [f"metric: {told}"])
    if theirs is None:
        summary = f"{gate.metric} {_mean(ours, metric):.4f}, the champion has no {name}; {compared.window}"
        return Judgement(summary, _no_worse_speed(gate, compared, {}))
    pairs = paired(theirs, ours)
    if pairs is None:
        return Judgement(f"{gate.metric}, {compared.window}", [_unpaired(name)])
    main = Difference.of(pairs, metric)
    measured = {
        "champion": main.champion,
        "challenger": main.challenger,
        "difference": main.mean,
        "interval_low": main.low,
        "interval_high": main.high,
        "queries": float(main.queries),
    }
    refusals = [
        *_metric(gate, main),
        *_segments(gate, pairs, metric),
        *_new_items(gate, pairs, f"new_{metric}", measured),
        *_others(gate, compared, name, measured),
        *_coverage(gate, compared, measured),
        *_no_worse_speed(gate, compared, measured),
    ]
    return Judgement(f"{gate.metric} {main}, {compared.window}", refusals, measured)


def judged(gate: Gate) -> tuple[RecommenderName, str]:
    """The recommender that the gate's metric is about, and the metric."""
    name, metric = recommender_of(gate.metric)
    return name or "one_to_one", metric


def paired(champion: Evaluation, challenger: Evaluation) -> pl.DataFrame | None:
    """One row per query: segment, and each metric as champion_… and challenger_….

    Queries are told apart by customer where both sides name them, else by their place: that is safe where all
    that does not depend on the model is the same row by row. None where it is not, so that nothing is paired.
    """
    old, new = (e.per_query.with_columns(pl.col("relevant").cast(pl.Int64)) for e in (champion, challenger))
    named = all("customer_id" in t.columns and not t["customer_id"].has_nulls() for t in (old, new))
    keys = ["customer_id", "segment", "relevant"] if named else ["segment", "relevant"]
    if named:
        old, new = (t.sort("customer_id", maintain_order=True) for t in (old, new))
    if old.height != new.height or not old.select(keys).equals(new.select(keys)):
        return None
    shared = [c for c in new.columns if c in old.columns and new[c].dtype.is_float()]
    sides = [t.select(pl.col(shared).name.prefix(f"{who}_")) for who, t in (("champion", old), ("challenger", new))]
    return pl.concat([new.select("segment"), *sides], how="horizontal")


def latency(champion: Recommender, challenger: Recommender, customers: list[str], batch: int) -> Latency:
    """Rank for `batch` of the customers by turns, so that what else the machine does slows both alike."""
    chosen = [customers[n * len(customers) // batch] for n in range(batch)] if customers else [None] * batch
    requests = [Request(LIMIT, customer) for customer in chosen]

    def timed(recommender: Recommender) -> float:
        begin = time.perf_counter()
        recommender.recommend(requests)
        return 1000 * (time.perf_counter() - begin)

    timed(champion), timed(challenger)  # the first call reads files and fills caches
    rounds = []
    for n in range(ROUNDS):
        first, second = (champion, challenger) if n % 2 else (challenger, champion)
        times = timed(first), timed(second)
        rounds.append(times if n % 2 else times[::-1])
    old, new = zip(*rounds, strict=True)
    return Latency(statistics.median(old), statistics.median(new), statistics.median(b / a for a, b in rounds))


def _metric(gate: Gate, main: Difference) -> list[str]:
    if main.queries < gate.min_queries:
        return [
            f"metric: {main.queries} queries on the hold-out are too few to tell (min_queries {gate.min_queries}); "
            "compare on a longer window"
        ]
    if not main.mean >= -gate.margin:
        wanted = f"better by {-gate.margin:g}" if gate.margin < 0 else f"worse by {gate.margin:g} at most"
        return [f"metric: {gate.metric} {main.mean:+.4f}, to be {wanted} (margin)"]
    if not main.low >= -gate.worst_case:
        return [
            f"metric: {gate.metric} may be worse by {-main.low:.4f}, the lower end of its interval; worst_case allows "
            f"{gate.worst_case:g}. More queries make the interval narrower: compare on a longer window"
        ]
    return []


def _segments(gate: Gate, pairs: pl.DataFrame, metric: str) -> list[str]:
    if gate.rails.segment_drop is None:
        return []
    found = []
    for (segment,), rows in sorted(pairs.group_by("segment")):
        d = Difference.of(rows, metric)
        if d.queries >= gate.rails.segment_queries and d.fell(gate.rails.segment_drop):
            found.append(f"segment_drop: {segment} {metric} {d}, allowed {gate.rails.segment_drop:g}")
    return found


def _new_items(gate: Gate, pairs: pl.DataFrame, metric: str, measured: dict[str, float]) -> list[str]:
    if f"champion_{metric}" not in pairs.columns:
        return []
    d = Difference.of(pairs, metric)
    measured |= {"new_items_champion": d.champion, "new_items_challenger": d.challenger}
    allowed = gate.rails.new_items_drop
    if allowed is None or d.queries < gate.min_queries or not d.fell(allowed):
        return []
    return [f"new_items_drop: {metric} {d}, allowed {allowed:g}"]


def _others(gate: Gate, compared: Comparison, about: RecommenderName, measured: dict[str, float]) -> list[str]:
    """All recommenders are swapped together: those that the metric is not about must not be ruined."""
    return [line for name in RECOMMENDERS if name != about for line in _other(gate, compared, name, measured)]


def _other(gate: Gate, compared: Comparison, name: RecommenderName, measured: dict[str, float]) -> list[str]:
    old, new = compared.champion.get(name), compared.challenger.get(name)
    allowed = gate.rails.other_recommender_drop
    if old is None or allowed is None:
        return []
    if new is None:
        return [f"other_recommender_drop: the champion has {name}, the challenger has none"]
    pairs = paired(old, new)
    if pairs is None:
        return [_unpaired(name)]
    d = Difference.of(pairs, SIDE)
    measured |= {f"{name}_champion": d.champion, f"{name}_challenger": d.challenger}
    if d.queries < gate.min_queries or not d.fell(allowed):
        return []
    return [f"other_recommender_drop: {name}_{SIDE} {d}, allowed {allowed:g}"]


def _coverage(gate: Gate, compared: Comparison, measured: dict[str, float]) -> list[str]:
    found = []
    for name, new in sorted(compared.challenger.items()):
        sides = [e.summary.get("coverage") for e in (compared.champion.get(name), new) if e is not None]
        if len(sides) < 2 or None in sides:
            continue
        was, now = (float(s) for s in sides if s is not None)
        measured |= {f"{name}_coverage_champion": was, f"{name}_coverage_challenger": now}
        allowed = gate.rails.coverage_drop_share
        if allowed is not None and now < was * (1 - allowed):
            found.append(
                f"coverage_drop_share: {name} recommends {now:.1%} of the items, the champion {was:.1%}: "
                f"{1 - now / was:.0%} less, allowed {allowed:.0%}"
            )
    return found


def _no_worse_speed(gate: Gate, compared: Comparison, measured: dict[str, float]) -> list[str]:
    allowed = gate.rails.latency_ratio
    if allowed is None or compared.time is None:
        return []
    t = compared.time(gate.rails.latency_batch)
    measured |= {"latency_champion_ms": t.champion_ms, "latency_challenger_ms": t.challenger_ms}
    if t.ratio <= allowed:
        return []
    return [
        f"latency_ratio: {gate.rails.latency_batch} requests take {t.challenger_ms:.1f} ms, with the champion "
        f"{t.champion_ms:.1f} ms: {t.ratio:.2f} times as long, allowed {allowed:g}"
    ]


def _unpaired(name: RecommenderName) -> str:
    return (
        f"{name}: the queries of the two results are not the same, so they cannot be compared one by one; give --log "
        "with events newer than both models"
    )


def _mean(evaluation: Evaluation, metric: str) -> float:
    return float(np.nanmean(evaluation.per_query[metric].to_numpy()))
