"""`PATCH /v1/items`: overrides of availability and price between two snapshots, without retraining."""

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from features.common import clock
from serving.api import openapi
from serving.api.idempotency import write_once
from serving.api.json_io import read_message
from serving.event_store import EventStore, ItemChanges, ItemPatch
from serving.event_store.protocol import Connection
from serving.recommend.item_overrides import ItemOverrides
from serving.schemas.items import ItemsRequest, ItemUpdate


def add_item_routes(app: FastAPI, store: EventStore | None, overrides: ItemOverrides) -> None:
    """Add /v1/items to `app`: it writes to `store` and applies the change to this process's `overrides`."""

    @app.patch("/v1/items", **openapi.ITEMS)
    async def patch(request: Request) -> Response:
        """Say that items are sold out or back, or cost something else; in effect at once."""
        patches = _merge_patches((await read_message(request, ItemsRequest)).items)
        changes: list[ItemChanges] = []

        def write(connection: Connection) -> bytes:
            changes[:] = [connection.patch_items(patches, overrides.state.version, clock.now())]
            return to_json({"updated": len(patches)})

        response = await write_once(request, store, write)
        for change in changes:  # none where an earlier response is repeated
            overrides.apply(change)
        return response


def _merge_patches(items: list[ItemUpdate]) -> list[ItemPatch]:
    """Return one patch per item; where an item is listed twice, the later value of a field wins."""
    merged: dict[str, dict[str, Any]] = {}
    for item in items:
        merged.setdefault(item.item_id, {}).update(item.model_dump(include=item.model_fields_set))
    return [
        ItemPatch(item_id, "available" in fields, fields.get("available"), "price" in fields, fields.get("price"))
        for item_id, fields in merged.items()
    ]
