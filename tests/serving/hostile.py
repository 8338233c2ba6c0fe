"""Hostile input: values, texts and bytes, and the bodies they are put into."""

import copy
import gzip
import json
from collections.abc import Iterator
from typing import Any

from tests.serving.event_bodies import ago

# Fields that take fixed values, numbers or times, and no text.
WORDS = ("placement", "cursor", "field", "op", "name", "timestamp", "limit", "strict", "price", "index", "distinct",
         "rules", "at")  # fmt: skip
Place = tuple[str | int, ...]

WHO = {"customer_id": "u", "client_id": "c", "session_id": "s"}
CONTEXT = {"item_ids": ["p"], "cart_item_ids": ["p"], "category": "a", "query": "q", "source": "s", "device": "d",
            "country": "DE", "currency": "EUR"}  # fmt: skip
EQUAL = {"field": "brand", "op": "==", "value": "x"}
_LINE = {"item_id": "p", "item_list_id": "l", "index": 1, "price": 1, "quantity": 1, "currency": "EUR"}
_EVENT = WHO | {"event_id": "e", "name": "purchase", "timestamp": ago(minutes=1), "consent": True,
"recommendation_id": "r",
                 "source": "s", "device": "d", "country": "DE",
                 "params": {"transaction_id": "t", "value": 1, "currency": "EUR", "search_term": "q",
                            "item_list_id": "l", "items": [_LINE]}}  # fmt: skip
CALL = {"type": "track", "event": "Product Viewed", "messageId": "m", "anonymousId": "c", "userId": "u",
         "timestamp": ago(minutes=1), "previousId": "c2", "traits": {"email": "e"},
         "context": {"campaign": {"source": "s"}, "device": {"type": "d"}, "consent": {"categoryPreferences": None}},
         "properties": {"product_id": "p", "price": 1, "quantity": 1, "currency": "EUR", "position": 1, "order_id": "o",
                        "query": "q", "products": []}}  # fmt: skip
_REQUEST = WHO | {
    "placement": "home.for_you", "context": CONTEXT, "limit": 3, "cursor": None, "strict": False, "diversity": 0.5,
    "filter": {"none": [EQUAL, EQUAL | {"field": "attributes.size", "op": "in", "value": ["x"]}]},
    "exclude": {"item_ids": ["p"], "purchased_within_days": 1}, "include": ["score"]}  # fmt: skip
# Path: a body in which each value is replaced in turn.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/rerank": {"client_id": "c", "item_ids": ["p"], "context": CONTEXT, "limit": 1, "include": ["reasons"]},
    "/v1/rules/preview": {
        "customer_id": "u", "placement": "home.for_you", "context": CONTEXT, "limit": 1, "exclude": {"item_ids": ["p"]},
        "rules": "rules: []", "at": "2026-11-27"},
    "/v1/explain": {"customer_id": "u", "item_ids": ["p"], "limit": 1},
    "/v1/items": {"items": [{"item_id": "p", "available": True, "price": 1}]},
    "/v1/customers/merge": {"client_id": "c", "customer_id": "u"},
    "/v1/customers/erase": {"customer_id": "u"},
    "/demo/items": {"item_ids": ["p"]},
    "/demo/token": {"customer_id": "u"},
}  # fmt: skip
# The same of paths where what is wrong does not refuse what stands beside it, in a list of this name.
LISTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/recommendations": ("requests", _REQUEST), "/v1/events": ("events", _EVENT),
    "/v1/events/segment": ("batch", CALL)
}  # fmt: skip

# Not JSON (RFC 8259), wherever it stands: 400.
MALFORMED = {
    "nothing": b"", "cut off": b'{"a', "trailing": b"{} x", "two": b"{}{}", "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"), "invalid UTF-8": b'{"a": "\xc3\x28"}', "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}', "half a surrogate pair": b'{"a": "\\ud800"}',
    "pair the wrong way": b'{"a": "\\udc00\\ud800"}', "control character": b'{"a": "\x00"}',
    "NaN": b'{"a": NaN}', "Infinity": b'{"a": -Infinity}', "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep and closed": b"[" * 10_000 + b"]" * 10_000, "endless number": b"9" * 100_000, "comment": b"{/**/}",
    "single quotes": b"{'a': 1}", "trailing comma": b'{"a": 1,}', "gzip": gzip.compress(b"{}"),
}  # fmt: skip

