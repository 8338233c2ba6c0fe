"""How well a recommender ranks what people turned out to want."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from features.ranking.snapshot import SEGMENT_NAMES, Snapshot
from models.bundle import RecommenderName
from models.candidates.generators import GENERATORS
from models.two_stage import TwoStage
from training.dataset.queries import Queries
from training.evaluation import baselines, metrics
from training.evaluation.baselines import Baseline
from training.evaluation.breakdown import (
    MOST_EVENTS,
    baseline_columns,
    breakdown,
    mean,
    oracle_share,
    over_best_baseline,
    visit_groups,
)
from training.evaluation.metrics import DEPTH
from training.evaluation.oracle import Oracle
from training.evaluation.seen_items import among, met

BASELINE_METRICS = ("ndcg_at_10", "recall_at_20")  # and one of discoveries; few, as a page of runs shows them all
TRAFFIC = ("source", "device", "country")


@dataclass(frozen=True)
class Evaluation:
    """`summary`: metric → value. `per_query`: customer_id, segment, relevant and every metric of each query.

    `details`, row by row as `per_query`: source, device, country (null where unknown); of visits visit_events (0, 1,
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
        """By RFM segment, traffic and events so far; see `training.evaluation.breakdown`."""
        return breakdown(self.queries)


def prefixed(evaluations: Mapping[RecommenderName, Evaluation]) -> dict[str, float]:
    """All summaries as one: each metric's name begins with its recommender's, as in MLflow and the bundle."""
    return {f"{name}_{metric}": value for name, e in evaluations.items() for metric, value in e.summary.items()}


def evaluate(
    recommender: TwoStage,
    snapshot: Snapshot,
    asked: Queries,
    customers: pl.DataFrame | None = None,
    oracle: Oracle | None = None,
) -> Evaluation:
    """Rank every query's candidates and compare the top of the lists with its relevant items.

    A relevant item that no generator proposes counts as missed. `new_…` looks at items the customer had
    not bought before: others are taken out of the lists and of what is relevant. `unseen_…` does so with items
    that a visit has touched already. The baselines (`training.evaluation.baselines`) answer the same queries from the same
    snapshot.

    `customers` (customer_id, source, device, country; as `Tables.customers`) tells customers by their traffic;
    visits tell themselves. `oracle` ranks by what a simulated shop's customers truly want (`training.evaluation.oracle`).
    """
    n_items, n = len(snapshot.items), len(asked)
    names = baselines.suited(asked.visitors)
    top, top_new, recalled = _lists(recommender, snapshot, asked, names, oracle)
    relevant = np.bincount(asked.query, minlength=n)
    discovered = ~among(met(snapshot, asked.visitors), asked.query, asked.item, n_items)
    relevant_new = np.bincount(asked.query, discovered, minlength=n).astype(np.int64)
    scores = {method: _measure(asked, items, relevant, n_items) for method, items in top.items()}
    new = {}
    for method, items in top_new.items():
        found = _measure(asked, items, relevant_new, n_items)
        new[method] = {metric: np.where(relevant_new > 0, values, np.nan) for metric, values in found.items()}
    compared = {f"baseline_{b}_{m}": scores[f"baseline_{b}_"][m] for b in names for m in BASELINE_METRICS}
    customers_asked = (asked.visitors.customers >= 0).any()
    kind = "new" if customers_asked else "unseen"
    compared |= {f"baseline_{b}_{kind}_ndcg_at_10": new[f"baseline_{b}_"]["ndcg_at_10"] for b in names}
    if not customers_asked:
        compared = {"unseen_ndcg_at_10": new[""]["ndcg_at_10"], **compared}
    ours_new = new[""] if customers_asked else scores[""]  # to people nobody knows every item is new
    if oracle:
        compared["oracle_ndcg_at_10"] = np.where(top["oracle_"][:, 0] >= 0, scores["oracle_"]["ndcg_at_10"], np.nan)
    per_query = _who(snapshot, asked).with_columns(
        pl.Series("relevant", relevant),
        *(pl.Series(k, v) for k, v in scores[""].items()),
        *(pl.Series(f"new_{k}", v) for k, v in ours_new.items()),
    )
    details = _traffic(snapshot, asked, customers).with_columns(pl.Series(k, v) for k, v in compared.items())
    summary = _summary(Evaluation({}, per_query, details).queries, recalled, relevant.sum())
    summary |= _beyond_accuracy(recommender, snapshot, asked, top[""][:, :10])
    return Evaluation(summary, per_query, details)


def _lists(
    recommender: TwoStage, snapshot: Snapshot, asked: Queries, names: Sequence[Baseline], oracle: Oracle | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Method → int64[queries × DEPTH] of all items, and of discoveries; relevant items each generator proposed.

    Methods are "" for the recommender itself, baseline_<name>_ and oracle_; the last of the counts is the union's.
    """
    n_items, n = len(snapshot.items), len(asked)
    methods = ("", *(f"baseline_{name}_" for name in names), *(("oracle_",) if oracle else ()))
    top = {method: np.full((n, DEPTH), -1, np.int64) for method in methods}
    top_new = {method: np.full((n, DEPTH), -1, np.int64) for method in methods}
    recalled = np.zeros(len(GENERATORS) + 1)
    best_sellers = recommender.generators.popular.best_sellers
    for start, batch, found, _ in recommender.rank(snapshot, asked.visitors):
        rows = slice(start, start + len(batch))
        discovery = ~among(met(snapshot, batch), found.query, found.item, n_items)
        top[""][rows] = metrics.lists(found.query, found.item, len(batch), -1)
        top_new[""][rows] = metrics.lists(found.query[discovery], found.item[discovery], len(batch), -1)
        for name in names:
            both = baselines.lists(name, recommender.generators, snapshot, batch, DEPTH)
            top[f"baseline_{name}_"][rows], top_new[f"baseline_{name}_"][rows] = both
        if oracle:
            chances = oracle(start, batch)
            unknown = np.isnan(chances).any(axis=1)
            top["oracle_"][rows] = baselines.best(np.nan_to_num(chances), best_sellers, DEPTH)
            top["oracle_"][rows][unknown] = -1
        wanted = asked.labels(found.query + start, found.item, n_items) > 0
        for g in range(len(GENERATORS)):
            recalled[g] += (wanted & (found.proposed >> g & 1 == 1)).sum()
        recalled[-1] += wanted.sum()
    return top, top_new, recalled


def _summary(table: pl.DataFrame, recalled: np.ndarray, relevant: int) -> dict[str, float]:
    out: dict[str, float] = {"queries": table.height}
    for name in metrics.PER_QUERY:
        out[name] = mean(table[name])
        out[f"new_{name}"] = mean(table[f"new_{name}"])
    for name in ("ndcg_at_10", "new_ndcg_at_10"):
        values = table[name].to_numpy()
        low, high = metrics.interval(values[~np.isnan(values)])
        out |= {f"{name}_low": low, f"{name}_high": high}
    for name, hits in zip((*GENERATORS, "union"), recalled, strict=True):
        out[f"candidate_recall_{name}"] = float(hits / max(1, relevant))
    by_segment = table.group_by("segment").agg(pl.len(), pl.col("ndcg_at_10").mean()).sort("segment")
    for segment, size, ndcg in by_segment.iter_rows():
        out |= {f"segment_{segment}_queries": size, f"segment_{segment}_ndcg_at_10": ndcg}
    for column in (c for c in table.columns if c.startswith(("baseline_", "unseen_"))):
        out[column] = mean(table[column])
    out |= _over_best(table)
    if "visit_events" in table.columns:
        for group in ("0", "1", "2"):
            part = table.filter(pl.col("visit_events") == group)
            out |= {
                f"visit_events_{group}_queries": part.height,
                f"visit_events_{group}_ndcg_at_10": mean(part["ndcg_at_10"]),
            }
        part = table.filter(pl.col("visit_events") == f"{MOST_EVENTS}_plus")
        columns = ["ndcg_at_10", *baseline_columns(table, "ndcg_at_10").values()]
        late = {"queries": part.height, **{c: mean(part[c]) for c in columns}, **_over_best(part)}
        out |= {f"visit_events_{MOST_EVENTS}_plus_{name}": value for name, value in late.items()}
    return out


def _over_best(table: pl.DataFrame) -> dict[str, float]:
    """The difference to the best baseline, and the share of what the oracle reaches."""
    _, over, low, high = over_best_baseline(table)
    out = {"over_best_baseline": over, "over_best_baseline_low": low, "over_best_baseline_high": high}
    if "oracle_ndcg_at_10" in table.columns:
        answered = int(table["oracle_ndcg_at_10"].is_not_nan().sum())
        ours = {"oracle_queries": answered, "oracle_ndcg_at_10": mean(table["oracle_ndcg_at_10"])}
        out |= {**ours, "oracle_share": oracle_share(table)}
    return out


def _beyond_accuracy(recommender: TwoStage, snapshot: Snapshot, asked: Queries, top: np.ndarray) -> dict[str, float]:
    """Coverage, Gini, novelty, diversity, and how lists lean to dear and to popular items against what was wanted.

    Alike are items whose descriptions (title, category, brand) are among each other's nearest, by their cosine: that
    is there for any shop with a catalog, with or without categories. `price_bias` is a difference of mean logarithms:
    0.1 is about a tenth dearer. `popularity_bias` is one of mean percentiles of buyers (ARP of Abdollahpouri et al.
    2019, on a scale that does not depend on the shop's size).
    """
    buyers = np.nan_to_num(snapshot.item("buyers"))
    price = snapshot.item("price").astype(np.float64)
    log_price = np.log(price, out=np.full(len(price), np.nan), where=price > 0)
    return metrics.beyond_accuracy(top, buyers) | {
        "diversity": metrics.diversity(top, recommender.generators.content.similar.matrix),
        "price_bias": metrics.leaning(top, asked.query, asked.item, log_price),
        "popularity_bias": metrics.leaning(top, asked.query, asked.item, metrics.percentile(buyers)),
    }


def _who(snapshot: Snapshot, asked: Queries) -> pl.DataFrame:
    customers = asked.visitors.customers
    segments = snapshot.segments[np.maximum(customers, 0)] if len(snapshot.segments) else np.zeros(len(asked), int)
    segment = np.where(customers >= 0, np.array(SEGMENT_NAMES)[segments], SEGMENT_NAMES[0])
    ids = snapshot.customers.at(customers) if (customers >= 0).all() else [None] * len(asked)
    return pl.DataFrame(
        {"customer_id": ids, "segment": segment}, schema={"customer_id": pl.String, "segment": pl.String}
    )


def _traffic(snapshot: Snapshot, asked: Queries, customers: pl.DataFrame | None) -> pl.DataFrame:
    """Source, device and country of each query, and of visits how many events were known."""
    known = asked.visitors.customers
    said = pl.DataFrame(schema=dict.fromkeys(TRAFFIC, pl.String)).clear(len(asked))
    visits = len(asked.visitors.query) > 0 or not (known >= 0).all()
    if not visits:
        if customers is None:
            return said
        ids = pl.DataFrame({"customer_id": snapshot.customers.at(known)}, schema={"customer_id": pl.String})
        told = customers.select("customer_id", pl.col(TRAFFIC).cast(pl.String))
        return ids.join(told, on="customer_id", how="left", maintain_order="left").select(TRAFFIC)
    if asked.about is not None:
        said = asked.about.select(TRAFFIC)
        events = asked.about["visit_events"].to_numpy()
    else:
        events = np.bincount(asked.visitors.query, minlength=len(asked))
    return said.with_columns(visit_events=visit_groups(events))


def _measure(asked: Queries, top: np.ndarray, relevant: np.ndarray, n_items: int) -> dict[str, np.ndarray]:
    query = np.repeat(np.arange(len(top)), DEPTH)
    hits = (asked.labels(query, top.ravel(), n_items) > 0).reshape(top.shape) & (top >= 0)
    return {name: metric(hits, relevant) for name, metric in metrics.PER_QUERY.items()}
