"""SVG plots for HTML pages (see html.py), in the page's own colours.

matplotlib is imported when a plot is drawn, so that a server does not need it.
"""

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

# Plots are drawn in the keys and shown in the values: the page's style sheet defines these for light and dark.
_COLOURS = {"#010203": "currentColor", "#4477aa": "var(--one)", "#cc6644": "var(--two)", "#a0a0a1": "var(--line)"}
INK, ONE, TWO, LINE = _COLOURS
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "usual",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw_log_histogram(axes: Any, values: Any, edges: Any) -> None:
    """Draw how many of `values` lie between neighbouring `edges`, both positive, on a logarithmic axis."""
    axes.hist(values, bins=edges, color=ONE)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
    axes.minorticks_off()
    format_counts(axes)


def format_counts(axes: Any) -> None:
    """Write the numbers of the vertical axis as counts, with lines across."""
    axes.yaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    axes.grid(axis="y")


def render_svg(draw: Callable[[Any], None], description: str, height: float) -> str:
    """Draw an SVG element; `description` is for screen readers, `height` in inches, the width is five."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    text = io.StringIO()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(5, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<g id=\"[^\"]*\"", "<g", svg)  # several plots in one page would repeat them
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for colour, style in _COLOURS.items():
        svg = svg.replace(colour, style)
    size = re.search(r"viewBox=\"[^\"]*\"", svg)
    opening = f'<svg {size.group() if size else ""} role="img" aria-label="{escape(description)}"'
    opening += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r"^<svg[^>]*>", lambda _: f"{opening}<title>{escape(description)}</title>", svg, count=1)
