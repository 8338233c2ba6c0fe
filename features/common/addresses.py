"""Addresses of databases and servers, as they may be shown: without passwords, tokens and user names."""

import re
from urllib.parse import unquote

HIDDEN = "***"
_USER = re.compile(r"(?<=://).*@", re.DOTALL)  # up to the last @: a password may have one that is not encoded
_QUERY_SECRET = re.compile(
    r"(?i)((?:^|[?&;\s])[^=&;?\s]*(?:pass|pwd|secret|token|key|sig|cred|auth)[^=&;?\s]*=)[^&;\s]*"
)
_ANY_USER = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^\s/?#'\"]*@")
_SHORTEST = 3  # letters of a password that is looked for in messages; a shorter one is in every word


def hide_secrets(address: str) -> str:
    """Return `address` with `***` in place of user and password, and of parameters that sound secret."""
    start, mark, query = address.partition("?")
    if "@" in query:  # a password with a question mark, or a parameter: rather hide too much
        start, mark, query = address, "", ""
    return _USER.sub(f"{HIDDEN}@", start) + _QUERY_SECRET.sub(rf"\g<1>{HIDDEN}", mark + query)


def hide_secrets_in(text: str, address: str) -> str:
    """Return a library's message about `address` without the secrets of that address, however they are written."""
    text = text.replace(address, hide_secrets(address))
    secrets = [_user(address).partition(":")[2] or _user(address)]
    secrets += [match[0].partition("=")[2] for match in _QUERY_SECRET.finditer(address)]
    for secret in sorted({s for known in secrets for s in (known, unquote(known))}, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    return _QUERY_SECRET.sub(rf"\g<1>{HIDDEN}", _ANY_USER.sub(rf"\g<1>{HIDDEN}@", text))


def _user(address: str) -> str:
    match = _USER.search(address)
    return match[0][:-1] if match else ""
