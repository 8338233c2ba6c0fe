"""What it costs and brings to let prices count in a ranker's objective: quality against revenue on the hold-out.

A recipe says `ranker.value`, from 0, what people want, to 1, what it sells for (`models.ranker.Gains`). There is no
right value, only a price for each: here one ranker is trained for every one of `VALUES`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from features.common.html import table_of
from features.common.svg import ONE, TWO
from features.ranking.snapshot import Snapshot
from models.bundle import RecommenderName
from models.ranker import Grouped, Ranker, RankerConfig
from models.two_stage import TwoStage
from training.dataset.queries import Queries
from training.evaluation import metrics
from training.evaluation.bootstrap import difference
from training.evaluation.metrics import DEPTH
from training.reports.plots import Plot, words

VALUES = (0.0, 0.1, 0.25, 0.5, 1.0)  # closer together where little brings much


def revenue_at_10(asked: Queries, top: np.ndarray, price: np.ndarray) -> np.ndarray:
    """float64[queries]: what the wanted items among the first ten of each list cost, a unit of each.

    `top` int64[queries × 10 or more], -1 = no item; `price` float[items], NaN where unknown, which counts as nothing.
    """
    top = top[:, :10]
    query = np.repeat(np.arange(len(top)), top.shape[1])
    wanted = (asked.labels(query, top.ravel(), len(price)) > 0).reshape(top.shape) & (top >= 0)
    paid: np.ndarray = (wanted * np.nan_to_num(price.astype(np.float64))[top]).sum(axis=1)
    return paid


def rankers(seen: Grouped, validation: Grouped, config: RankerConfig, fitted: Ranker) -> dict[float, Ranker]:
    """A ranker for every one of `VALUES` and for the value of `config`, which is `fitted`; rising."""
    return {
        value: fitted
        if value == config.value
        else Ranker.fit(seen, config.model_copy(update={"value": value}), validation)
        for value in sorted({*VALUES, config.value})
    }


def trade_off(
    two_stage: TwoStage, by_value: Mapping[float, Ranker], snapshot: Snapshot, asked: Queries
) -> pl.DataFrame:
    """One row per value: value, trees, ndcg_at_10, revenue_at_10 (currency a query, at the snapshot's prices).

    ndcg_change and revenue_change are against value 0, with 95% intervals (…_low, …_high) by the paired bootstrap.
    """
    price = snapshot.item("price")
    relevant = np.bincount(asked.query, minlength=len(asked))
    quality, revenue = {}, {}
    for value, ranker in by_value.items():
        top = np.full((len(asked), DEPTH), -1, np.int64)
        for start, batch, found, _ in replace(two_stage, ranker=ranker).rank(snapshot, asked.visitors):
            top[start : start + len(batch)] = metrics.lists(found.query, found.item, len(batch), -1)
        query = np.repeat(np.arange(len(top)), DEPTH)
        hits = (asked.labels(query, top.ravel(), len(price)) > 0).reshape(top.shape) & (top >= 0)
        quality[value] = metrics.ndcg_at_10(hits, relevant)
        revenue[value] = revenue_at_10(asked, top, price)
    rows = []
    for value, ranker in by_value.items():
        row: dict[str, float] = {"value": value, "trees": ranker.trees}
        row |= {"ndcg_at_10": float(quality[value].mean()), "revenue_at_10": float(revenue[value].mean())}
        for name, each in (("ndcg", quality), ("revenue", revenue)):
            change = difference(each[value], each[0.0])
            row |= dict(zip((f"{name}_change", f"{name}_change_low", f"{name}_change_high"), change, strict=True))
        rows.append(row)
    return pl.DataFrame(rows)


def prefixed(tables: Mapping[RecommenderName, pl.DataFrame]) -> dict[str, float]:
    """As metrics: one_to_one_by_value_0.25_ndcg_at_10, one_to_one_by_value_0.25_revenue_at_10 and so on."""
    return {
        f"{name}_by_value_{row['value']:g}_{metric}": row[metric]
        for name, table in tables.items()
        for row in table.iter_rows(named=True)
        for metric in ("ndcg_at_10", "revenue_at_10")
    }


def plot(table: pl.DataFrame, chosen: float, name: RecommenderName) -> Plot:
    """Revenue@10 against NDCG@10 by value; the chosen one stands out."""
    points = list(table.iter_rows(named=True))
    (ours,) = (p for p in points if p["value"] == chosen)

    def draw(axes: Any) -> None:
        axes.plot(table["ndcg_at_10"], table["revenue_at_10"], color=ONE, linewidth=1)
        for p in points:
            colour = TWO if p["value"] == chosen else ONE
            axes.plot(p["ndcg_at_10"], p["revenue_at_10"], "o", color=colour)
            at = (p["ndcg_at_10"], p["revenue_at_10"])
            axes.annotate(f"{p['value']:g}", at, xytext=(6, 5), textcoords="offset points")
        axes.margins(0.12)
        axes.grid()
        axes.set_xlabel("NDCG@10 on the hold-out; the numbers are values")
        axes.set_ylabel("revenue@10, currency a list")

    first = points[0]["revenue_at_10"]
    brings = f"{ours['revenue_change'] / first:+.0%}" if first else f"{ours['revenue_change']:+.2f}"
    title = (
        f"{words(name)}: value {chosen:g} brings {brings} revenue@10 for {ours['ndcg_change']:+.3f} NDCG@10\n"
        f"(95% intervals {ours['revenue_change_low']:+.2f} to {ours['revenue_change_high']:+.2f} currency a list, "
        f"{ours['ndcg_change_low']:+.3f} to {ours['ndcg_change_high']:+.3f})"
    )
    told = "; ".join(
        f"value {p['value']:g}: NDCG@10 {p['ndcg_at_10']:.3f}, revenue@10 {p['revenue_at_10']:.2f}" for p in points
    )
    return Plot(title, told, draw, 3.2)


def section(table: pl.DataFrame, chosen: float, name: RecommenderName) -> str:
    """The plot and its numbers, for the run's page."""
    shown = plot(table, chosen, name)
    rows = [
        (
            f"{p['value']:g}{' (chosen)' if p['value'] == chosen else ''}",
            [
                *(f"{p['ndcg_at_10']:.4f}", _with_interval(p, "ndcg", 4)),
                *(f"{p['revenue_at_10']:.2f}", _with_interval(p, "revenue", 2)),
                f"{p['trees']:,.0f}",
            ],
        )
        for p in table.iter_rows(named=True)
    ]
    header = ("value", "NDCG@10", "against value 0", "revenue@10", "against value 0", "trees")
    return (
        f"<section><h2>{words(name).capitalize()}: what price costs and brings</h2>"
        "<p>The same recipe with other values. Revenue@10: what the wanted items among the first ten cost, a unit of "
        "each, a list on average, in the shop's currency. Nobody has been shown these lists: it is what they bought "
        f'anyway.</p><div class="beside"><figure>{shown.svg()}</figure>'
        f"{table_of(f'{name}_value', header, rows)}</div></section>"
    )


def _with_interval(row: Mapping[str, float], name: str, digits: int) -> str:
    change, low, high = (row[f"{name}_change{end}"] for end in ("", "_low", "_high"))
    return f"{change:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
