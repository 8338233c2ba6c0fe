"""Customer id files: lists of customers that commands take, as Parquet, CSV or plain text."""

import io
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.common.ids import INVISIBLE, SCIENTIFIC_HINT, is_scientific, normalize_ids
from features.common.spreadsheets import unescape

_COLUMN = "customer_id"


def read_customer_ids(path: Path, role: str = "the customer list") -> list[str]:
    """Read the distinct ids in a file, in its order, in the form that the event log has them in.

    They are a column customer_id (or Customer ID) of Parquet or CSV, else one id a line. `role` names the file in
    errors. Raises `InputError` where it cannot be read, has no such column, no id, or ids that a spreadsheet has
    shortened.
    """
    try:
        values = _read_column(path, role)
    except (OSError, UnicodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{role} {path} cannot be read: {error}") from error
    ids = normalize_ids(values, "customer").cast(pl.String)
    spoiled = ids.filter(is_scientific(ids))
    if spoiled.len():
        raise InputError(f"{role} {path} holds {spoiled[0]}, of which digits are lost; {SCIENTIFIC_HINT}")
    ids = ids.drop_nulls().unique(maintain_order=True)
    if ids.is_empty():
        raise InputError(f"{role} {path} holds no customer id")
    return ids.to_list()


def _read_column(path: Path, role: str) -> pl.Series:
    ending = path.suffix.lower()
    if ending == ".parquet":
        # A small file can hold many millions of equal rows: none but the distinct ids are held.
        named = _named(pl.read_parquet_schema(path), path, role)
        return (
            pl.scan_parquet(path).select(pl.col(named).unique(maintain_order=True)).collect(engine="streaming")[named]
        )
    text = _decode(path.read_bytes())
    if ending not in (".csv", ".tsv"):
        return pl.Series(_COLUMN, text.splitlines(), pl.String)
    header = text.partition("\n")[0]
    separator = max(",;\t|", key=header.count)
    table = pl.read_csv(io.BytesIO(text.encode()), infer_schema=False, separator=separator, truncate_ragged_lines=True)
    return unescape(table[_named(table.columns, path, role)])  # an export of ours


def _named(columns: Iterable[str], path: Path, role: str) -> str:
    """Return the column with the ids."""
    columns = list(columns)
    named = [_COLUMN] if _COLUMN in columns else [c for c in columns if _fold(c) == _fold(_COLUMN)]
    if len(named) != 1:
        raise InputError(
            f"{role} {path} has no column {_COLUMN}; it has {', '.join(columns)}. Name the column so, or give a "
            "text file (.txt) with one id a line"
        )
    return named[0]


def _fold(name: str) -> str:
    return name.strip(INVISIBLE).lower().replace(" ", "").replace("_", "")


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")
