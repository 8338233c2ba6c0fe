"""Examples of rejected rows: for each reason the file, the row and the cell at fault of one."""

import json
import re
from collections.abc import Mapping

import polars as pl

_LONGEST = 60
# Reasons that are not named by their column.
_COLUMNS = {"no_customer_or_client": ("customer_id", "client_id"), "no_rate_for_currency": ("currency", "price")}
_PREFIX = re.compile(r"^(?:bad|missing|negative|ambiguous|absurd|scientific|placeholder)_")


class RejectedExamples:
    """The first rejected row of each reason, described for a person."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, rejected: pl.DataFrame, columns: Mapping[str, str]) -> None:
        """Look at rejected rows (`REJECTED_SCHEMA`, redacted); `columns` has the shop's name for ours."""
        if rejected.is_empty() or set(rejected["reason"].unique()) <= self.texts.keys():
            return
        for row in rejected.unique("reason", keep="first", maintain_order=True).iter_rows(named=True):
            if row["reason"] not in self.texts:
                self.texts[row["reason"]] = _describe(row["source"], row["row"], row["reason"], row["raw"], columns)


def _describe(source: str | None, row: int | None, reason: str, raw: str | None, columns: Mapping[str, str]) -> str:
    where = f"{source or 'the input'}" + (f" row {row:,} (from 0)" if row is not None and row >= 0 else "")
    try:
        cells = json.loads(raw or "{}")
    except ValueError:
        cells = {}
    if not isinstance(cells, dict):
        cells = {}
    # A line that could not be split into cells stands in a column of the reader's, which the shop does not know.
    texts = [
        _short(cells.get(name)) if name.startswith("_") else f"{name} {_short(cells.get(name))}"
        for name in _faulty(reason, cells, columns)
    ]
    return f"{where}: {', '.join(texts)}" if texts else where


def _faulty(reason: str, cells: Mapping[str, object], columns: Mapping[str, str]) -> list[str]:
    """The shop's names of the columns that a reason is about, as far as the row has them."""
    bare = _PREFIX.sub("", reason)
    ours = _COLUMNS.get(reason) or ((bare,) if bare != reason else ())
    if reason == "missing_quantity_or_price" or reason == "absurd_amount":
        ours = ("quantity", "price")
    if reason in ("email_as_id", "scientific_id"):
        # The cell that is an id of this kind; it is masked in the former case.
        return [n for n, cell in cells.items() if re.search(r"(?i)\d[.,]?\d*e\+\d|\*|@", str(cell))][:1]
    named = [columns.get(column, column) for column in ours]
    if reason == "no_customer_or_client":
        named = [name for name in named if name in cells]
    present = [name for name in named if name in cells]
    if not present and reason.startswith("missing_"):
        return named  # JSON without that key: its cell is empty
    if not present and len(cells) == 1:
        return list(cells)  # a line that could not be parsed, or an event of another name
    return present


def _short(cell: object) -> str:
    text = "empty" if cell is None or cell == "" else json.dumps(cell, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
