"""Plots of the segments page: SVG to put into HTML, in the page's own colours.

matplotlib is imported when a plot is drawn, so the server does not need it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from features.common.svg import ONE, TWO, draw_log_histogram, format_counts, render_svg


def paired_bars(labels: Sequence[str], one: Sequence[float], two: Sequence[float], words: tuple[str, str]) -> str:
    """Plot two horizontal bars per label, shares of 0–1 as percent; the first label on top."""

    def draw(axes: Any) -> None:
        y = np.arange(len(labels))[::-1]
        axes.barh(y + 0.2, 100 * np.asarray(one), height=0.38, color=ONE, label=words[0])
        axes.barh(y - 0.2, 100 * np.asarray(two), height=0.38, color=TWO, label=words[1])
        axes.set_yticks(y, labels)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("%")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)

    summary = ", ".join(f"{n} {a:.1%} and {b:.1%}" for n, a, b in zip(labels, one, two, strict=True))
    return render_svg(draw, f"{words[0]} and {words[1]}, by group: {summary}", height=0.9 + 0.36 * len(labels))


def heat(counts: np.ndarray) -> str:
    """Plot `counts`, int[5 × 5]: customers by recency score (rows 1–5, 5 on top) and frequency score (columns 1–5)."""

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for (r, f), n in np.ndenumerate(counts):
            strength = 0.05 + 0.6 * float(np.sqrt(n / max(1, counts.max())))
            axes.add_patch(Rectangle((f + 0.52, r + 0.52), 0.96, 0.96, facecolor=ONE, alpha=strength, linewidth=0))
            axes.text(f + 1, r + 1, f"{n:,}", ha="center", va="center")
        axes.set(xlim=(0.5, 5.5), ylim=(0.5, 5.5), xticks=range(1, 6), yticks=range(1, 6))
        axes.set_xlabel("frequency score (5 = most orders)")
        axes.set_ylabel("recency score (5 = most recent)")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    most = np.unravel_index(int(np.argmax(counts)), counts.shape)
    summary = f"the fullest cell is recency {most[0] + 1}, frequency {most[1] + 1} with {counts.max():,} customers"
    return render_svg(draw, f"Buyers by recency and frequency score: {summary}", height=3.6)


def value_histogram(values: np.ndarray) -> str:
    """Plot customers by a positive value, on a logarithmic axis; values under 1 are counted at 1."""

    def draw(axes: Any) -> None:
        top = max(10.0, float(values.max()))
        draw_log_histogram(axes, np.maximum(values, 1), np.geomspace(1, top, 31))
        axes.set_xlabel("expected value of the next 365 days (logarithmic)")
        axes.set_ylabel("customers")

    summary = f"median {np.median(values):,.2f}, highest {values.max():,.2f}"
    return render_svg(draw, f"Buyers by expected value of the next 365 days: {summary}", height=2.9)


def tenths(one: Sequence[int], two: Sequence[int], words: tuple[str, str]) -> str:
    """Plot two counts per tenth of 0–1."""

    def draw(axes: Any) -> None:
        x = np.arange(10)
        axes.bar(x - 0.2, one, width=0.38, color=ONE, label=words[0])
        axes.bar(x + 0.2, two, width=0.38, color=TWO, label=words[1])
        axes.set_xticks(np.arange(0, 11, 2) - 0.5, [f"{10 * n}%" for n in range(0, 11, 2)])
        format_counts(axes)
        axes.set_xlabel("probability")
        axes.set_ylabel("customers")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)

    summary = "; ".join(
        f"{w}: {', '.join(f'{n:,}' for n in counts)}" for w, counts in zip(words, (one, two), strict=True)
    )
    return render_svg(draw, f"Buyers per tenth of probability, from 0–10% to 90–100%. {summary}", height=3.1)
