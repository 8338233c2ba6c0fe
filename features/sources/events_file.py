"""Files that hold events already: Parquet, CSV, JSON lines or xlsx, one row per event × item.

Columns are those of the event log; a mapping (YAML) says which of the shop's columns they are:

    columns: {timestamp: time, customer_id: user}   # ours: theirs
    constants: {name: purchase, currency: EUR}      # the same in every row
    names: {order: purchase, view: view_item}       # theirs: ours
    timezone: Europe/Berlin                         # of times without an offset; default UTC
    catalog: products.csv                           # beside the mapping; columns of the catalog

Without an `event_id` column a row's id is a hash of what it says, so reading the file again adds
nothing, and two rows that say the same are one event.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict

from features import yaml_file
from features.errors import InputError
from features.events import CATALOG_SCHEMA, EVENT_SCHEMA, RAW, ROW, RULES, TIMESTAMP, Rule, conform, screen
from features.ingest import Parsed
from features.sources import tables, times

_YES_NO = dict.fromkeys(("true", "1", "yes", "t", "y"), True) | dict.fromkeys(("false", "0", "no", "f", "n"), False)
_HASHED = [c for c in EVENT_SCHEMA if c not in ("event_id", "received_at")]


def _event_column(name: str) -> str:
    if name not in EVENT_SCHEMA:
        raise ValueError(f"no such event column; there are {', '.join(EVENT_SCHEMA)}")
    return name


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no such time zone; write it as Europe/Berlin")
    return name


class Mapping(BaseModel):
    """How a shop's columns become the event log's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[Annotated[str, AfterValidator(_event_column)], str] = {}
    """Event column → the file's column. Others are read under their own name."""
    constants: dict[Annotated[str, AfterValidator(_event_column)], str | bool | int | float] = {}
    """Event column → the value of every row, whatever the file says."""
    names: dict[str, str] = {}
    """The file's event names → the log's. Others are kept as they are."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """IANA zone of times written without an offset."""
    catalog: Path | None = None
    """Products, as a file in the catalog's columns; relative to the mapping's directory."""

    @classmethod
    def load(cls, path: Path) -> "Mapping":
        """Raises `InputError` that names the file and the key at fault."""
        mapping = yaml_file.read(path, cls, "the mapping")
        if both := sorted(mapping.columns.keys() & mapping.constants.keys()):
            raise InputError(f"the mapping {path} names {', '.join(both)} as column and as constant; keep one")
        return mapping if mapping.catalog is None else mapping.model_copy(
            update={"catalog": path.parent / mapping.catalog}
        )  # fmt: skip


def read(paths: Sequence[Path], mapping: Path | None = None) -> Iterator[Parsed]:
    """One `Parsed` per file. Raises `InputError` for an unreadable file, mapping or catalog, and for
    required columns that are missing: name, timestamp, and customer_id or client_id.
    """
    rules = Mapping.load(mapping) if mapping else Mapping()
    given = _given_catalog(rules.catalog) if rules.catalog else None
    for path in paths:
        yield _parse(path, rules, given)


def _parse(path: Path, mapping: Mapping, given: pl.DataFrame | None) -> Parsed:
    source = tables.read(path)
    theirs = _columns(source, path, mapping)
    raw = source.select(
        *(pl.col(t).alias(ours) for ours, t in theirs.items()),
        *(pl.lit(v).alias(ours) for ours, v in mapping.constants.items()),
        pl.col(tables.UNPARSED) if tables.UNPARSED in source.columns else pl.lit(None).alias(tables.UNPARSED),
    )
    values = pl.DataFrame(
        [_value(raw[c], c, dtype, mapping.timezone) for c, dtype in EVENT_SCHEMA.items() if c in raw.columns]
    )
    name = pl.col("name").cast(pl.String)
    events = conform(values.with_columns(name.replace(mapping.names)), EVENT_SCHEMA)
    if "event_id" not in raw.columns:
        events = events.with_columns(_content_ids(events))
    # A cell that says something the column's type cannot hold.
    unread = [
        Rule(f"bad_{c}", pl.lit(_says(raw[c]) & values[c].is_null()))
        for c in ("quantity", "price", "position", "received_at", "consent")
        if c in raw.columns
    ]
    rules = (Rule("bad_json", pl.lit(raw[tables.UNPARSED].is_not_null())), *unread, *RULES)
    kept, rejected = screen(events.with_row_index(ROW), path.name, rules)
    kept = kept.drop(ROW, RAW)
    return Parsed(
        rows_read=source.height,
        events=kept,
        rejected=tables.with_raw(rejected, source),
        catalog=_catalog(kept, given),
    )


def _columns(source: pl.DataFrame, path: Path, mapping: Mapping) -> dict[str, str]:
    """Event column → the file's column, for those the file has."""
    found = ", ".join(c for c in source.columns if c != tables.UNPARSED) or "none"
    if absent := [f"{t} (for {o})" for o, t in mapping.columns.items() if t not in source.columns]:
        raise InputError(f"{path} lacks columns the mapping names: {', '.join(absent)}; found {found}")
    theirs = {c: c for c in EVENT_SCHEMA if c in source.columns and c not in mapping.constants}
    theirs |= mapping.columns
    have = theirs.keys() | mapping.constants.keys()
    missing = [c for c in ("name", "timestamp") if c not in have]
    if not have & {"customer_id", "client_id"}:
        missing.append("customer_id or client_id")
    if missing:
        raise InputError(
            f"{path}: missing columns {', '.join(missing)}; found {found}. Say which of them are meant in a "
            f"mapping, as in `columns: {{{missing[0].split()[0]}: THEIR_NAME}}`, or give `constants`"
        )
    return theirs


