"""Inspects files: what they are, the mapping that reads them, how it reads them, and the command to run next."""

import json
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.sources import presets
from features.sources.inspection.kinds import DESCRIPTIONS, InspectedFile, inspect_file
from features.sources.inspection.preview import Preview, preview
from features.sources.inspection.profile import profile
from features.sources.inspection.proposal import Proposal, distinctive_columns, propose_events, propose_items
from features.sources.inspection.sample import read_sample
from features.sources.inspection.words import Role
from features.sources.inspection.yaml_text import write_yaml
from features.sources.parsing.cells.column_lists import list_columns
from features.sources.parsing.cells.pii import SALT, redact_text
from features.sources.parsing.mapping.column_names import ColumnNames
from features.sources.parsing.mapping.mapping import Mapping

EVENT_KINDS = ("events", "order lines", "orders", "views", "lines without header")


@dataclass
class Inspection:
    """What is known of files. Without `needs_mapping` the columns are the log's own, and the mapping but advice."""

    files: list[InspectedFile]
    preset: str | None = None
    mapping_text: str = ""
    preview: Preview | None = None
    problems: list[str] = field(default_factory=list)
    needs_mapping: bool = False
    mapping_path: str = "mapping.yml"

    @property
    def only_customers(self) -> bool:
        return all(file.kind == "customers" for file in self.files)

    @property
    def commands(self) -> list[str]:
        """What to run next."""
        paths, steps = [], []
        for file in self.files:
            path = file.sample.path
            if file.sample.is_document and self.preset is None and file.kind == "catalog":
                paths.append(str(path))
            elif file.sample.is_document:
                lines = path.with_suffix(".jsonl")
                steps.append(
                    f"jq -c {shlex.quote(_selector(file))} {shlex.quote(str(path))} > {shlex.quote(str(lines))}"
                )
                paths.append(str(lines))
            else:
                paths.append(str(path))
        named = " ".join(map(shlex.quote, paths))
        if self.only_customers:
            return [f"usual recommend --customers {named} --out recommendations.parquet"]
        if self.preview is None or not self.preview.usable:
            return steps
        if re.search(r"^ *email:|\{hash:|are hashed", self.mapping_text, re.MULTILINE):
            steps.append(f"export {SALT}=$(openssl rand -hex 32)   # once; keep it")
        how = f" --preset {self.preset}" if self.preset else ""
        if not self.preset and self.needs_mapping:
            how = f" --mapping {shlex.quote(self.mapping_path)}"
        events = any(file.kind != "catalog" for file in self.files)
        return [*steps, f"usual ingest events {named}{how} --out log", *(["usual check --log log"] if events else [])]

    def as_dict(self) -> dict[str, Any]:
        answer = {
            "files": [describe_file(file) for file in self.files],
            "preset": self.preset,
            "mapping": self.mapping_text,
            "preview": self.preview.as_dict() if self.preview else None,
            "problems": self.problems,
            "next": self.commands,
        }
        # Where a file has no header its first row is one.
        redacted: dict[str, Any] = json.loads(redact_text(json.dumps(answer, default=str)))
        return redacted


def inspect_files(paths: Sequence[Path]) -> Inspection:
    """Inspect files that belong together. Raises `InputError` where one is missing or no table."""
    files = [inspect_file(read_sample(path)) for path in paths]
    with tempfile.TemporaryDirectory() as scratch:
        readable = [_as_lines(file, Path(scratch)) for file in files]
        by_preset = None
        if (preset := _find_preset(files)) is not None:
            by_preset = _try_preset(files, readable, preset)
            if by_preset.preview and by_preset.preview.usable:
                return by_preset
        proposal = propose(files)
        text = write_yaml(proposal, _headline(files)) if proposal.content or proposal.hints else ""
        inspection = Inspection(files, None, text, problems=proposal.problems, needs_mapping=bool(proposal.content))
        if not inspection.problems and not inspection.only_customers:
            try:
                mapping = Mapping.parse(proposal.content, "the proposed mapping", Path())
                inspection.preview = preview(readable, mapping)
            except InputError as error:
                inspection.problems.append(str(error))
        best = by_preset if by_preset is not None and inspection.problems else inspection
        if best.preview and not best.preview.usable:
            best.problems.append("no row looked at can be used; see what they are rejected for")
        return best


def _try_preset(files: list[InspectedFile], readable: Sequence[Path], preset: str) -> Inspection:
    text = presets.preset_path(preset).read_text() if presets.find_preset(preset).source == "events" else ""
    try:
        return Inspection(files, preset, text, preview(readable, None, preset))
    except InputError as error:
        return Inspection(files, preset, text, problems=[str(error)])


