"""Host, Origin and Sec-Fetch-Site: which requests a server without API keys believes to be of its own machine.

Such a server listens on a loopback address only, yet every page in a browser of that machine reaches it: a page of
`evil.example` whose name was pointed at 127.0.0.1 after it had loaded (DNS rebinding; its `Host` betrays it), and any
page that sends requests without reading their answers (its `Origin` or `Sec-Fetch-Site` betray it). Programs such as
curl send neither of these two headers.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from serving.schemas.problems import Problem, problem

# What pages elsewhere may include or link to: scripts and pages without any data of the shop, and probes.
FOREIGN_PATHS = frozenset(
    (
        *("/tracker.js", "/livez", "/readyz", "/healthz", "/docs", "/docs/ui.js", "/docs/ui.css"),
        *("/demo", "/demo/demo.js", "/demo/demo.css", "/demo/icon.svg"),
    )
)

_FOREIGN_HOST = (
    "A server without keys answers to a loopback name or address only, and Host is another one; name it in "
    "USUAL_ALLOWED_HOSTS, or start the server with keys"
)
_FOREIGN_PAGE = (
    "A server without keys answers no page of another origin; name the origin in USUAL_CORS_ORIGINS, or start the "
    "server with keys"
)


class LocalPages:
    """Refuses what comes under a foreign name or from a foreign page.

    `hosts`: further host names that count as this machine's; `origins`: further origins whose pages may ask.
    """

    def __init__(self, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origin.encode() for origin in origins)

    def check(self, path: str, headers: Mapping[bytes, bytes], server_name: str | None) -> Problem | None:
        """Return the problem with a request for `path`, None where there is none.

        `server_name`: the address it came in on; a name that is no IP address is that of a caller in this process.
        """
        host = headers.get(b"host", b"").lower()
        if not (_is_local(host) or self._is_known(host, server_name)):
            return problem("forbidden", _FOREIGN_HOST)
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none").lower()
        if path in FOREIGN_PATHS or (origin is not None and origin in self._origins):
            return None
        own = origin is None or origin.lower().partition(b"://")[2] == host
        return None if own and site in (b"none", b"same-origin") else problem("forbidden", _FOREIGN_PAGE)

    def _is_known(self, host: bytes, server_name: str | None) -> bool:
        name = host_name(host)
        return name in self._hosts or (bool(name) and name == server_name and _address(name) is None)


def host_name(host: bytes) -> str:
    """Return the name or address of a `Host` header without its port; empty where it is malformed."""
    text = host.decode("latin-1")
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        port = port or ":0"
        return name if bracket and port[0] == ":" and port[1:].isdigit() else ""
    name, colon, port = text.partition(":")
    return name.removesuffix(".") if not colon or port.isdigit() else ""


@lru_cache(256)
def _is_local(host: bytes) -> bool:
    name = host_name(host)
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
