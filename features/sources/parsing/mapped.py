"""Mapped reader: rows in a shop's own columns as events, for files and for tables of a database.

Without an `event_id` column a row's id is a hash of its values, so reading it again adds nothing,
and two equal rows are one event.
"""

from collections.abc import Collection
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.catalog import conform_catalog
from features.event_log.ingest import ParsedBatch
from features.event_log.schema import (
    CATALOG_OPTIONAL,
    CATALOG_SCHEMA,
    EMBEDDING,
    EVENT_SCHEMA,
    ROW,
    TIDY_RULES,
    Rule,
    conform,
)
from features.sources.parsing import catalogs, coerce, event_ids, pii, readers
from features.sources.parsing.mapping import Mapping
from features.sources.parsing.validate import damage_rules, raw_copier, validate_rows

NO_ROWS = ParsedBatch(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA))  # of a table without rows
HASHED_COLUMNS = [c for c in EVENT_SCHEMA if c not in ("event_id", "received_at")]


class MappedReader:
    """Turns batches of rows into `ParsedBatch`. Raises `InputError` for a catalog that cannot be read, and where
    the mapping names e-mail addresses or payment tokens and there is no salt to hash them with."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.secrets = {kind: theirs.columns[0] for kind, theirs in mapping.secrets.items()}
        self._columns = {ours: theirs.columns[0] for ours, theirs in mapping.columns.items()}
        self._salt = pii.load_salt(f"the mapping names {' and '.join(self.secrets.values())}") if self.secrets else b""
        self._catalog = read_catalog(mapping.catalog.file) if mapping.catalog and mapping.catalog.file else None
        self._catalog_yielded = False

    @property
    def required_columns(self) -> set[str]:
        """The shop's columns without which nothing is read."""
        mapping = self.mapping
        own = {"name", "timestamp"} - mapping.columns.keys() - mapping.constants.keys()
        return {*own, *self._columns.values(), *self.secrets.values()}

    def add_rare_columns(self, theirs: dict[str, str]) -> dict[str, str]:
        """Add to `theirs` every event column that later lines of JSON may have though the first ones have not."""
        excluded = {"event_id", *theirs, *self.mapping.constants}
        return theirs | {c: c for c in EVENT_SCHEMA if c not in excluded}

    def match_columns(self, available: Collection[str], where: str) -> dict[str, str]:
        """Match event columns to the shop's `available` ones; returns event column → theirs.

        Raises `InputError` where one is missing: name, timestamp, customer_id or client_id, or one that the mapping
        names. `where` is the file or table, for messages.
        """
        mapping = self.mapping
        names = ", ".join(available) or "none"
        required = self._columns | {f"the {kind} token": column for kind, column in self.secrets.items()}
        if absent := [f"{theirs} (for {ours})" for ours, theirs in required.items() if theirs not in available]:
            raise InputError(f"{where} lacks columns the mapping names: {', '.join(absent)}; found {names}")
        theirs = {c: c for c in EVENT_SCHEMA if c in available and c not in mapping.constants}
        theirs |= self._columns
        present = theirs.keys() | mapping.constants.keys()
        missing = [c for c in ("name", "timestamp") if c not in present]
        if not present & {"customer_id", "client_id"}:
            missing.append("customer_id or client_id")
        if missing:
            raise InputError(
                f"{where}: missing columns {', '.join(missing)}; found {names}. Say which of them are meant in a "
                f"mapping, as in `columns: {{{missing[0].split()[0]}: THEIR_NAME}}`, or give `constants`"
            )
        return theirs

    def parse(self, batch: pl.DataFrame, offset: int, theirs: dict[str, str], source: str) -> ParsedBatch:
        """Parse `batch`, the rows of `source` from number `offset`; `theirs` is the result of `match_columns`."""
        raw = batch.select(
            *(pl.col(column).alias(ours) for ours, column in theirs.items()),
            *(pl.lit(v).alias(ours) for ours, v in self.mapping.constants.items()),
        )
        if raw.height != batch.height:  # constants alone
            raw = pl.concat([raw] * batch.height)
        values = pl.DataFrame(
            coerce.to_event_columns({c: raw[c] for c in EVENT_SCHEMA if c in raw.columns}, self.mapping.timezone)
        )
        if self.mapping.names:
            name = pl.col("name").cast(pl.String).replace(self.mapping.names)
            values = values.with_columns(name.cast(EVENT_SCHEMA["name"]))
        events = conform(values, EVENT_SCHEMA)
        if "event_id" not in raw.columns:
            events = events.with_columns(event_ids.hash_rows(events, HASHED_COLUMNS))
        # A cell with a value that the column's type cannot hold.
        unreadable = [
            Rule(f"bad_{c}", pl.lit(coerce.is_filled(raw[c]) & values[c].is_null()))
            for c in ("quantity", "price", "position", "received_at", "consent")
            if c in raw.columns and raw.schema[c] != EVENT_SCHEMA[c]
        ]
        rows = events.with_row_index(ROW, offset=offset)
        rows = rows.with_columns(batch[c] for c in readers.ADDED if c in batch.columns)
        secret = {kind: pii.hash_tokens(batch[c], kind, self._salt) for kind, c in self.secrets.items()}
        rows = rows.with_columns(token.alias(f"_{kind}") for kind, token in secret.items())
        valid, rejected = validate_rows(
            rows,
            source,
            raw_copier(batch, offset, list(self.secrets.values())),
            (*damage_rules(batch), *unreadable, *TIDY_RULES),
        )
        events = valid.select(*EVENT_SCHEMA)
        # Who refused consent is not to be recognized by address or card either.
        linkable = valid.filter(pl.col("consent").ne_missing(False))
        return ParsedBatch(
            rows_read=batch.height,
            events=redact_queries(events),
            rejected=rejected,
            catalog=self._catalog_rows(events),
            links=pii.build_links(linkable, {kind: linkable[f"_{kind}"] for kind in secret}),
        )

    def _catalog_rows(self, events: pl.DataFrame) -> pl.DataFrame:
        # A shop that hands over its catalog no longer sells what is not in it.
        derived = catalogs.from_events(events, available=self._catalog is None)
        if self._catalog is None or self._catalog_yielded:
            return derived
        self._catalog_yielded = True
        return pl.concat([derived, self._catalog], how="diagonal")


