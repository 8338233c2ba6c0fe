"""Events as a storefront posts them."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any


def ago(**delta: float) -> str:
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


def event_body(name: str = "view_item", *items: str, **fields: Any) -> dict[str, Any]:
    """The JSON of an event of client d1 with these items, at one euro each."""
    params = {"currency": "EUR", "items": [{"item_id": i, "price": 1} for i in items or ("p1",)]}
    params |= fields.pop("params", {})
    return {"event_id": str(uuid.uuid4()), "name": name, "client_id": "d1", "params": params} | fields


def post_events(server: Any, *events: object) -> Any:
    return server.client.post("/v1/events", json={"events": list(events)})
