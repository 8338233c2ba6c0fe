"""Plots of the page about a log: SVG to put into HTML, in the page's own colours."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from features.common.svg import ONE, TWO, draw_log_histogram, format_counts, render_svg

MOST_BARS = 120  # of a longer time, several days share one


def daily(first: date, events: np.ndarray, orders: np.ndarray) -> str:
    """Plot events and purchased lines per day, int64[days] each, from `first` on; of a long time per several days."""
    width = -(-len(events) // MOST_BARS)
    starts = np.arange(0, len(events), width)
    sums = [np.add.reduceat(counts, starts) / width for counts in (events, orders)]

    def draw(axes: Any) -> None:
        axes.fill_between(starts, sums[0], step="post", color=ONE, alpha=0.5, linewidth=0, label="events")
        axes.step(starts, sums[1], where="post", color=TWO, linewidth=1, label="purchased lines")
        axes.set_ylim(bottom=0)
        ticks = np.linspace(0, len(events) - 1, min(4, len(events))).astype(int)
        axes.set_xticks(ticks, [str(first + timedelta(days=int(n))) for n in ticks])
        format_counts(axes)
        axes.set_ylabel("a day")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    median = np.median(events) if len(events) else 0
    silent = int((events == 0).sum())
    return render_svg(
        draw,
        f"Events a day from {first} for {len(events):,} days: median {median:,.0f}, highest {events.max():,}, "
        f"{silent:,} days without any",
        height=2.6,
    )


def bars(labels: Sequence[str], counts: Sequence[int], words: tuple[str, str]) -> str:
    """Plot a bar per label; `words`: what the labels are, and what is counted."""

    def draw(axes: Any) -> None:
        axes.bar(np.arange(len(labels)), counts, width=0.8, color=ONE)
        step = -(-len(labels) // 12)
        axes.set_xticks(np.arange(0, len(labels), step), list(labels)[::step])
        axes.tick_params(axis="x", length=0)
        format_counts(axes)
        axes.set_xlabel(words[0])
        axes.set_ylabel(words[1])

    summary = ", ".join(f"{label} {n:,}" for label, n in zip(labels, counts, strict=True))
    return render_svg(draw, f"{words[1]} by {words[0]}: {summary}", height=2.6)


def prices(paid: np.ndarray) -> str:
    """Plot items by the median of the positive prices paid for each, on a logarithmic axis."""

    def draw(axes: Any) -> None:
        low, high = float(paid.min()), float(paid.max())
        draw_log_histogram(axes, paid, np.geomspace(low, max(high, low * 1.01), 41))
        axes.set_xlabel("usual price paid (logarithmic)")
        axes.set_ylabel("items")

    summary = f"median {np.median(paid):,.2f}, from {paid.min():,.2f} to {paid.max():,.2f}"
    return render_svg(draw, f"Items by the price usually paid: {summary}", height=2.6)
