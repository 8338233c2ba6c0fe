"""Text of an inspection for a terminal."""

import io
import textwrap
from datetime import datetime
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from features.common.counts import count
from features.sources.inspection.inspect import Inspection
from features.sources.inspection.kinds import DESCRIPTIONS, InspectedFile
from features.sources.inspection.preview import Preview, filled_columns
from features.sources.parsing.cells.pii import redact_text
from features.sources.presets import PRESETS

WIDTH = 110
LONGEST_CELL = 24


def render(inspection: Inspection, written: str | None = None) -> str:
    """Render what was found, the mapping, ten rows as they would be read, what is rejected, and what to run next."""
    lines = [line for file in inspection.files for line in _describe(file)]
    if inspection.preset:
        lines += ["", f"These are {PRESETS[inspection.preset].description}: the preset {inspection.preset} reads them."]
    elif inspection.mapping_text:
        lines += ["", f"mapping, written to {written}:" if written else "proposed mapping:"]
        lines += textwrap.indent(inspection.mapping_text, "  ").splitlines()
    elif not inspection.problems and not inspection.only_customers:
        lines += ["", "The columns are the log's own: no mapping is needed."]
    if inspection.preview is not None:
        lines += _describe_preview(inspection.preview)
    for problem in inspection.problems:
        lines += ["", *textwrap.wrap(f"cannot be read yet: {problem}", WIDTH, break_long_words=False)]
    if inspection.commands:
        lines += ["", "next:", *(f"  {command}" for command in inspection.commands)]
    return redact_text("\n".join(lines))


def _describe(file: InspectedFile) -> list[str]:
    dialect = file.sample.dialect
    facts: list[str] = [dialect.format, *dialect.compression]
    facts += [dialect.encoding] if dialect.encoding else []
    facts += [f"separated by {_name_delimiter(dialect.delimiter)}"] if dialect.delimiter else []
    facts += [f"header in line {dialect.header_row}"] if dialect.header_row else []
    looked = f"{count(file.sample.table.height, 'row')} looked at"
    lines = [
        f"{file.sample.path}: {', '.join(facts)}",
        f"  {DESCRIPTIONS[file.kind]}; {looked}{', all there are' if file.sample.complete else ', there are more'}",
    ]
    named = [role if role == a.column else f"{role} ({a.column})" for role, a in file.roles.items()]
    lines += textwrap.wrap(
        f"found: {', '.join(named) or 'nothing'}", WIDTH, initial_indent="  ", subsequent_indent="    "
    )
    lines += [f"  {redact_text(note)}" for note in dialect.notes]
    return lines


def _describe_preview(preview: Preview) -> list[str]:
    whole = "all rows" if preview.complete else "the first rows, there are more"
    lines = ["", f"read so: {preview.read:,} rows looked at ({whole})"]
    lines += [f"{n:>10,}  {name}" for name, n in preview.kept.most_common()]
    lines += [f"{n:>10,}  left out: {what}" for what, n in preview.left_out.most_common()]
    for reason, n in preview.rejected.most_common():
        lines += [f"{n:>10,}  rejected: {reason}", f"{'':>12}{preview.examples[reason][:WIDTH]}"]
    lines += [f"{'':>10}  {note}" for note in preview.notes]
    for title, rows in (("rows as they would be read", preview.events), ("items", preview.items)):
        if rows.height:
            lines += ["", *_draw(f"the first {rows.height} {title}", filled_columns(rows)).splitlines()]
    return lines


def _draw(title: str, rows: pl.DataFrame) -> str:
    table = Table(title=title, title_justify="left", box=None, header_style="", pad_edge=False)
    for column in rows.columns:
        table.add_column(column, justify="right" if rows.schema[column].is_numeric() else "left", no_wrap=True)
    for row in rows.iter_rows():
        table.add_row(*map(_cell, row))
    out = io.StringIO()
    Console(file=out, width=max(WIDTH, 14 * rows.width), color_system=None, markup=False, highlight=False).print(table)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    text = redact_text(f"{value:g}" if isinstance(value, float) else str(value))
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def _name_delimiter(delimiter: str) -> str:
    return {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}.get(delimiter, repr(delimiter))
