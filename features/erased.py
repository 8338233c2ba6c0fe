"""Who was erased from a log, as hashes: enough to refuse their rows, too little to name them.

    LOG/erased.json   a random salt, and salted hashes of ids and tokens

An id is gone for good, with one exception: of a client that others use too, only anonymous events up to
the erasure are refused, since they may be of the erased customer.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from features.clock import moment
from features.errors import InputError
from features.replace import Change

FILE = "erased.json"
_WORD = re.compile(r"[^\s\"'\\,;:<>()\[\]{}=&?/|]+")
_WHOLE = re.compile(r"(-?\d+)\.0+")


@dataclass
class Erased:
    """`customers`, `clients` and `tokens` are hashes, `shared` the hash of a client → microseconds until when."""

    salt: str = field(default_factory=lambda: secrets.token_hex(16))
    customers: set[str] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    shared: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, log: Path) -> "Erased":
        file = log / FILE
        if not file.exists():
            return cls()
        try:
            stored = json.loads(file.read_text())
            sets = {name: set(stored[name]) for name in ("customers", "clients", "tokens")}
            return cls(salt=stored["salt"], shared=dict(stored["shared"]), **sets)
        except (ValueError, KeyError, TypeError) as error:
            # To go on without it would let the erased back in.
            raise InputError(f"{file} is damaged ({error}); restore it from a backup of the log") from error

    def write(self, change: Change) -> None:
        if not self.customers:
            return
        sets = {name: sorted(getattr(self, name)) for name in ("customers", "clients", "tokens")}
        text = json.dumps({"salt": self.salt, **sets, "shared": dict(sorted(self.shared.items()))}, indent=1)
        (change.new / FILE).write_text(text + "\n")

    def hash(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=bytes.fromhex(self.salt), digest_size=16).hexdigest()

    def events(self, events: pl.DataFrame) -> pl.DataFrame:
        """`events` without those of the erased."""
        if not self.customers:
            return events
        gone = self._among("customer_id", events, self.customers) | self._among("client_id", events, self.clients)
        for until in sorted(set(self.shared.values())):
            some = {h for h, t in self.shared.items() if t == until}
            anonymous = pl.col("customer_id").is_null() & (pl.col("timestamp") < moment(until))
            gone |= self._among("client_id", events, some) & anonymous
        return events.filter(~gone)

    def links(self, links: pl.DataFrame) -> pl.DataFrame:
        """`links` without those that name an erased id or token."""
        if not self.customers:
            return links
        columns = {"customer_id": self.customers, "client_id": self.clients, "token": self.tokens}
        return links.filter(~pl.any_horizontal(self._among(c, links, hashes) for c, hashes in columns.items()))

    def rejected(self, rejected: pl.DataFrame) -> pl.DataFrame:
        """`rejected` without rows in which a value, or a word of one, is an erased id or token.

        A short id can be a quantity too: then a row too many goes.
        """
        if not self.customers or rejected.is_empty():
            return rejected
        hashes = self.customers | self.clients | self.tokens
        named: dict[str, bool] = {}
        for raw in rejected["raw"].drop_nulls().unique():
            named[raw] = any(self.hash(word) in hashes for word in _words(raw))
        gone = [raw for raw, yes in named.items() if yes]
        return rejected.filter(~pl.col("raw").is_in(pl.Series(gone, dtype=pl.String).implode()).fill_null(False))

    def _among(self, column: str, frame: pl.DataFrame, hashes: set[str]) -> pl.Expr:
        """True where the hash of `column` is one of `hashes`."""
        found = [v for v in frame[column].drop_nulls().unique() if self.hash(v) in hashes] if hashes else []
        return pl.col(column).is_in(pl.Series(found, dtype=pl.String).implode()).fill_null(False)


def _words(raw: str) -> set[str]:
    """Every value in a JSON object and every word in it, numbers as an id would be written."""
    try:
        values = {str(v) for v in _leaves(json.loads(raw)) if v is not None}
    except (ValueError, RecursionError):
        values = {raw}
    values |= {v.strip() for v in values}
    words = values | {word for v in values for word in _WORD.findall(v)}
    return words | {whole[1] for w in words if (whole := _WHOLE.fullmatch(w))}


def _leaves(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        for v in value.values():
            yield from _leaves(v)
    elif isinstance(value, list):
        for v in value:
            yield from _leaves(v)
    else:
        yield value
