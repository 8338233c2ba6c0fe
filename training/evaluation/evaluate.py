"""Evaluation of one recommender on queries with known outcomes: its metrics, and those of the baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from models.bundle import RecommenderName
from models.candidates.content import Content
from models.candidates.popular import Popular
from models.candidates.registry import GeneratorName
from models.two_stage import TwoStage
from training.dataset.queries import Queries
from training.evaluation import baselines, metrics
from training.evaluation.baselines import Baseline
from training.evaluation.bootstrap import mean_interval
from training.evaluation.breakdown import (
    MOST_EVENTS,
    baseline_columns,
    break_down,
    label_visit_lengths,
    nan_mean,
    oracle_share,
    over_best_baseline,
)
from training.evaluation.metrics import DEPTH
from training.evaluation.oracle import Oracle
from training.evaluation.seen_items import find_seen_items, mask_pairs

BASELINE_METRICS = (
    "ndcg_at_10",
    "recall_at_20",
)  # and NDCG@10 without seen items; few, because MLflow's pages show them all
TRAFFIC = ("source", "device", "country")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one recommender.

    `summary`: metric → value. `per_query`, one row per query: customer_id, segment, relevant and every metric.
    `details`, aligned with `per_query`: source, device, country (null where unknown); for visits visit_events (0, 1,
    2, 3_plus) and unseen_ndcg_at_10; baseline_<name>_<metric>; oracle_ndcg_at_10 where the truth is known.
    """

    summary: dict[str, float]
    per_query: pl.DataFrame
    details: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def queries(self) -> pl.DataFrame:
        """`per_query` and `details` side by side."""
        return pl.concat([self.per_query, self.details], how="horizontal") if self.details.width else self.per_query

    @cached_property
    def groups(self) -> pl.DataFrame:
        """Metrics by RFM segment, traffic and events so far (`training.evaluation.breakdown`)."""
        return break_down(self.queries)


def flatten_metrics(evaluations: Mapping[RecommenderName, Evaluation]) -> dict[str, float]:
    """Merge all summaries into one, prefixing each metric with its recommender's name, as in MLflow and the bundle."""
    return {f"{name}_{metric}": value for name, e in evaluations.items() for metric, value in e.summary.items()}


def evaluate(
    recommender: TwoStage,
    snapshot: Snapshot,
    queries: Queries,
    customers: pl.DataFrame | None = None,
    oracle: Oracle | None = None,
) -> Evaluation:
    """Rank the candidates of every query and compare the lists with the relevant items.

    A relevant item that no generator proposes counts as missed. `new_…` metrics leave out items that the customer had
    bought before, both from the lists and from the relevant items; `unseen_…` metrics leave out items that the visit
    has touched already. The baselines (`training.evaluation.baselines`) rank for the same queries on the same snapshot.

    `customers` (customer_id, source, device, country; as `Tables.customers`) gives the traffic of customers; that of
    visits is part of the queries. `oracle` ranks by the true probabilities of a simulated shop
    (`training.evaluation.oracle`).
    """
    n_items, n = len(snapshot.items), len(queries)
    names = baselines.select_baselines(queries.visitors)
    top, top_new, hits_by_generator = _rank_all(recommender, snapshot, queries, names, oracle)
    relevant = np.bincount(queries.query, minlength=n)
    is_new = ~mask_pairs(find_seen_items(snapshot, queries.visitors), queries.query, queries.item, n_items)
    relevant_new = np.bincount(queries.query, is_new, minlength=n).astype(np.int64)
    scores = {method: _measure(queries, items, relevant, n_items) for method, items in top.items()}
    new = {}
    for method, items in top_new.items():
        scores_new = _measure(queries, items, relevant_new, n_items)
        new[method] = {metric: np.where(relevant_new > 0, values, np.nan) for metric, values in scores_new.items()}
    extra = {f"baseline_{b}_{m}": scores[f"baseline_{b}_"][m] for b in names for m in BASELINE_METRICS}
    of_customers = (queries.visitors.customers >= 0).any()
    kind = "new" if of_customers else "unseen"
    extra |= {f"baseline_{b}_{kind}_ndcg_at_10": new[f"baseline_{b}_"]["ndcg_at_10"] for b in names}
    if not of_customers:
        extra = {"unseen_ndcg_at_10": new[""]["ndcg_at_10"], **extra}
    ours_new = new[""] if of_customers else scores[""]  # every item is new to an anonymous visitor
    if oracle:
        extra["oracle_ndcg_at_10"] = np.where(top["oracle_"][:, 0] >= 0, scores["oracle_"]["ndcg_at_10"], np.nan)
    per_query = _describe_customers(snapshot, queries).with_columns(
        pl.Series("relevant", relevant),
        *(pl.Series(k, v) for k, v in scores[""].items()),
        *(pl.Series(f"new_{k}", v) for k, v in ours_new.items()),
    )
    details = _describe_traffic(snapshot, queries, customers).with_columns(pl.Series(k, v) for k, v in extra.items())
    table, generators = Evaluation({}, per_query, details).queries, recommender.generators.names
    summary = _summarize(table, generators, hits_by_generator, relevant.sum())
    summary |= _beyond_accuracy(recommender, snapshot, queries, top[""][:, :10])
    return Evaluation(summary, per_query, details)