# JSON in place of each value: 2xx, or 422 and nothing of it stored.
VALUES = {
    "beyond a double": b"1e400", "a double's least": b"5e-324", "minus nought": b"-0", "2**70": str(2**70).encode(),
    "4,000 digits": b"9" * 4_000, "true": b"true", "null": b"null", "object": b'{"$gt": ""}', "list": b"[null]",
    "deep": b"[" * 150 + b"]" * 150, "100,000 letters": b'"' + b"xyzzy" * 20_000 + b'"', "NUL": b'"xyzzy\\u0000"',
    "empty": b'""', "blank": b'" \\t\\u3000"', "no such day": b'"2026-02-30T00:00:00Z"',
    "a year of six digits": b'"+275760-09-13T00:00:00Z"', "after the last hour": b'"9999-12-31T23:59:59-14:00"',
}  # fmt: skip

# Free text and ids: stored and returned as they are.
TEXTS = {
    "SQL": "xyzzy'; DROP TABLE usual_events; --", "SQL or": 'xyzzy" OR "1"="1', "wildcard": "xyzzy%_*?\\",
    "parameters": "xyzzy? :x $1 %s %(x)s {0.__class__} {{7*7}} ${jndi:ldap://x}",
    "path": "../../xyzzy/etc/passwd", "encoded path": "%2e%2e%2fxyzzy%00", "HTML": "<script>xyzzy</script>&amp;",
    "log line": 'xyzzy\r\n{"level": "error", "message": "forged"}', "header": "xyzzy\r\nSet-Cookie: a=b",
    "label": 'xyzzy"} 1\nusual_forged_total{a="b', "terminal": "xyzzy\x1b[2J\x07\x7f",
    "line separators": "xyzzy\u2028b\x85c",
    "separator first": "\x1cxyzzy2", "right to left": "\u202exyzzy1\u2066", "combining": "xyzzy" + "\u0351" * 200,
    "not normalised": "xyzzyA\u030a\ufb01", "astral": "xyzzy\U0001f600\U0010ffff\ufffe\ufeff",
    "long": "xyzzy" + "\U0001f600" * 251,
}  # fmt: skip

_BODY = b'{"requests": [{"client_id": "somebody"}]}'


def wire(*lines: bytes, at: bytes = b"/v1/recommendations", method: bytes = b"POST", body: bytes = _BODY) -> bytes:
    """A request with these header lines too; of a known length unless one of them says something of it."""
    length = [] if any(b"chunked" in x or b"Length" in x for x in lines) else [b"Content-Length: %d" % len(body)]
    head = [method + b" " + at + b" HTTP/1.1", b"Connection: close", b"Content-Type: application/json"]
    head += [] if any(x.startswith(b"Host:") for x in lines) else [b"Host: localhost"]
    return b"\r\n".join([*head, *length, *lines, b"", body])