def _value(values: pl.Series, name: str, dtype: pl.DataType, zone: str) -> pl.Series:
    """`values` as `dtype`, null where a cell cannot be read as one."""
    if dtype == TIMESTAMP:
        return times.parse(values, zone).alias(name)
    if dtype == pl.Boolean:
        word = values.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
        word = word.str.strip_suffix(".0")
        return word.replace_strict(_YES_NO, default=None, return_dtype=pl.Boolean).alias(name)
    if dtype.is_numeric():
        number = values.str.strip_chars() if values.dtype == pl.String else values
        number = number.cast(pl.Float64, strict=False)
        if dtype.is_integer():
            return number.set(number != number.floor(), None).cast(dtype, strict=False).alias(name)
        return number.alias(name)
    return tables.identifiers(values).cast(dtype).alias(name)


def _says(values: pl.Series) -> pl.Series:
    return (values.cast(pl.String, strict=False).str.strip_chars() != "").fill_null(False)


def _content_ids(events: pl.DataFrame) -> pl.Series:
    """32 hex digits per row from its values: the same on any machine and from any file format."""
    unit, null = "\x1f", "\x00"
    content = pl.concat_str(
        [pl.col(c).to_physical() if c == "timestamp" else pl.col(c).cast(pl.String).fill_null(null) for c in _HASHED],
        separator=unit,
        ignore_nulls=True,
    )
    rows = events.select(content).to_series()
    return pl.Series("event_id", [hashlib.blake2b(r.encode(), digest_size=16).hexdigest() for r in rows])


def _catalog(events: pl.DataFrame, given: pl.DataFrame | None) -> pl.DataFrame:
    """What the events say of each item; over it what the shop's own catalog says, where there is one."""
    seen = (
        events.drop_nulls("item_id")
        .sort("timestamp", "event_id")
        .group_by("item_id")
        .agg(
            pl.col("price", "currency").drop_nulls().last(),
            first_seen=pl.col("timestamp").min(),
        )
        .sort("item_id")
        # A shop that hands over its catalog no longer sells what is not in it.
        .with_columns(available=pl.lit(given is None))
    )
    derived = conform(seen, CATALOG_SCHEMA)
    return derived if given is None else pl.concat([derived, given])


def _given_catalog(path: Path) -> pl.DataFrame:
    table = tables.read(path)
    if "item_id" not in table.columns:
        raise InputError(f"the catalog {path} has no column item_id; found {', '.join(table.columns)}")
    read_as = {c: _value(table[c], c, t, "UTC") for c, t in CATALOG_SCHEMA.items() if c in table.columns}
    for column, values in read_as.items():
        bad = (_says(table[column]) & values.is_null()) | (values.is_null() & (column == "item_id"))
        if bad.any():
            row = int(bad.arg_true()[0])
            raise InputError(
                f"the catalog {path}: row {row} (from 0) has {column} {table[column][row]!r}, which is no "
                f"{CATALOG_SCHEMA[column]}; correct it"
            )
    catalog = conform(pl.DataFrame(list(read_as.values())), CATALOG_SCHEMA)
    return catalog.with_columns(pl.col("available").fill_null(True))