def redact_queries(events: pl.DataFrame) -> pl.DataFrame:
    """Redact e-mail addresses in search texts: people type them into the search box."""
    if events["query"].null_count() == events.height:
        return events
    query = pl.col("query")
    return events.with_columns(
        pl.when(query.str.contains(pii.AT)).then(pii.redact(query)).otherwise(query).alias("query")
    )


def read_catalog(path: Path) -> pl.DataFrame:
    """Read the shop's own catalog file. Raises `InputError` that names the first row and column at fault.

    Columns are those of `CATALOG_SCHEMA` and `CATALOG_OPTIONAL`: the vectors of `embedding` are lists of numbers, or
    texts that hold a JSON array, all of one length; a null or empty cell is an item without one.
    """
    table = readers.read_table(path)
    if "item_id" not in table.columns:
        raise InputError(f"the catalog {path} has no column item_id; found {', '.join(table.columns)}")
    schema = CATALOG_SCHEMA | CATALOG_OPTIONAL
    coerced = {c: coerce.to_dtype(table[c], c, t, "UTC") for c, t in schema.items() if c in table.columns}
    for column, values in coerced.items():
        bad = (coerce.is_filled(table[column]) & values.is_null()) | (values.is_null() & (column == "item_id"))
        if bad.any():
            row = int(bad.arg_true()[0])
            cell = table[column][row]
            text = repr(cell.to_list() if isinstance(cell, pl.Series) else cell)
            kind = "list of finite numbers (float32)" if column == EMBEDDING else schema[column]
            raise InputError(
                f"the catalog {path}: row {row} (from 0) has {column} {text[:80]}, which is no {kind}; correct it"
            )
    if EMBEDDING in coerced:
        _check_sizes(coerced[EMBEDDING], path)
    catalog = conform_catalog(pl.DataFrame(list(coerced.values())))
    return catalog.with_columns(pl.col("available").fill_null(True))


def _check_sizes(vectors: pl.Series, path: Path) -> None:
    sizes = vectors.list.len()
    filled = sizes.is_not_null().arg_true()
    if sizes.drop_nulls().n_unique() > 1:
        at = int(filled[0])
        row = next(n for n in filled if sizes[n] != sizes[at])
        raise InputError(
            f"the catalog {path}: row {row} (from 0) has an {EMBEDDING} of length {sizes[row]}, row {at} one of "
            f"length {sizes[at]}; vectors of one catalog come from one model and have one length"
        )
