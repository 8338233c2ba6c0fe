"""Placements: where a shop shows products and what each place shows; placements.yml documents every key."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from features.common import yaml_config
from models.candidates.registry import GeneratorName

DEFAULT = Path(__file__).parents[1] / "placements.yml"
RERANK = "search.rerank"
PATTERN = r"^[a-z0-9_]+(\.[a-z0-9_]+)*$"
MAX_LIMIT = 100

About = Literal["visitor", "context", "cart", "nothing"]
Needs = Literal["items", "cart", "category"]
LeftOut = Literal["context", "cart", "cart_categories", "bought"]
Share = Annotated[float, Field(ge=0, le=1)]


class Placement(BaseModel):
    """One placement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: About = "visitor"
    generators: Annotated[tuple[GeneratorName, ...], Field(min_length=1)] | None = None
    ranked: bool = True
    needs: Needs | None = None
    within: Literal["category"] | None = None
    leave_out: tuple[LeftOut, ...] = ()
    bought_days: Annotated[float, Field(ge=0, le=3650)] = 0
    cool_down_hours: Annotated[float, Field(ge=0, le=24 * 90)] = 0
    diversity: Share = 0
    explore: Share = 0
    fill: tuple[GeneratorName, ...] = ("popular",)
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 12
    most: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = MAX_LIMIT

    @model_validator(mode="after")
    def _check(self) -> "Placement":
        if not self.ranked and self.generators is None:
            raise ValueError("`ranked: false` needs `generators`, whose scores order the items")
        if self.within == "category" and self.needs != "category":
            raise ValueError("`within: category` needs `needs: category`")
        if self.limit > self.most:
            raise ValueError("`limit` is more than `most`")
        return self


class Placements(RootModel[dict[Annotated[str, Field(pattern=PATTERN, max_length=64)], Placement]]):
    """The file: placements by name."""

    @model_validator(mode="after")
    def _check(self) -> "Placements":
        if RERANK not in self.root:
            raise ValueError(f"{RERANK} is missing; POST /v1/rerank answers with it")
        return self


def read(path: Path | None = None) -> dict[str, Placement]:
    """The placements in the file at `path`, or the default ones. Raises `InputError` naming the wrong keys."""
    return yaml_config.load_yaml(path or DEFAULT, Placements, "the placements").root
