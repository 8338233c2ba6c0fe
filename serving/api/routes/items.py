"""`PATCH /v1/items`: availability and prices between two snapshots, without training anew."""

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from features.common.clock import now
from serving.api import openapi
from serving.api.idempotency import write_once
from serving.api.json_io import read_message
from serving.event_store import EventStore, ItemChanges, ItemPatch
from serving.event_store.protocol import Connection
from serving.recommend.item_overrides import ItemOverrides
from serving.schemas.items import ItemsRequest, ItemUpdate


def add_item_routes(app: FastAPI, store: EventStore | None, overlay: ItemOverrides) -> None:
    """Give `app` the route that writes to `store` and to this process's `overlay`."""

    @app.patch("/v1/items", **openapi.ITEMS)
    async def patch(request: Request) -> Response:
        """Say that items are sold out or back, or cost something else; in effect at once."""
        patches = _patches((await read_message(request, ItemsRequest)).items)
        changes: list[ItemChanges] = []

        def write(connection: Connection) -> bytes:
            changes[:] = [connection.patch_items(patches, overlay.now.version, now())]
            return to_json({"updated": len(patches)})

        answer = await write_once(request, store, write)
        for change in changes:  # none where the answer was given before
            overlay.apply(change)
        return answer


def _patches(items: list[ItemUpdate]) -> list[ItemPatch]:
    """One per item; where it is named again, what is said later counts."""
    merged: dict[str, dict[str, Any]] = {}
    for item in items:
        merged.setdefault(item.item_id, {}).update(item.model_dump(include=item.model_fields_set))
    return [
        ItemPatch(i, "available" in said, said.get("available"), "price" in said, said.get("price"))
        for i, said in merged.items()
    ]
