"""Plots logged beside a run."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from training.metrics import interval

SHOWN = 30


def importance(gains: dict[str, float], name: str) -> Figure:
    """Horizontal bars: the features with the largest share of the ranker's total gain."""
    total = sum(gains.values()) or 1.0
    shown = list(gains.items())[:SHOWN][::-1]
    figure = Figure(figsize=(8, 9), layout="constrained")
    axes = figure.subplots()
    axes.barh([n for n, _ in shown], [100 * g / total for _, g in shown], color="#4477aa")
    axes.set_xlabel("share of gain, %")
    axes.set_title(f"{name}: what the ranker looks at")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def segments(per_query: pl.DataFrame, name: str) -> Figure:
    """NDCG@10 per RFM segment with 95% bootstrap intervals, largest segment on top."""
    groups = per_query.group_by("segment").agg("ndcg_at_10").sort(pl.col("ndcg_at_10").list.len(), "segment")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row, (segment, values) in enumerate(groups.iter_rows()):
        scores = np.array(values)
        low, high = interval(scores)
        axes.plot([low, high], [row, row], color="#4477aa", linewidth=2)
        axes.plot(scores.mean(), row, "o", color="#4477aa")
        axes.annotate(f"{segment} ({len(scores):,})", (0, row), xytext=(4, 6), textcoords="offset points", fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(left=0)
    axes.set_xlabel("NDCG@10")
    axes.set_title(f"{name}: hold-out quality by segment (queries)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure
