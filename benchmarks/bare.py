"""Minimal ASGI application that reads the body and sends a constant: the upper bound for `benchmarks/serve.py`."""

import json
from typing import Any

_MODEL = {"name": "constant", "version": None, "snapshot": "2026-01-01T00:00:00Z"}
_RESULT = {
    "recommendation_id": "rec_" + 32 * "0",
    "placement": "home.for_you",
    "items": [{"item_id": f"item-{n:06}", "rank": n + 1} for n in range(12)],
    "strategy": "popular",
    "fallback": None,
    "degraded": False,
    "segment": "PROSPECT",
    "model": _MODEL,
}
_BODY = json.dumps({"results": [_RESULT]}, separators=(",", ":")).encode()
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