def _rank_all(
    recommender: TwoStage, snapshot: Snapshot, queries: Queries, names: Sequence[Baseline], oracle: Oracle | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Rank for all queries with the recommender, the baselines and the oracle.

    Returns two dicts, method → int64[queries × DEPTH], of all items and without seen items; and how many relevant
    items each generator proposed, float64[generators + 1], the last being their union. Methods are "" for the
    recommender itself, baseline_<name>_ and oracle_.
    """
    n_items, n = len(snapshot.items), len(queries)
    methods = ("", *(f"baseline_{name}_" for name in names), *(("oracle_",) if oracle else ()))
    top = {method: np.full((n, DEPTH), -1, np.int64) for method in methods}
    top_new = {method: np.full((n, DEPTH), -1, np.int64) for method in methods}
    hits_by_generator = np.zeros(len(recommender.generators.names) + 1)
    best_sellers = recommender.generators[Popular].best_sellers
    for start, batch, candidates, _ in recommender.rank(snapshot, queries.visitors):
        rows = slice(start, start + len(batch))
        is_new = ~mask_pairs(find_seen_items(snapshot, batch), candidates.query, candidates.item, n_items)
        top[""][rows] = metrics.top_lists(candidates.query, candidates.item, len(batch), -1)
        top_new[""][rows] = metrics.top_lists(candidates.query[is_new], candidates.item[is_new], len(batch), -1)
        for name in names:
            lists = baselines.rank(name, recommender.generators, snapshot, batch, DEPTH)
            top[f"baseline_{name}_"][rows], top_new[f"baseline_{name}_"][rows] = lists
        if oracle:
            chances = oracle(start, batch)
            unknown = np.isnan(chances).any(axis=1)
            top["oracle_"][rows] = baselines.rank_scores(np.nan_to_num(chances), best_sellers, DEPTH)
            top["oracle_"][rows][unknown] = -1
        relevant = queries.labels(candidates.query + start, candidates.item, n_items) > 0
        for g in range(len(recommender.generators.names)):
            hits_by_generator[g] += (relevant & (candidates.proposed >> g & 1 == 1)).sum()
        hits_by_generator[-1] += relevant.sum()
    return top, top_new, hits_by_generator


def _summarize(
    table: pl.DataFrame, generators: Sequence[GeneratorName], hits_by_generator: np.ndarray, relevant: int
) -> dict[str, float]:
    out: dict[str, float] = {"queries": table.height}
    for name in metrics.PER_QUERY:
        out[name] = nan_mean(table[name])
        out[f"new_{name}"] = nan_mean(table[f"new_{name}"])
    for name in ("ndcg_at_10", "new_ndcg_at_10"):
        values = table[name].to_numpy()
        low, high = mean_interval(values[~np.isnan(values)])
        out |= {f"{name}_low": low, f"{name}_high": high}
    for name, hits in zip((*generators, "union"), hits_by_generator, strict=True):
        out[f"candidate_recall_{name}"] = float(hits / max(1, relevant))
    # Not one group_by, which adds up in the order of its threads: the last bit of a mean would vary.
    for (segment,), part in sorted(table.partition_by("segment", as_dict=True).items()):
        ndcg = float(part["ndcg_at_10"].to_numpy().mean())
        out |= {f"segment_{segment}_queries": part.height, f"segment_{segment}_ndcg_at_10": ndcg}
    for column in (c for c in table.columns if c.startswith(("baseline_", "unseen_"))):
        out[column] = nan_mean(table[column])
    out |= _compare_to_best(table)
    if "visit_events" in table.columns:
        for group in ("0", "1", "2"):
            part = table.filter(pl.col("visit_events") == group)
            out |= {
                f"visit_events_{group}_queries": part.height,
                f"visit_events_{group}_ndcg_at_10": nan_mean(part["ndcg_at_10"]),
            }
        part = table.filter(pl.col("visit_events") == f"{MOST_EVENTS}_plus")
        columns = ["ndcg_at_10", *baseline_columns(table, "ndcg_at_10").values()]
        long_visits = {"queries": part.height, **{c: nan_mean(part[c]) for c in columns}, **_compare_to_best(part)}
        out |= {f"visit_events_{MOST_EVENTS}_plus_{name}": value for name, value in long_visits.items()}
    return out


def _compare_to_best(table: pl.DataFrame) -> dict[str, float]:
    """Return the difference to the best baseline, and the share of the oracle's NDCG@10."""
    _, over, low, high = over_best_baseline(table)
    out = {"over_best_baseline": over, "over_best_baseline_low": low, "over_best_baseline_high": high}
    if "oracle_ndcg_at_10" in table.columns:
        answered = int(table["oracle_ndcg_at_10"].is_not_nan().sum())
        oracle_metrics = {"oracle_queries": answered, "oracle_ndcg_at_10": nan_mean(table["oracle_ndcg_at_10"])}
        out |= {**oracle_metrics, "oracle_share": oracle_share(table)}
    return out


def _beyond_accuracy(recommender: TwoStage, snapshot: Snapshot, queries: Queries, top: np.ndarray) -> dict[str, float]:
    """Return coverage, Gini, novelty, diversity, and the price and popularity bias of the lists.

    Diversity uses the content generator's similarity, the cosine of item descriptions (title, category, brand): every
    shop with a catalog has one, with or without categories. Biases compare the lists with the relevant items:
    `price_bias` is a difference of mean log prices (0.1 is about 10% more expensive), `popularity_bias` of mean
    percentile ranks by buyers (ARP of Abdollahpouri et al. 2019, on a scale that does not depend on the shop's size).
    """
    buyers = np.nan_to_num(snapshot.item("buyers"))
    price = snapshot.item("price").astype(np.float64)
    log_price = np.log(price, out=np.full(len(price), np.nan), where=price > 0)
    return metrics.beyond_accuracy(top, buyers) | {
        "diversity": metrics.diversity(top, recommender.generators[Content].similar.matrix),
        "price_bias": metrics.list_bias(top, queries.query, queries.item, log_price),
        "popularity_bias": metrics.list_bias(top, queries.query, queries.item, metrics.percentile_ranks(buyers)),
    }


def _describe_customers(snapshot: Snapshot, queries: Queries) -> pl.DataFrame:
    """Return customer_id and segment of each query; null and the first segment for anonymous visitors."""
    customers = queries.visitors.customers
    segments = snapshot.segments[np.maximum(customers, 0)] if len(snapshot.segments) else np.zeros(len(queries), int)
    segment = np.where(customers >= 0, np.array(SEGMENT_NAMES)[segments], SEGMENT_NAMES[0])
    ids = snapshot.customers.at(customers) if (customers >= 0).all() else [None] * len(queries)
    return pl.DataFrame(
        {"customer_id": ids, "segment": segment}, schema={"customer_id": pl.String, "segment": pl.String}
    )


def _describe_traffic(snapshot: Snapshot, queries: Queries, customers: pl.DataFrame | None) -> pl.DataFrame:
    """Return source, device and country of each query, and for visits visit_events."""
    customer_rows = queries.visitors.customers
    traffic = pl.DataFrame(schema=dict.fromkeys(TRAFFIC, pl.String)).clear(len(queries))
    visits = len(queries.visitors.query) > 0 or not (customer_rows >= 0).all()
    if not visits:
        if customers is None:
            return traffic
        ids = pl.DataFrame({"customer_id": snapshot.customers.at(customer_rows)}, schema={"customer_id": pl.String})
        known_traffic = customers.select("customer_id", pl.col(TRAFFIC).cast(pl.String))
        return ids.join(known_traffic, on="customer_id", how="left", maintain_order="left").select(TRAFFIC)
    if queries.context is not None:
        traffic = queries.context.select(TRAFFIC)
        events = queries.context["visit_events"].to_numpy()
    else:
        events = np.bincount(queries.visitors.query, minlength=len(queries))
    return traffic.with_columns(visit_events=label_visit_lengths(events))


def _measure(queries: Queries, top: np.ndarray, relevant: np.ndarray, n_items: int) -> dict[str, np.ndarray]:
    """Return metric → float64[queries] of the lists `top` int64[queries × DEPTH]."""
    query = np.repeat(np.arange(len(top)), DEPTH)
    hits = (queries.labels(query, top.ravel(), n_items) > 0).reshape(top.shape) & (top >= 0)
    return {name: metric(hits, relevant) for name, metric in metrics.PER_QUERY.items()}
