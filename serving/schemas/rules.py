"""Messages of `GET /v1/rules` and `POST /v1/rules/preview`."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serving.schemas.placements import MAX_LIMIT, PATTERN
from serving.schemas.recommendations import Exclude, VisitorRequest

_DRAFT = "rules:\n  - id: own-brand\n    items: {all: [{field: brand, op: '==', value: Own}]}\n    do: {boost: 0.3}\n"


class RulesPreviewRequest(VisitorRequest):
    """For whom, where and when to compare a placement with and without rules."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer_id": "u_91", "rules": _DRAFT}]})

    placement: str = Field("home.for_you", max_length=64, pattern=PATTERN)
    limit: int | None = Field(None, ge=1, le=MAX_LIMIT)
    exclude: Exclude = Field(default_factory=Exclude)
    rules: Annotated[str, Field(max_length=500_000)] | None = None
    """A rules file to try, as text. Unset: the rules that are followed."""
    at: Annotated[str, Field(max_length=40)] | None = None
    """As if it were then, by the clock of the rules; what the visitor did and the catalog stay as they are."""


class PreviewItem(BaseModel):
    """A product of a previewed list; `rules`: what moved it."""

    item_id: str
    title: str | None
    rank: int
    rules: list[dict[str, Any]]


class RuleOutcome(BaseModel):
    """A rule in a preview: whether it acts, and if not, which part of it does not hold."""

    id: str
    action: str
    matched: bool
    why: str | None


class RulesPreviewResponse(BaseModel):
    """Both lists side by side, and every rule by precedence."""

    model_config = ConfigDict(populate_by_name=True)

    placement: str
    at: str
    without_rules: list[PreviewItem]
    with_rules: list[PreviewItem]
    rules: list[RuleOutcome]


class RuleDescription(BaseModel):
    """A rule that is followed; `active`: its schedule holds now."""

    model_config = ConfigDict(extra="allow")

    id: str
    action: str
    scope: str
    line: int
    active: bool


class RulesDescription(BaseModel):
    """The rules that are followed, by precedence; `problem`: why the file is not, if it is not."""

    file: str | None
    timezone: str
    digest: str
    loaded_at: str | None
    problem: str | None
    rules: list[RuleDescription]
