"""The gate's rules, on results made for each of them."""

import time
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from features.common.clock import DAY
from models.interface import Ranking, RankingRequest
from training import config
from training.config import GateConfig, GuardRailsConfig
from training.evaluation.evaluate import Evaluation
from training.promotion.gate import (
    Comparison,
    Difference,
    GateDecision,
    Latency,
    apply_gate,
    measure_latency,
    pair_queries,
)

N = 200
HARD = np.random.default_rng(5).random(N) * 0.6  # what a query is worth to any model: most of the variance
SEGMENTS = np.array(["CHAMPIONS"] * 120 + ["NEW"] * 60 + ["AT_RISK"] * 20)


def table(ndcg: np.ndarray, new: np.ndarray | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer_id": [f"c{n:03}" for n in range(len(ndcg))],
            "segment": SEGMENTS[: len(ndcg)],
            "relevant": np.arange(len(ndcg)) % 4 + 1,
            "ndcg_at_10": ndcg,
            "new_ndcg_at_10": ndcg if new is None else new,
        }
    )


def side(
    ndcg: np.ndarray = HARD, new: np.ndarray | None = HARD, coverage: float = 0.5, predictive: np.ndarray | None = HARD
) -> dict[str, Evaluation]:
    visits = None if predictive is None else table(predictive).with_columns(customer_id=pl.lit(None, pl.String))
    found = {"one_to_one": table(ndcg, new)} | ({} if visits is None else {"predictive": visits})
    return {name: Evaluation({"coverage": coverage}, rows) for name, rows in found.items()}


def judged(challenger: dict, champion: dict | None = None, ratio: float = 1.0, **settings: object) -> GateDecision:
    gate = GateConfig.model_validate({"metric": "one_to_one_ndcg_at_10", "margin": 0.005} | settings)
    timed = Latency(20.0, 20.0 * ratio, ratio)
    return apply_gate(
        gate, Comparison(side() if champion is None else champion, challenger, 0, DAY, "a day", lambda _: timed)
    )


def rails(judgement: GateDecision) -> list[str]:
    """Names of the rules that were broken."""
    return [refusal.split(":")[0] for refusal in judgement.refusals]


def test_as_good_is_good_enough():
    judgement = judged(side())
    assert judgement.passed
    assert judgement.measurements["difference"] == 0
    assert "hold-out 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z (a day)" in judgement.summary


@pytest.mark.parametrize(
    ("difference", "margin", "broken"),
    [(-0.0049, 0.005, []), (-0.0051, 0.005, ["metric"]), (0.01, -0.02, ["metric"]), (0.03, -0.02, [])],
)
def test_the_mean_may_fall_by_the_margin(difference: float, margin: float, broken: list[str]):
    assert rails(judged(side(HARD + difference), margin=margin)) == broken


def test_the_lower_end_of_the_interval_is_held_to_the_worst_case():
    """The same mean as the champion's, but by luck: some queries far better, others far worse."""
    swings = np.where(np.arange(N) % 2, 0.5, -0.5)
    wild = judged(side(HARD + swings, new=None), worst_case=0.02)
    assert rails(wild) == ["metric"]
    assert "worst_case allows 0.02" in wild.refusals[0]
    assert judged(side(HARD + swings, new=None), worst_case=0.2).passed


def test_the_interval_is_of_paired_differences():
    """Queries differ by .17 (standard deviation), models by .01 everywhere: pairing sees only the latter."""
    pairs = pair_queries(side()["one_to_one"], side(HARD + 0.01)["one_to_one"])
    assert pairs is not None
    found = Difference.from_pairs(pairs, "ndcg_at_10")
    assert (found.low, found.high) == pytest.approx((0.01, 0.01))
    noise = np.random.default_rng(1).normal(0, 0.1, N)
    pairs = pair_queries(side()["one_to_one"], side(HARD + noise)["one_to_one"])
    assert pairs is not None
    found = Difference.from_pairs(pairs, "ndcg_at_10")
    expected = 1.96 * noise.std() / np.sqrt(N)
    assert found.high - noise.mean() == pytest.approx(expected, rel=0.15)
    assert noise.mean() - found.low == pytest.approx(expected, rel=0.15)


def test_too_few_queries_decide_nothing():
    old, new = (side(h, new=None, predictive=None) for h in (HARD[:29], HARD[:29] + 0.3))
    few = judged(new, old)
    assert rails(few) == ["metric"]
    assert "29 queries" in few.refusals[0]
    assert judged(new, old, min_queries=29).passed


def fallen(segment: str, by: float) -> np.ndarray:
    """The champion's results, worse by `by` in one segment and better elsewhere."""
    return np.where(segment == SEGMENTS, HARD - by, HARD + 0.05)


def test_a_segment_that_falls_is_named():
    judgement = judged(side(fallen("NEW", 0.04), new=HARD))
    assert rails(judgement) == ["segment_drop"]
    assert "NEW ndcg_at_10" in judgement.refusals[0]
    assert "-0.0400" in judgement.refusals[0]
    assert "60 queries" in judgement.refusals[0]
    assert judged(side(fallen("NEW", 0.02), new=HARD)).passed
    assert judged(side(fallen("NEW", 0.04), new=HARD), rails={"segment_drop": None}).passed


def test_small_segments_and_chance_are_let_be():
    assert judged(side(fallen("AT_RISK", 0.3), new=HARD)).passed
    assert not judged(side(fallen("AT_RISK", 0.3), new=HARD), rails={"segment_queries": 20}).passed
    # One query in sixty lost everything and more: the mean fell, but that may be this one query's doing.
    one = HARD + np.where(np.arange(N) == 130, -3, 0.01)
    assert judged(side(one, new=HARD), worst_case=1, margin=1).passed


