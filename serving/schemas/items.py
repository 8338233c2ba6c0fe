"""Messages of `PATCH /v1/items`."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from serving.schemas.events import Amount, RequiredItemId

MAX_ITEMS = 1000

_EXAMPLE: dict[str, Any] = {
    "items": [
        {"item_id": "p1", "available": False},
        {"item_id": "p2", "available": True, "price": 24.95},
        {"item_id": "p3", "price": None},
    ]
}


def _reject_text(value: object) -> object:
    if isinstance(value, str | bool):
        raise PydanticCustomError("price", "A price is a number")
    return value


class ItemUpdate(BaseModel):
    """What is new of an item. A field that is not there stays as it is; null: the snapshot counts again."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    item_id: RequiredItemId
    available: StrictBool | None = None
    """False: it is in no answer."""
    price: Annotated[Amount | None, BeforeValidator(_reject_text)] = None
    """Of one piece, net of discount."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> "ItemUpdate":
        if len(self.model_fields_set) < 2:
            raise PydanticCustomError("nothing", "Give `available` or `price`, or both")
        return self


class ItemsRequest(BaseModel):
    """1–1,000 items. All of them are taken over, or none."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    items: list[ItemUpdate] = Field(min_length=1, max_length=MAX_ITEMS)


class ItemsResponse(BaseModel):
    """How many items were updated: on disk, in effect where this was answered, and everywhere within a second."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"updated": 3}]})

    updated: int