_CHUNKED, _CHUNKS = b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(_BODY), _BODY)
_SOCKET = b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: eHl6enk=", b"Sec-WebSocket-Version: 13"
_OVERRIDES = [b"X-HTTP-Method-Override: PATCH", b"X-HTTP-Method: PATCH", b"X-Method-Override: PATCH"]
# Bytes on the wire by what comes of them.
WIRES: dict[int, dict[str, bytes]] = {
    200: {
        "encoded line break in a header": wire(b"X-Request-Id: xyzzy%0d%0aSet-Cookie: a=b"),
        "bytes in a header": wire(b"X-Request-Id: xyzzy\xe9\xff"),
        "long id": wire(b"X-Request-Id: " + b"xyzzy" * 2_000),
        "markup in a header": wire(b"X-Request-Id: <script>xyzzy</script>"), "no trace": wire(b"traceparent: 00-xyzzy"),
        "a key for what takes none": wire(b"Idempotency-Key: xyzzy"), "90 headers": wire(*[b"X-Y: xyzzy"] * 90),
        "chunks": wire(_CHUNKED, body=_CHUNKS), "after the last chunk": wire(_CHUNKED, body=_CHUNKS + b"xyzzy\r\n\r\n"),
        "forged address": wire(b"X-Forwarded-For: xyzzy, ::1"), "no coding": wire(b"Content-Encoding: Identity"),
        "forged host": wire(b"X-Forwarded-Host: xyzzy.example"), "expects more": wire(b"Expect: 100-continue"),
        "absolute": wire(at=b"http://xyzzy.example/v1/recommendations"),
        "query": wire(at=b"/v1/recommendations?xyzzy=%00"),
    },
    400: {
        "line feed in a header": wire(b"X-Request-Id: a\nSet-Cookie: a=b"), "return": wire(b"X-Request-Id: a\rb"),
        "folded header": wire(b"X-Request-Id: a\r\n b"), "NUL in a header": wire(b"X-Request-Id: a\0b"),
        "header without name": wire(b": a"), "space in a name": wire(b"X y: a"), "space before a colon": wire(b"X : a"),
        "length and chunks": wire(_CHUNKED, b"Content-Length: 3", body=_CHUNKS),
        "another coding": wire(b"Transfer-Encoding: xchunked"),
        "two lengths": wire(b"Content-Length: 3", b"Content-Length: 4"),
        "long length": wire(b"Content-Length: " + b"9" * 5_000),
        "length with a sign": wire(b"Content-Length: +3"), "length below nought": wire(b"Content-Length: -1"),
        "length in words": wire(b"Content-Length: ten"), "too short a length": wire(b"Content-Length: 10"),
        "lengths in one": wire(b"Content-Length: 5, 6"), "chunk of no size": wire(_CHUNKED, body=b"zz\r\n{}"),
        "chunk of any size": wire(_CHUNKED, body=b"f" * 20 + b"\r\n{}"),
        "chunk below nought": wire(_CHUNKED, body=b"-1\r\n{}"),
        "NUL in a path": wire(at=b"/v1/\0"), "bytes in a path": wire(at=b"/v1/\xc3\xa9"),
        "method of no kind": wire(method=b"XYZZY"), "tunnel": wire(at=b"xyzzy.example:443", method=b"CONNECT"),
        "another version": wire().replace(b"1.1", b"9.9"), "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03" + bytes(100), "any bytes": bytes(range(256)),
        "HTTP/2 by upgrade": wire(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk"),
    },
    403: {"web socket": wire(*_SOCKET, method=b"GET", body=b"")},
    404: {
        "parents": wire(at=b"/v1/../../etc/passwd"), "encoded parents": wire(at=b"/v1/%2e%2e/metrics"),
        "two slashes": wire(at=b"//v1/recommendations"), "parameter": wire(at=b"/v1/recommendations;xyzzy"),
        "encoded NUL": wire(at=b"/v1/recommendations%00"), "encoded bytes": wire(at=b"/xyzzy/%ff%c3%28"),
        "encoded line break": wire(at=b"/v1/model%0d%0aSet-Cookie:a=b"), "no encoding": wire(at=b"/v1/%zz%"),
        "markup": wire(at=b"/<script>xyzzy</script>"), "label": wire(at=b'/xyzzy"}%201%0ausage_forged{a="'),
        "asterisk": wire(at=b"*", method=b"OPTIONS"), "file of ours": wire(at=b"/demo/..%2f..%2fapp.py", method=b"GET"),
    },
    415: {
        "false encoding": wire(b"Content-Encoding: gzip"),
        "second encoding": wire(b"Content-Encoding: identity", b"Content-Encoding: br"),
    },
    431: {
        "2,000 headers": wire(*[b"X-Y: xyzzy"] * 2_000), "101 headers": wire(*[b"X: xyzzy"] * 101),
        "40,000 letters in a header": wire(b"X-Request-Id: " + b"xyzzy" * 8_000),
        "long path": wire(at=b"/" + b"x" * 40_000), "longer path": wire(at=b"/" + b"x" * 100_000),
    },
    405: {"method overridden": wire(*_OVERRIDES, at=b"/v1/items"), "TRACE": wire(method=b"TRACE", body=b"")},
}  # fmt: skip


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where the values are that hold no others."""
    if not value or not isinstance(value, dict | list):
        yield place
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*place, key))


def put(body: object, place: Place, value: bytes) -> bytes:
    """`body` with `value` at a place."""
    changed: Any = copy.deepcopy(body)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = "@here@"
    return json.dumps(changed).encode().replace(b'"@here@"', value)
