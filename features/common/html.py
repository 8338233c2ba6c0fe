"""HTML pages in one file: one style, light and dark, from a phone to a wide screen.

All of the shop's data is escaped, and a page's content security policy lets nothing load or run, whatever a name in
the data looks like.
"""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fbfaf7; --card: #fff; --line: #c9ced6; --soft: #5b6675;
  --one: #3f73a8; --two: #c8613c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14181d; --card: #1d232a; --line: #3c4653;
  --soft: #a3adba; --one: #6ea6dd; --two: #e58a63; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .3rem; font-size: 1.15rem; }
p { margin: 0 0 .8rem; color: var(--soft); max-width: 44rem; }
section { margin-top: 1rem; padding: 1rem; }
section, dl div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 1rem 0 0; }
dl div { padding: .8rem 1rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.45rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 1rem; }
.two > section { min-width: 0; }
.wide { overflow-x: auto; }
.beside { display: grid; gap: 1rem; align-items: start; }
@media (min-width: 66rem) { .beside { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); } }
.beside > * { min-width: 0; margin: 0; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: 0 auto; overflow: visible; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .28rem .4rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 500; text-align: left; }
.words { white-space: normal; text-align: left; min-width: 14rem; }
summary { cursor: pointer; color: var(--soft); margin-top: .5rem; }
pre { overflow-x: auto; font-size: .85rem; }
footer { margin: 1.2rem 0; color: var(--soft); font-size: .85rem; }
"""


def render_page(title: str, body: str) -> str:
    """Render a whole page; `body` is HTML, `title` is text."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>{body}</body></html>
"""


def render_tiles(numbers: Iterable[tuple[str, str, str]]) -> str:
    """Render large numbers side by side: (label, id of the element, number)."""
    tiles = (f'<div><dt>{escape(name)}</dt><dd id="{key}">{escape(n)}</dd></div>' for name, key, n in numbers)
    return f"<dl>{''.join(tiles)}</dl>"


def render_table(
    key: str, header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], wrap: Sequence[int] = ()
) -> str:
    """Render a table in a box that scrolls on a narrow screen; the cells of the columns `wrap` may wrap."""

    def cell(tag: str, n: int, value: str, scope: str = "") -> str:
        wraps = ' class="words"' if n in wrap else ""
        return f"<{tag}{scope}{wraps}>{escape(value)}</{tag}>"

    top = "".join(cell("th", n, name, ' scope="col"') for n, name in enumerate(header))
    scope = ' scope="row"'
    lines = ""
    for name, cells in rows:
        row = "".join(cell("td", n, value) for n, value in enumerate(cells, 1))
        lines += f"<tr>{cell('th', 0, name, scope)}{row}</tr>"
    table = f'<table id="{key}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="wide" tabindex="0">{table}</div>'  # a box that the keyboard can scroll, too


def render_details(inner: str, summary: str = "Numbers") -> str:
    """Render HTML that is hidden until the reader opens it."""
    return f"<details><summary>{summary}</summary>{inner}</details>"
