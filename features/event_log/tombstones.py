"""Tombstones: which ids were erased from a log, as hashes, so that their rows are refused from then on.

    LOG/erased.json   a random salt, and salted hashes of ids and tokens

The salt, which differs from log to log, keeps lists of two logs from being compared. It lies beside the hashes, so
it does not prevent guessing: of short numeric ids, all can be tried in seconds. Guard the file like the log.

An erased id stays erased, with one exception: of a client that others use too, only anonymous events up to the
erasure are refused, since they may be the erased customer's.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from features.common.clock import moment
from features.common.errors import InputError
from features.event_log.atomic_dir import DirectoryChange

TOMBSTONES_FILE = "erased.json"
_WORD = re.compile(r"[^\s\"'\\,;:<>()\[\]{}=&?/|]+")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)", re.DOTALL)  # in a line that was cut the last quote may be missing
_BETWEEN = re.compile(r"[\s,;\"'&?]+")
_ASSIGN = re.compile(r"[:=]")
_ESCAPED = re.compile(r"(?:\\u[0-9a-fA-F]{4}|\\[\"\\/bfnrt])+")
_WHOLE = re.compile(r"(-?\d+)\.0+")


@dataclass
class Tombstones:
    """`customers`, `clients` and `tokens` are hashes, `shared` the hash of a client → microseconds until when."""

    salt: str = field(default_factory=lambda: secrets.token_hex(16))
    customers: set[str] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    shared: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, log: Path) -> "Tombstones":
        """Load the tombstones of the log at `log`. Raises `InputError` where the file is damaged."""
        file = log / TOMBSTONES_FILE
        if not file.exists():
            return cls()
        try:
            stored = json.loads(file.read_text())
            sets = {name: set(stored[name]) for name in ("customers", "clients", "tokens")}
            return cls(salt=stored["salt"], shared=dict(stored["shared"]), **sets)
        except (ValueError, KeyError, TypeError) as error:
            # Without it an ingest would let erased customers back in.
            raise InputError(f"{file} is damaged ({error}); restore it from a backup of the log") from error

    def __bool__(self) -> bool:
        return bool(self.customers or self.clients)

    def write(self, change: DirectoryChange) -> None:
        """Write the file into `change.new`, if there is anybody in it."""
        if not self:
            return
        sets = {name: sorted(getattr(self, name)) for name in ("customers", "clients", "tokens")}
        text = json.dumps({"salt": self.salt, **sets, "shared": dict(sorted(self.shared.items()))}, indent=1)
        (change.new / TOMBSTONES_FILE).write_text(text + "\n")

    def hash(self, text: str) -> str:
        """32 hex digits of an id or token, salted."""
        return hashlib.blake2b(
            text.encode(errors="surrogatepass"),  # JSON can hold half a character
            key=bytes.fromhex(self.salt),
            digest_size=16,
        ).hexdigest()

    def filter_events(self, events: pl.DataFrame) -> pl.DataFrame:
        """Remove the events of erased customers and clients."""
        if not self:
            return events
        erased = self._is_in("customer_id", events, self.customers) | self._is_in("client_id", events, self.clients)
        for until in sorted(set(self.shared.values())):
            some = {h for h, t in self.shared.items() if t == until}
            anonymous = pl.col("customer_id").is_null() & (pl.col("timestamp") < moment(until))
            erased |= self._is_in("client_id", events, some) & anonymous
        return events.filter(~erased)

    def filter_links(self, links: pl.DataFrame) -> pl.DataFrame:
        """Remove the links that name an erased id or token."""
        if not self:
            return links
        columns = {"customer_id": self.customers, "client_id": self.clients, "token": self.tokens}
        return links.filter(~pl.any_horizontal(self._is_in(c, links, hashes) for c, hashes in columns.items()))

    def filter_rejected(self, rejected: pl.DataFrame) -> pl.DataFrame:
        """Remove the rejected rows in which a value, or a word of one, is an erased id or token.

        A short id can also be a quantity: then a row too many is removed.
        """
        if not self or rejected.is_empty():
            return rejected
        hashes = self.customers | self.clients | self.tokens
        texts = rejected["raw"].drop_nulls().unique()
        erased = [raw for raw in texts if any(self.hash(word) in hashes for word in _words(raw))]
        return rejected.filter(~pl.col("raw").is_in(pl.Series(erased, dtype=pl.String).implode()).fill_null(False))

    def _is_in(self, column: str, frame: pl.DataFrame, hashes: set[str]) -> pl.Expr:
        """True where the hash of `column` is one of `hashes`."""
        values = [v for v in frame[column].drop_nulls().unique() if self.hash(v) in hashes] if hashes else []
        return pl.col(column).is_in(pl.Series(values, dtype=pl.String).implode()).fill_null(False)


def _words(raw: str) -> set[str]:
    """Every value in a JSON object, every text in it between quotes or blanks, and every word in it.

    Numbers are written as an id would be. A line that could not be parsed is such a value, with its quotes and
    escapes.
    """
    try:
        values = {str(v) for v in _leaves(json.loads(raw)) if v is not None}
    except (ValueError, RecursionError):
        values = {raw}
    values |= {plain for v in values if (plain := _unescape(v)) != v}
    words = {v.strip() for v in values} | values
    for value in values:
        words.update(_WORD.findall(value))
        words.update(map(_unescape, _QUOTED.findall(value)))
        # An id may hold what separates words: auth0|5f7c, urn:shop:7.
        for part in _BETWEEN.split(value):
            bare = part.strip("{}[]()<>:=")
            words.update((part, bare, _ASSIGN.split(bare, maxsplit=1)[-1]))
    return words | {whole[1] for w in words if (whole := _WHOLE.fullmatch(w))}


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: str(json.loads(f'"{match[0]}"')), text) if "\\" in text else text


def _leaves(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        for v in value.values():
            yield from _leaves(v)
    elif isinstance(value, list):
        for v in value:
            yield from _leaves(v)
    else:
        yield value
