"""Rows in a shop's own columns as events: what files and tables of a database have in common.

Without an `event_id` column a row's id is a hash of what it says, so reading it again adds nothing,
and two rows that say the same are one event.
"""

from collections.abc import Collection
from pathlib import Path

import polars as pl

from features.common.errors import InputError
from features.event_log.catalog import conform_catalog
from features.event_log.ingest import Parsed
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
from features.sources.parsing.validate import damage, raw_of, screened

NOTHING = Parsed(rows_read=0, events=pl.DataFrame(schema=EVENT_SCHEMA))  # what a table without rows says
HASHED = [c for c in EVENT_SCHEMA if c not in ("event_id", "received_at")]


class Reader:
    """Turns batches of rows into `Parsed`. Raises `InputError` for a catalog that cannot be read, and where
    the mapping names e-mail addresses or payment tokens and there is no salt to hash them with."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.secrets = mapping.secrets
        self._salt = pii.salt(f"the mapping names {' and '.join(self.secrets.values())}") if self.secrets else b""
        self._given = given_catalog(mapping.catalog) if mapping.catalog else None
        self._told = False

    @property
    def needed(self) -> set[str]:
        """The columns without which nothing is read."""
        mapping = self.mapping
        own = {"name", "timestamp"} - mapping.columns.keys() - mapping.constants.keys()
        return {*own, *mapping.columns.values(), *self.secrets.values()}

    def with_rare(self, theirs: dict[str, str]) -> dict[str, str]:
        """`theirs` with every column that lines of JSON may have though the first ones have not."""
        taken = {"event_id", *theirs, *self.mapping.constants}
        return theirs | {c: c for c in EVENT_SCHEMA if c not in taken}

    def columns(self, found: Collection[str], where: str) -> dict[str, str]:
        """Event column → theirs, for those there are. Raises `InputError` where one is missing: name, timestamp,
        customer_id or client_id, or one that the mapping names. `where` says which file or table."""
        mapping = self.mapping
        names = ", ".join(found) or "none"
        asked = mapping.columns | {f"the {kind} token": column for kind, column in self.secrets.items()}
        if absent := [f"{theirs} (for {ours})" for ours, theirs in asked.items() if theirs not in found]:
            raise InputError(f"{where} lacks columns the mapping names: {', '.join(absent)}; found {names}")
        theirs = {c: c for c in EVENT_SCHEMA if c in found and c not in mapping.constants}
        theirs |= mapping.columns
        have = theirs.keys() | mapping.constants.keys()
        missing = [c for c in ("name", "timestamp") if c not in have]
        if not have & {"customer_id", "client_id"}:
            missing.append("customer_id or client_id")
        if missing:
            raise InputError(
                f"{where}: missing columns {', '.join(missing)}; found {names}. Say which of them are meant in a "
                f"mapping, as in `columns: {{{missing[0].split()[0]}: THEIR_NAME}}`, or give `constants`"
            )
        return theirs

    def parse(self, batch: pl.DataFrame, offset: int, theirs: dict[str, str], source: str) -> Parsed:
        """`batch` holds the rows of `source` from number `offset`; `theirs` is what `columns` gave."""
        raw = batch.select(
            *(pl.col(column).alias(ours) for ours, column in theirs.items()),
            *(pl.lit(v).alias(ours) for ours, v in self.mapping.constants.items()),
        )
        if raw.height != batch.height:  # constants alone
            raw = pl.concat([raw] * batch.height)
        values = pl.DataFrame(
            coerce.values({c: raw[c] for c in EVENT_SCHEMA if c in raw.columns}, self.mapping.timezone)
        )
        if self.mapping.names:
            name = pl.col("name").cast(pl.String).replace(self.mapping.names)
            values = values.with_columns(name.cast(EVENT_SCHEMA["name"]))
        events = conform(values, EVENT_SCHEMA)
        if "event_id" not in raw.columns:
            events = events.with_columns(event_ids.ids(events, HASHED))
        # A cell that says something the column's type cannot hold.
        unread = [
            Rule(f"bad_{c}", pl.lit(coerce.says(raw[c]) & values[c].is_null()))
            for c in ("quantity", "price", "position", "received_at", "consent")
            if c in raw.columns and raw.schema[c] != EVENT_SCHEMA[c]
        ]
        rows = events.with_row_index(ROW, offset=offset)
        rows = rows.with_columns(batch[c] for c in readers.ADDED if c in batch.columns)
        secret = {kind: pii.hashed(batch[c], kind, self._salt) for kind, c in self.secrets.items()}
        rows = rows.with_columns(token.alias(f"_{kind}") for kind, token in secret.items())
        kept, rejected = screened(
            rows,
            source,
            raw_of(batch, offset, list(self.secrets.values())),
            (*damage(batch), *unread, *TIDY_RULES),
        )
        events = kept.select(*EVENT_SCHEMA)
        # Who refused is not to be recognized by address or card either.
        tied = kept.filter(pl.col("consent").ne_missing(False))
        return Parsed(
            rows_read=batch.height,
            events=without_addresses(events),
            rejected=rejected,
            catalog=self._catalog(events),
            links=pii.links(tied, {kind: tied[f"_{kind}"] for kind in secret}),
        )

    def _catalog(self, events: pl.DataFrame) -> pl.DataFrame:
        # A shop that hands over its catalog no longer sells what is not in it.
        derived = catalogs.from_events(events, available=self._given is None)
        if self._given is None or self._told:
            return derived
        self._told = True
        return pl.concat([derived, self._given], how="diagonal")


def without_addresses(events: pl.DataFrame) -> pl.DataFrame:
    """People type addresses into the search box."""
    if events["query"].null_count() == events.height:
        return events
    typed = pl.col("query")
    return events.with_columns(
        pl.when(typed.str.contains(pii.AT)).then(pii.redact(typed)).otherwise(typed).alias("query")
    )


def given_catalog(path: Path) -> pl.DataFrame:
    """The shop's own catalog. Raises `InputError` that names the first row and column at fault."""
    table = readers.read(path)
    if "item_id" not in table.columns:
        raise InputError(f"the catalog {path} has no column item_id; found {', '.join(table.columns)}")
    schema = CATALOG_SCHEMA | CATALOG_OPTIONAL
    read_as = {c: coerce.value(table[c], c, t, "UTC") for c, t in schema.items() if c in table.columns}
    for column, values in read_as.items():
        bad = (coerce.says(table[column]) & values.is_null()) | (values.is_null() & (column == "item_id"))
        if bad.any():
            row = int(bad.arg_true()[0])
            cell = table[column][row]
            written = repr(cell.to_list() if isinstance(cell, pl.Series) else cell)
            kind = "list of finite numbers (float32)" if column == EMBEDDING else schema[column]
            raise InputError(
                f"the catalog {path}: row {row} (from 0) has {column} {written[:80]}, which is no {kind}; correct it"
            )
    if EMBEDDING in read_as:
        _check_sizes(read_as[EMBEDDING], path)
    catalog = conform_catalog(pl.DataFrame(list(read_as.values())))
    return catalog.with_columns(pl.col("available").fill_null(True))


def _check_sizes(vectors: pl.Series, path: Path) -> None:
    sizes = vectors.list.len()
    filled = sizes.is_not_null().arg_true()
    if sizes.drop_nulls().n_unique() > 1:
        at = int(filled[0])
        row = next(n for n in filled if sizes[n] != sizes[at])
        raise InputError(
            f"the catalog {path}: row {row} (from 0) has an {EMBEDDING} of {sizes[row]} numbers, row {at} one of "
            f"{sizes[at]}; vectors of one catalog come from one model and have one length"
        )
