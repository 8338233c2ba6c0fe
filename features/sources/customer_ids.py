"""Customer id files: lists of customers that commands take, in any format that is read as a table, or one id a line."""

import re
from pathlib import Path

import polars as pl

from features.common import ids
from features.common.errors import InputError
from features.common.spreadsheets import unescape
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import readers
from features.sources.parsing.text_files import chunks, dialect

COLUMN = "customer_id"


def read_customer_ids(path: Path, role: str = "the customer list") -> list[str]:
    """Read the distinct ids in a file, in its order: its column customer_id, else one id a line.

    The column may be spelled `Customer ID`. Ids are normalized as in every other file. `role` names the file in
    errors. Raises `InputError` where it cannot be read, has several columns of which none is customer_id, has an id
    in scientific notation, or no id.
    """
    try:
        values = _read_values(path, role)
    except dialect.EmptyFile as error:
        raise InputError(f"{role} {path} cannot be read: it is empty and holds no customer id") from error
    except InputError as error:
        text = str(error)
        if text.startswith(role):
            raise
        raise InputError(f"{role} {path} cannot be read: {text.removeprefix(f'{path} ')}") from error
    if path.suffix.lower() == ".csv":
        values = unescape(values)  # an export of ours
    if (shortened := values.filter(ids.is_scientific(values))).len():
        raise InputError(f"{role} {path} has the customer id {shortened[0]}: {ids.SCIENTIFIC_HINT}")
    customers = ids.normalize_ids(values, "customer").cast(pl.String).drop_nulls().unique(maintain_order=True)
    if customers.is_empty():
        raise InputError(f"{role} {path} holds no customer id")
    return customers.to_list()


def _read_values(path: Path, role: str) -> pl.Series:
    detected = dialect.recognise(path, one_column=True)
    columns = readers.read_column_names(path) if detected.format != "CSV" else list(detected.columns)
    column = next((c for c in [COLUMN, *columns] if c in columns and _is_customer_id(c)), None)
    if column is None and detected.format == "CSV" and _is_list(path, columns):
        return _read_lines(path)
    if column is None:
        raise ColumnsError(f"{role} {path} has no column {COLUMN}; name one so", columns)
    values = pl.Series(column, [])
    for _, batch in readers.read_batches(path):
        if readers.UNCLOSED in batch.columns and (damaged := batch[readers.UNCLOSED].drop_nulls()).len():
            raise InputError(
                f"{role} {path} has a line with a quote that does not close: {damaged[0][:80]}; correct it"
            )
        # A small file can hold many millions of equal rows: only the distinct ids are held.
        values = pl.concat([values, batch[column]] if values.len() else [batch[column]]).unique(maintain_order=True)
    return values


def _is_customer_id(name: str) -> bool:
    return re.sub(r"[\s_-]", "", name).lower() == "customerid"


def _is_list(path: Path, columns: list[str]) -> bool:
    """Whether a file without a column customer_id has one id a line.

    The first line of a table is taken for a header of another name where it has no digit, as ids nearly always have.
    """
    if len(columns) != 1:
        return False
    is_text = dialect.name_format(path) is None or ".txt" in path.suffixes
    return is_text or any(map(str.isdigit, columns[0]))


def _read_lines(path: Path) -> pl.Series:
    lines = (line.strip() for block in chunks.read_blocks(path) for line in block.decode().split("\n"))
    texts = [line[1:-1].replace('""', '"') if re.fullmatch('".*"', line) else line for line in lines]
    return pl.Series(COLUMN, texts, pl.String)