def propose(files: Sequence[InspectedFile]) -> Proposal:
    """Propose one mapping for files that are read in one command."""
    events = [file for file in files if file.kind in EVENT_KINDS]
    headers = [file for file in files if file.kind == "order headers"]
    catalogs = [file for file in files if file.kind == "catalog"]
    proposal = Proposal()
    parts: list[tuple[InspectedFile, Proposal]] = []
    for file in events:
        header = (
            next((h for h in headers if _shares_order(file, h)), None) if file.kind == "lines without header" else None
        )
        if file.kind == "lines without header" and header is None:
            proposal.problems.append(
                f"{file.sample.path.name} says neither when nor by whom something was bought: name the file with "
                "the orders too"
            )
        part = propose_events(file, header)
        same = next((p for f, p in parts if set(f.sample.columns) == set(file.sample.columns)), None)
        if same is None:
            parts.append((file, part))
        elif "names" in part.content:
            same.content.setdefault("names", {}).update(part.content["names"])
        proposal.problems += part.problems
    if len(parts) == 1:
        problems = proposal.problems
        proposal = parts[0][1]
        proposal.problems = problems
    elif parts:
        _put_parts(proposal, parts, files)
    for file in catalogs:
        items = propose_items(file, [other for other in files if other is not file])
        proposal.problems += items.problems
        if "files" in proposal.content:
            has = items.content["has"]
            proposal.content["files"].append({"has": has, "items": items.content})
            proposal.hints += items.hints
        else:
            proposal.nest("items", items)
    if not events and not catalogs:
        proposal.problems += [_say_what_is_missing(file) for file in files if file.kind != "customers"]
    return proposal


def _is_data(name: str) -> bool:
    """Whether the name of a column is rather a cell: a number, a date, an address."""
    one = profile(pl.Series("name", [name]))
    return one.numbers + one.times + one.addresses > 0


def _put_parts(
    proposal: Proposal, parts: Sequence[tuple[InspectedFile, Proposal]], files: Sequence[InspectedFile]
) -> None:
    proposal.content["files"] = []
    for n, (file, part) in enumerate(parts):
        others = [f for f in files if f is not file and set(f.sample.columns) != set(file.sample.columns)]
        has = distinctive_columns(file, [a.column for a in file.roles.values()], others)
        proposal.content["files"].append({"has": has} | part.content)
        proposal.comments |= {("files", str(n), *path): comment for path, comment in part.comments.items()}
        proposal.hints += part.hints


def _shares_order(file: InspectedFile, header: InspectedFile) -> bool:
    return file.column("order_id") is not None and header.column("order_id") is not None


def _say_what_is_missing(file: InspectedFile) -> str:
    if sum(_is_data(name) for name in file.sample.columns) >= 2:
        return (
            f"the first line of {file.sample.path.name} looks like a row, not like names of columns: write a line "
            "above it that says what the columns are, such as timestamp,customer_id,item_id"
        )
    needs: dict[Role, str] = {
        "timestamp": "a date or time",
        "customer_id": "a customer or device",
        "item_id": "an item",
    }
    missing = [what for role, what in needs.items() if role not in file.roles]
    return (
        f"{file.sample.path.name} is {DESCRIPTIONS[file.kind]}: no column looks like {' or '.join(missing) or 'more'}. "
        "Name them in a mapping, as in `columns: {timestamp: THEIR_NAME, customer_id: THEIR_NAME, item_id: THEIR_NAME}`"
        f". Its columns: {list_columns(file.sample.columns)}"
    )


def _find_preset(files: Sequence[InspectedFile]) -> str | None:
    """The preset that reads all the files, and not by columns that any shop may have."""
    headers = [[*file.sample.columns, *file.sample.lists] for file in files]
    name = presets.recognize(headers)
    if name is None or all(file.kind == "customers" for file in files):
        return None
    signs = presets.signatures(name)
    if not all(any(_has(header, sign) for sign in signs) for header in headers):
        return None
    feed_signs = {"availability", "product_type", "google_product_category", "gtin", "mpn"}
    if name == "google-merchant" and not all(feed_signs & {c.removeprefix("g:") for c in h} for h in headers):
        return None
    return name


def _has(header: Sequence[str], sign: Sequence[str]) -> bool:
    # Two columns are a sign only where they are written so.
    return set(sign) <= set(header) if len(sign) < 3 else ColumnNames(header, nested=True).has_all(sign)


def _as_lines(file: InspectedFile, scratch: Path) -> Path:
    """A JSON document as lines, which events are read from."""
    if not file.sample.is_document or file.kind == "catalog":
        return file.sample.path
    path = scratch / f"{file.sample.path.stem}.jsonl"
    path.write_text("\n".join(file.sample.lines) + "\n", encoding="utf-8")
    return path


def _selector(file: InspectedFile) -> str:
    """What jq takes out of a JSON document: its entries, or those of the one list in it."""
    document = json.loads(file.sample.path.read_text(encoding="utf-8-sig"))
    if isinstance(document, list):
        return ".[]"
    keys = [key for key, value in document.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return f".{json.dumps(keys[0])}[]" if keys else "."


def _headline(files: Sequence[InspectedFile]) -> list[str]:
    return [f"{file.sample.path.name}: {DESCRIPTIONS[file.kind]}" for file in files]


def describe_file(file: InspectedFile) -> dict[str, Any]:
    """What was recognised of one file."""
    dialect = file.sample.dialect
    return {
        "path": str(file.sample.path),
        "format": dialect.format,
        "compression": list(dialect.compression),
        "encoding": dialect.encoding,
        "delimiter": dialect.delimiter,
        "header_row": dialect.header_row,
        "kind": file.kind,
        "rows_looked_at": file.sample.table.height,
        "whole_file": file.sample.complete,
        "explode": file.sample.explode,
        "columns": {
            name: {
                "role": next((r for r, a in file.roles.items() if a.column == name), None),
                "filled": round(p.filled / max(p.rows, 1), 4),
                "distinct": p.distinct,
                "personal": p.addresses >= 0.5,
            }
            for name, p in file.profiles.items()
        },
        "notes": list(dialect.notes),
    }
