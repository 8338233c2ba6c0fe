"""Server settings, read from environment variables and validated.

Below everything else in `serving`: what parses API keys and browser origins is here, what enforces them in
`api/middleware`.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from features.common.errors import InputError
from features.sources.event_store import default_url

KeyDigest = bytes

MIN_KEY_LENGTH = 20
MIN_SECRET_LENGTH = 32
MAX_SECRETS = 8  # of one kind
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what may follow Bearer: RFC 6750, b64token
_SECRET = re.compile(r"[!-~]+")
_ED25519 = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")  # 32 bytes in base64url: the last four bits are zeros
_KEY_HINT = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:]*:[0-9a-f:.]*")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class Settings(BaseSettings):
    """Every field is an environment variable: `USUAL_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="USUAL_", extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    bundle: Path | None = None
    """A bundle directory to serve. Unset: the model inside the Bento that is being served."""

    champion: Path | None = None
    """The directory where `usual promote` publishes champions, which the server then follows: a new one takes the
    place of the active model, without a restart. `usual serve` sets it unless it is told what to serve."""

    follow_every_s: float = Field(1.0, gt=0)
    """How often the server looks there."""

    log: Path | None = None
    """The event log that `POST /v1/admin/refresh` makes snapshots from."""

    placements: Path | None = None
    """A file in place of serving/placements.yml, which says what every key means."""

    rules: Path | None = None
    """A file with the shop's rules, which the server follows; docs/rules.md says what it may have."""

    log_format: Literal["text", "json"] = "text"
    """How log lines look on stderr; `json` is one object per line."""

    access_log: bool = False
    """Whether every request is logged; server errors always are. Lines hold no ids but the request's own."""

    host: str = "127.0.0.1"
    """The address to listen on; an IP address. The default is reachable from this machine only."""

    port: int = Field(3000, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""

    workers: int = Field(1, ge=1)
    """Server processes. They share the memory-mapped bundle."""

    max_batch: int = Field(64, ge=1)
    """The most visitors ranked in one vectorised call."""

    linger_ms: float = Field(2.0, ge=0, le=50)
    """How long a batch under load may wait for as many requests as the one before it had."""

    max_queue: int = Field(256, ge=1)
    """Requests that may wait. Of more, those whose sender has most of them, or the costliest, are refused with 429, as
    is one that would have to wait for half of `deadline_ms`."""

    deadline_ms: int = Field(1000, ge=1)
    """A request that is not ranked after this long is answered with what sells."""

    event_store: SecretStr | None = None
    """Where events are kept: the path of a SQLite file, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE, which
    servers on several machines can share. Unset: events.sqlite in `USUAL_HOME`."""

    event_days: int = Field(90, ge=38)
    """Events are removed from the store this many days after they came. At least as long as an event may be late
    and still be known when it is sent again; export them before (`usual ingest store`)."""

    visit_budget_ms: float = Field(50, gt=0)
    """How long an answer may wait for what its visitor has just done; then it is given without."""

    max_body_bytes: int = Field(2_000_000, ge=1)
    """A longer request body is refused with 413, without being kept."""

    max_bodies_bytes: int = Field(64_000_000, ge=1)
    """So much of all request bodies may be held at once; what comes then is refused with 429. This and the limits below
    are those of one worker process."""

    max_connections: int = Field(2_000, ge=16)
    """So many connections may be open; fewer where the system grants fewer open files. For one more, the one that has
    had no request for longest is closed; if all have one, it is refused with 503."""

    max_connections_per_address: int = Field(256, ge=0)
    """The same for each address but those of this machine, which are taken for a proxy's; 0: no limit. One more is
    refused with 429."""

    max_requests: int = Field(512, ge=4)
    """So many requests may have arrived and not be answered; those of one address may take half of it. More are refused
    with 429 before anything is done for them, except for probes."""

    overload_target_ms: float = Field(50, gt=0)
    """While plain requests for ranking come faster than they are answered, so many of them are taken on that each is
    answered in about so many milliseconds, and 32 of one address alone in any case; the others are refused with 429 at
    once. A burst is no overload: it is taken on as far as `max_requests` allows."""

    max_header_bytes: int = Field(32_768, ge=1_024)
    """A longer request line with its headers is refused with 431."""

    max_headers: int = Field(100, ge=10)
    """As are more headers."""

    header_timeout_s: float = Field(5.0, gt=0)
    """After so many seconds request line and headers must have arrived, from the first byte or from when the connection
    was opened; else 408, and it is closed."""

    body_timeout_s: float = Field(10.0, gt=0)
    """The same for a body, on every path; most paths wait for less."""

    write_timeout_s: float = Field(10.0, gt=0)
    """Who reads less than 64 kB of an answer that waits in so many seconds is cut off."""

    max_unread_bytes: int = Field(64_000_000, ge=1)
    """So much of all answers may wait to be read; the longest are cut off."""

    idle_timeout_s: float = Field(75.0, gt=0)
    """A connection without a request is closed after so many seconds: later than the usual proxies (60) do it, so that
    none of them sends a request into a connection that is being closed."""

    secret_keys: Annotated[tuple[bytes, ...], NoDecode] = Field((), repr=False)
    """Comma-separated keys of 20 or more characters that may do everything. More than one: to change from one to the
    next. Digests of them are kept."""

    publishable_keys: Annotated[tuple[bytes, ...], NoDecode] = Field((), repr=False)
    """The same for keys that may recommend, rerank, send events and get client ids: a page may hold them."""

    open: bool = False
    """Ask for no keys. For development: only where the server listens on a loopback address."""

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated names, such as dev.shop.test, under which a server without keys answers beside localhost and
    loopback addresses."""

    server_secret: SecretStr | None = None
    """32 or more random characters that sign what the server gives out and gets back, such as cursors. Give it to all
    servers that answer for one shop. Unset: a file in `USUAL_HOME`, made on first use."""

    server_secrets_before: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), repr=False)
    """Comma-separated server secrets of before: the client ids that they signed stay valid."""

    visitor_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), repr=False)
    """Comma-separated secrets of 32 or more characters with which the shop's servers sign visitor tokens (HS256): the
    only proof of a customer that a page can have. More than one: to change from one to the next."""

    visitor_public_keys: Annotated[tuple[str, ...], NoDecode] = Field((), repr=False)
    """Comma-separated Ed25519 public keys (base64url, 43 characters) whose private keys sign visitor tokens (EdDSA)."""

    visitor_token_hours: float = Field(24, gt=0, le=8_760, allow_inf_nan=False)
    """A visitor token that expires later than so many hours from now proves nothing."""

    client_ids: Literal["signed", "any"] = "signed"
    """Which client ids of pages are believed: those of `POST /v1/clients` and of tokens, or `any`, for a shop whose own
    ones are long and random, as who knows one is that device."""

    page_orders: Literal["claims", "devices"] = "claims"
    """What an order is that a page sends for nobody who is proven: a claim that nothing reads, or, for a shop without
    logins, the order of its device, whose id must be proven."""

    rate_publishable: float = Field(0, ge=0, allow_inf_nan=False)
    """Requests per second that each publishable key may send to one worker process; 0: no limit."""

    rate_secret: float = Field(0, ge=0, allow_inf_nan=False)
    """The same for each secret key."""

    rate_address: float = Field(0, ge=0, allow_inf_nan=False)
    """The same for each address that requests come from, without a secret key. Only behind a proxy that sets
    `X-Forwarded-For` and that `FORWARDED_ALLOW_IPS` names are the addresses those of visitors."""

    rate_burst_s: float = Field(2, gt=0, allow_inf_nan=False)
    """So many seconds' worth of requests may come at once after a pause."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins, such as https://shop.example, whose pages may ask from a browser; * for any."""

    @field_validator("secret_keys", "publishable_keys", mode="before")
    @classmethod
    def _hash_keys(cls, keys: SecretStr | str | tuple[bytes, ...], info: ValidationInfo) -> tuple[bytes, ...]:
        return hash_keys(keys, f"USUAL_{str(info.field_name).upper()}")

    @field_validator("visitor_secrets", "server_secrets_before", mode="before")
    @classmethod
    def _split_secrets(cls, text: SecretStr | str | Sequence[SecretStr], info: ValidationInfo) -> tuple[SecretStr, ...]:
        return split_secrets(text, f"USUAL_{str(info.field_name).upper()}")

    @field_validator("visitor_public_keys", mode="before")
    @classmethod
    def _split_public_keys(cls, text: str | Sequence[str]) -> tuple[str, ...]:
        return split_public_keys(text)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _parse_origins(cls, text: str | tuple[str, ...]) -> tuple[str, ...]:
        return parse_origins(text)

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _parse_hosts(cls, text: str | tuple[str, ...]) -> tuple[str, ...]:
        return parse_hosts(text)

    @field_validator("server_secret")
    @classmethod
    def _is_long(cls, secret: SecretStr | None) -> SecretStr | None:
        if not (secret and secret.get_secret_value()):
            return None
        if (length := len(secret.get_secret_value())) < MIN_SECRET_LENGTH:
            raise InputError(
                f"USUAL_SERVER_SECRET has {length} characters; use {MIN_SECRET_LENGTH} or more; {_KEY_HINT}"
            )
        return secret

    def event_store_url(self) -> str:
        """Return the event store's address including its password: to connect with, never to print or log."""
        return self.event_store.get_secret_value() if self.event_store else default_url()


def read_settings() -> Settings:
    """Read the settings of this process. Raises InputError that names each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"USUAL_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise InputError(f"the server's settings are wrong: {wrong}") from None


def hash_keys(keys: SecretStr | str | Sequence[KeyDigest], variable: str) -> tuple[KeyDigest, ...]:
    """Return the SHA-256 digests of the comma-separated API keys of the environment variable `variable`.

    A key is long and random, so a plain digest cannot be reversed. Raises InputError, which never repeats a key.
    """
    text = keys.get_secret_value() if isinstance(keys, SecretStr) else keys
    if not isinstance(text, str):
        return tuple(text)
    plain = [key.strip() for key in text.split(",") if key.strip()]
    for n, key in enumerate(plain, 1):
        which = f"{variable}: key {n} of {len(plain)}"
        if len(key) < MIN_KEY_LENGTH:
            raise InputError(f"{which} has {len(key)} characters; use {MIN_KEY_LENGTH} or more; {_KEY_HINT}")
        if not _KEY.fullmatch(key):
            raise InputError(f"{which} has a character other than A-Z a-z 0-9 . _ ~ + / = -; {_KEY_HINT}")
    return tuple(sha256(key.encode()).digest() for key in plain)


def split_secrets(text: SecretStr | str | Sequence[SecretStr], variable: str) -> tuple[SecretStr, ...]:
    """Split comma-separated secrets of the environment variable `variable`. Raises InputError, which repeats none."""
    plain = text.get_secret_value() if isinstance(text, SecretStr) else text
    if not isinstance(plain, str):
        return tuple(plain)
    secrets = _split_few(plain, variable, "secret")
    for n, secret in enumerate(secrets, 1):
        which = f"{variable}: secret {n} of {len(secrets)}"
        if len(secret) < MIN_SECRET_LENGTH:
            raise InputError(f"{which} has {len(secret)} characters; use {MIN_SECRET_LENGTH} or more; {_KEY_HINT}")
        if not _SECRET.fullmatch(secret):
            raise InputError(
                f"{which} has a space or a character beyond ASCII, which others encode differently; {_KEY_HINT}"
            )
    return tuple(map(SecretStr, secrets))


def split_public_keys(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split comma-separated Ed25519 public keys. Raises InputError, which repeats none: it may be a private one."""
    if not isinstance(text, str):
        return tuple(text)
    keys = _split_few(text, "USUAL_VISITOR_PUBLIC_KEYS", "key")
    for n, key in enumerate(keys, 1):
        if not _ED25519.fullmatch(key):
            raise InputError(
                f"USUAL_VISITOR_PUBLIC_KEYS: key {n} of {len(keys)} is no raw Ed25519 key in base64url, which has 43 "
                "characters; make a pair with: usual token --new-key"
            )
    return tuple(keys)


def _split_few(text: str, variable: str, what: str) -> list[str]:
    """Split at commas. Each one more is tried for every token that none has signed."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MAX_SECRETS:
        raise InputError(f"{variable} has {len(parts)} {what}s; keep {MAX_SECRETS} at most, and remove the oldest")
    return parts


def parse_origins(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split comma-separated origins, as browsers send them, or * alone for any. Raises InputError."""
    origins = [o.strip() for o in text.split(",") if o.strip()] if isinstance(text, str) else list(text)
    for origin in origins:
        if origin == "*" and len(origins) == 1:
            continue
        if not _ORIGIN.fullmatch(origin):
            raise InputError(
                f"USUAL_CORS_ORIGINS: {origin!r} is not what browsers send as Origin; write scheme, host and port "
                "only, in lower case, such as https://shop.example, with commas between several; or * alone for any"
            )
    return tuple(origins)


def parse_hosts(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split comma-separated host names or IP addresses, without ports. Raises InputError."""
    names = [n.strip().lower() for n in text.split(",") if n.strip()] if isinstance(text, str) else list(text)
    for name in names:
        if not _HOST.fullmatch(name):
            raise InputError(
                f"USUAL_ALLOWED_HOSTS: {name!r} is no host name or IP address; write it without scheme and port, such "
                "as dev.shop.test, with commas between several"
            )
    return tuple(names)


def validate_access(publishable: Sequence[KeyDigest], secret: Sequence[KeyDigest], without_keys: bool) -> None:
    """Raise InputError unless there are keys, each of one kind, or permission to run without, and not both."""
    if without_keys and (publishable or secret):
        raise InputError(
            "USUAL_OPEN and keys exclude each other: unset USUAL_OPEN (or leave out --open) to ask for keys, or unset "
            "USUAL_PUBLISHABLE_KEYS and USUAL_SECRET_KEYS"
        )
    if not (publishable or secret or without_keys):
        raise InputError(
            "there are no keys, so anyone could ask and write; set USUAL_SECRET_KEYS and USUAL_PUBLISHABLE_KEYS "
            f"(comma-separated; {_KEY_HINT}), or, to develop on this machine, USUAL_OPEN=1 or `usual serve --open`"
        )
    if set(publishable) & set(secret):
        raise InputError(
            "a key stands in both USUAL_PUBLISHABLE_KEYS and USUAL_SECRET_KEYS: what a page shows is not secret; "
            f"{_KEY_HINT}"
        )


def open_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `environment` for a server that runs without API keys."""
    access = ("USUAL_SECRET_KEYS", "USUAL_PUBLISHABLE_KEYS", "USUAL_CORS_ORIGINS")
    return {name: value for name, value in environment.items() if name not in access} | {"USUAL_OPEN": "1"}