def test_items_new_to_the_customer_have_a_rail_of_their_own():
    """Better by repeating old orders, worse on the rest; queries without a new item count for neither."""
    some = np.where(np.arange(N) % 2, HARD, np.nan)
    judgement = judged(side(HARD + 0.1, new=some - 0.05), side(new=some))
    assert rails(judgement) == ["new_items_drop"]
    assert "new_ndcg_at_10" in judgement.refusals[0]
    assert f"{N // 2} queries" in judgement.refusals[0]
    assert judged(side(HARD + 0.1, new=some - 0.05), side(new=some), rails={"new_items_drop": None}).passed
    few = np.where(np.arange(N) < 29, HARD, np.nan)
    assert judged(side(new=few - 0.05), side(new=few)).passed


def test_the_other_recommender_must_not_be_ruined():
    judgement = judged(side(HARD + 0.1, predictive=HARD - 0.05))
    assert rails(judgement) == ["other_recommender_drop"]
    assert "predictive_ndcg_at_10" in judgement.refusals[0]
    gone = judged(side(HARD + 0.1, predictive=None))
    assert gone.refusals == ["other_recommender_drop: the champion has predictive, the challenger has none"]
    assert judged(side(), side(predictive=None)).passed
    turned = judged(side(HARD - 0.1, new=HARD), metric="predictive_ndcg_at_10")
    assert rails(turned) == ["other_recommender_drop"]


def test_coverage_may_fall_by_a_share():
    assert judged(side(coverage=0.36)).passed
    judgement = judged(side(coverage=0.34))
    assert rails(judgement) == ["coverage_drop_share"] * 2
    assert "one_to_one recommends 34.0% of the items, the champion 50.0%" in judgement.refusals[0]
    assert judged(side(coverage=0.34), rails={"coverage_drop_share": None}).passed


def test_a_slow_challenger_is_refused():
    assert judged(side(), ratio=1.49).passed
    judgement = judged(side(), ratio=1.51)
    assert judgement.refusals == [
        "latency_ratio: 64 requests take 30.2 ms, with the champion 20.0 ms: 1.51 times as long, allowed 1.5"
    ]
    assert judged(side(), ratio=9, rails={"latency_ratio": None}).passed


def test_every_broken_rule_is_told():
    ruined = side(HARD - 0.3, HARD - 0.3, 0.1, HARD - 0.3)
    assert rails(judged(ruined, ratio=2)) == [
        "metric", "segment_drop", "segment_drop", "new_items_drop", "other_recommender_drop",
        "coverage_drop_share", "coverage_drop_share", "latency_ratio",
    ]  # fmt: skip


@pytest.mark.parametrize("metric", ["one_to_one_magic", "ndcg", "predictive_ndcg_at_10"])
def test_a_metric_that_the_challenger_lacks(metric: str):
    judgement = judged(side(predictive=None), metric=metric)
    assert judgement.refusals == [f"metric: the challenger has no {metric} on the hold-out"]


def test_a_champion_without_that_recommender_is_no_hurdle():
    without = {name: e for name, e in side().items() if name == "predictive"}
    assert judged(side(HARD - 0.3), without).passed
    assert rails(judged(side(), without, ratio=2)) == ["latency_ratio"]


def test_customers_meet_whatever_the_order():
    old, new = side()["one_to_one"], side(HARD + 0.01)["one_to_one"]
    shuffled = Evaluation({}, new.per_query.sample(fraction=1, shuffle=True, seed=3))
    pairs = pair_queries(old, shuffled)
    assert pairs is not None
    assert (pairs["challenger_ndcg_at_10"] - pairs["champion_ndcg_at_10"]).to_numpy() == pytest.approx(0.01)


def test_queries_that_are_not_the_same_are_not_compared():
    nameless = {name: Evaluation(e.summary, e.per_query.drop("customer_id")) for name, e in side().items()}
    assert judged(nameless).passed
    for changed in (
        nameless["one_to_one"].per_query.reverse(),
        nameless["one_to_one"].per_query.head(N - 1),
        nameless["one_to_one"].per_query.with_columns(relevant=pl.col("relevant") + 1),
    ):
        assert pair_queries(side()["one_to_one"], Evaluation({}, changed)) is None
        judgement = judged(nameless | {"one_to_one": Evaluation({}, changed)})
        assert "the queries of the two results are not the same" in judgement.refusals[0]
        assert "--log" in judgement.refusals[0]
    other = judged(side(), side() | {"predictive": Evaluation({}, nameless["predictive"].per_query.reverse())})
    assert rails(other) == ["predictive"]


class Sleeper:
    """Takes its time, and keeps what it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked = seconds, []

    def recommend(self, requests: Sequence[RankingRequest]) -> list[Ranking]:
        self.asked.append([r.customer_id for r in requests])
        time.sleep(self.seconds)
        return []

    @property
    def info(self) -> dict[str, object]:
        return {}


def test_latency_is_measured_side_by_side():
    quick, slow = Sleeper(0.004), Sleeper(0.012)
    found = measure_latency(quick, slow, ["a", "b", "c"], 6)
    assert found.ratio == pytest.approx(3, rel=0.4)
    assert found.challenger_ms > found.champion_ms >= 4
    assert measure_latency(slow, quick, ["a"], 2).ratio < 0.6
    assert quick.asked[0] == slow.asked[0] == ["a", "a", "b", "b", "c", "c"]
    assert measure_latency(quick, quick, [], 2).champion_ms > 0


def test_the_defaults_in_the_file_are_those_in_the_code():
    held = config.load().gate
    assert held == GateConfig(metric=held.metric, margin=held.margin)
    assert held.rails.model_fields_set == set(GuardRailsConfig.model_fields)
