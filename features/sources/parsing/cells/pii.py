"""Personal data: salted hashes of e-mail addresses and payment tokens, and redaction of addresses in texts.

A hash is keyed (HMAC-SHA256) with the shop's secret, the environment variable `USUAL_IDENTITY_SALT`:
without it nobody can try addresses against a log. The plain value is never stored: not in events,
catalog or links, not in the copies of rejected rows, not in messages.
"""

import hmac
import os
from collections.abc import Iterable

import polars as pl

from features.common.errors import InputError
from features.event_log.schema import LINK_SCHEMA, LinkKind, conform, deduplicate_links

SALT = "USUAL_IDENTITY_SALT"
SHORTEST = 16
MASK = "[redacted]"
SET_SALT = f"Set {SALT} to a secret of at least {SHORTEST} characters, and their salted hash is the customer_id"

_ADDRESS = r"[^\s\"'<>@,;:=(){}\[\]]+@[^\s\"'<>@,;:=(){}\[\]\\]+\.\w{2,}"
_ENCODED = r"[\w.+-]+%40[\w-]+(?:\.[\w-]+)*\.\w{2,}"  # in the query of an URL
WHOLE_ADDRESS = rf"^{_ADDRESS}$"
EMAIL_CUSTOMER = "email:"  # begins the customer_id of somebody who is known by the hash of an e-mail address
AT = "@|%40"  # in every address; searching for it first is several times faster


def load_salt(reason: str) -> bytes:
    """Read the shop's secret. Raises `InputError` where it is missing or short; `reason` begins its message."""
    value = os.environ.get(SALT, "")
    if len(value) < SHORTEST:
        state = "is not set" if not value else f"has {len(value)} characters"
        raise InputError(
            f"{reason}, which is stored only as a salted hash, but {SALT} {state}. Set it to a secret of at least "
            f"{SHORTEST} characters and keep it: `export {SALT}=$(openssl rand -hex 32)`; another salt gives "
            "other hashes"
        )
    return value.encode()


def find_salt() -> bytes:
    """Read the shop's secret; empty where there is none that `load_salt` would take."""
    value = os.environ.get(SALT, "")
    return value.encode() if len(value) >= SHORTEST else b""


def hash_tokens(values: pl.Series, kind: LinkKind, key: bytes) -> pl.Series:
    """Hash each value to 32 hex digits, null for an empty one; case does not matter in e-mail addresses."""
    plain = values.cast(pl.String, strict=False).str.strip_chars()
    if kind == "email":
        plain = plain.str.to_lowercase()
    distinct = plain.unique().drop_nulls()
    distinct = distinct.filter(distinct != "")
    digests = [hmac.digest(key, f"{kind}:{value}".encode(), "sha256").hex()[:32] for value in distinct]
    return plain.replace_strict(distinct, pl.Series(digests, dtype=pl.String), default=None, return_dtype=pl.String)


def build_links(events: pl.DataFrame, tokens: dict[LinkKind, pl.Series]) -> pl.DataFrame:
    """Build rows of `LINK_SCHEMA`: one per token, client and customer, with the earliest time.

    `events` has timestamp, client_id and customer_id; each series of `tokens` is as long.
    """
    parts = [
        events.select("client_id", "customer_id", at="timestamp").with_columns(
            tokens[kind].alias("token"), kind=pl.lit(kind)
        )
        for kind in tokens
    ]
    return deduplicate_links(conform(pl.concat(parts), LINK_SCHEMA).drop_nulls("token") if parts else conform(
        pl.DataFrame(schema=LINK_SCHEMA), LINK_SCHEMA
    ))  # fmt: skip


def contains_address(column: str) -> pl.Expr:
    """Whether an e-mail address is anywhere in `column`, as in `mailto:jane@example.org`."""
    text = pl.col(column).cast(pl.String)
    return (text.str.contains(_ADDRESS) | text.str.contains(f"(?i){_ENCODED}")).fill_null(False)


def redact(text: pl.Expr) -> pl.Expr:
    """Replace anything in `text` that looks like an e-mail address by `MASK`."""
    plain = text.str.replace_all("\\u0040", "@", literal=True)  # JSON may escape any character
    return plain.str.replace_all(_ADDRESS, MASK).str.replace_all(f"(?i){_ENCODED}", MASK)


def redact_text(text: str) -> str:
    """As `redact`, for one text."""
    return str(pl.select(redact(pl.lit(text))).item())


def mask_columns(frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Replace the cells in `columns` by `MASK`; empty cells stay empty."""
    return frame.with_columns(
        pl.when(pl.col(c).is_not_null()).then(pl.lit(MASK)).otherwise(None).alias(c) for c in columns
    )
