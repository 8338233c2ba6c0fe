"""What ties people together without being kept: addresses and payment tokens are hashed at the door.

A hash is keyed (HMAC-SHA256) with the shop's secret, the environment variable `USUAL_IDENTITY_SALT`:
without it nobody can try addresses against a log. The plain value goes nowhere: not into events,
catalog or links, not into the copies of rejected rows, not into messages.
"""

import hmac
import os
from collections.abc import Iterable

import polars as pl

from features.common.errors import InputError
from features.event_log.schema import LINK_SCHEMA, LinkKind, conform

SALT = "USUAL_IDENTITY_SALT"
SHORTEST = 16
HIDDEN = "[redacted]"

_ADDRESS = r"[^\s\"'<>@,;:=(){}\[\]]+@[^\s\"'<>@,;:=(){}\[\]\\]+\.\w{2,}"
_ENCODED = r"[\w.+-]+%40[\w-]+(?:\.[\w-]+)*\.\w{2,}"  # in the query of an URL
AT = "@|%40"  # what every address holds; looking for it first is several times faster


def salt(what: str) -> bytes:
    """The shop's secret. Raises `InputError` where it is missing or short; `what` says why it is needed."""
    value = os.environ.get(SALT, "")
    if len(value) < SHORTEST:
        state = "is not set" if not value else f"has {len(value)} characters"
        raise InputError(
            f"{what}, which is stored only as a salted hash, but {SALT} {state}. Set it to a secret of at least "
            f"{SHORTEST} characters and keep it: `export {SALT}=$(openssl rand -hex 32)`; another salt gives "
            "other hashes"
        )
    return value.encode()


def hashed(values: pl.Series, kind: LinkKind, key: bytes) -> pl.Series:
    """32 hex digits for each value, null for an empty one; equal e-mail addresses in other case are equal."""
    plain = values.cast(pl.String, strict=False).str.strip_chars()
    if kind == "email":
        plain = plain.str.to_lowercase()
    once = plain.unique().drop_nulls()
    once = once.filter(once != "")
    digests = [hmac.digest(key, f"{kind}:{value}".encode(), "sha256").hex()[:32] for value in once]
    return plain.replace_strict(once, pl.Series(digests, dtype=pl.String), default=None, return_dtype=pl.String)


def links(events: pl.DataFrame, tokens: dict[LinkKind, pl.Series]) -> pl.DataFrame:
    """Who was seen with which token, in `LINK_SCHEMA`: one row each, with the earliest time.

    `events` has timestamp, client_id and customer_id; each of `tokens` is as long.
    """
    parts = [
        events.select("client_id", "customer_id", at="timestamp").with_columns(
            tokens[kind].alias("token"), kind=pl.lit(kind)
        )
        for kind in tokens
    ]
    return once(conform(pl.concat(parts), LINK_SCHEMA).drop_nulls("token") if parts else conform(
        pl.DataFrame(schema=LINK_SCHEMA), LINK_SCHEMA
    ))  # fmt: skip


def once(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per token, client and customer, with the earliest `at`; rows that name nobody are left out."""
    named = rows.filter(pl.col("client_id").is_not_null() | pl.col("customer_id").is_not_null())
    key = ["kind", "token", "client_id", "customer_id"]
    return conform(named.group_by(key).agg(pl.col("at").min()).sort("at", *key), LINK_SCHEMA)


def is_address(column: str) -> pl.Expr:
    """Whether an e-mail address stands anywhere in `column`, as in `mailto:jane@example.org`."""
    text = pl.col(column).cast(pl.String)
    return (text.str.contains(_ADDRESS) | text.str.contains(f"(?i){_ENCODED}")).fill_null(False)


def redact(text: pl.Expr) -> pl.Expr:
    """`text` without anything that looks like an e-mail address."""
    plain = text.str.replace_all("\\u0040", "@", literal=True)  # JSON may escape any letter
    return plain.str.replace_all(_ADDRESS, HIDDEN).str.replace_all(f"(?i){_ENCODED}", HIDDEN)


def redacted(text: str) -> str:
    """As `redact`, of one text."""
    return str(pl.select(redact(pl.lit(text))).item())


def hide(frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """`frame` with what stands in `columns` blotted out; empty cells stay empty."""
    return frame.with_columns(
        pl.when(pl.col(c).is_not_null()).then(pl.lit(HIDDEN)).otherwise(None).alias(c) for c in columns
    )
