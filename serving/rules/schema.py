"""Schema of a rules file: what each key may hold. Times and expressions are resolved in `rulebook`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from models.candidates.registry import GeneratorName
from serving.rules.expressions import MAX_EXPRESSION
from serving.schemas.filters import Filter
from serving.schemas.placements import MAX_LIMIT, PATTERN
from serving.schemas.recommendations import Id

MAX_RULES = 1_000
MAX_ITEM_IDS = 500

Action = Literal["boost", "bury", "pin", "hide", "share", "strategy"]
_LATER = ("content", "coupon")

_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Generators = Annotated[list[GeneratorName], Field(min_length=1)]


class _RulesPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ItemSelection(Filter):
    """Items of `item_ids`, where there are any, that pass the filter, where it has conditions."""

    item_ids: list[Id] = Field(default=[], max_length=MAX_ITEM_IDS)

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if not (self.item_ids or self.all or self.any or self.none):
            raise PydanticCustomError("no_items", "Write `item_ids`, or conditions in `all`, `any` or `none`")
        return self


class Pin(_RulesPart):
    """Items that stand from place `at` on, in this order."""

    item_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_LIMIT)]
    at: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 1


class StrategyChange(_RulesPart):
    """Keys of a placement that take the place of its own; placements.yml says what each means."""

    generators: _Generators | None = None
    ranked: bool | None = None
    diversity: _Part | None = None
    explore: _Part | None = None
    fill: _Generators | None = None

    @model_validator(mode="after")
    def _changes(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("no_change", "Write what changes: generators, ranked, diversity, explore or fill")
        if self.ranked is False and self.generators is None:
            raise PydanticCustomError(
                "no_generators", "`ranked: false` needs `generators`, whose scores order the items"
            )
        return self


class Do(_RulesPart):
    """What a rule does: exactly one of these."""

    boost: _Share | None = None
    """So much of the ranking an item moves up: by 0.3 of 100 places, 30."""
    bury: _Share | None = None
    """So much it moves down."""
    pin: Pin | None = None
    hide: Literal[True] | None = None
    """Shown to nobody whom the rule matches, on no path."""
    share: _Share | None = None
    """So many of the places of page one, at least, have these items."""
    strategy: StrategyChange | None = None

    @model_validator(mode="before")
    @classmethod
    def _comes_later(cls, value: object) -> object:
        for name in _LATER:
            if isinstance(value, dict) and name in value:
                raise PydanticCustomError("later", f"`{name}` is not supported by this version of the server")
        return value

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError(
                "one_action", "Write exactly one of boost, bury, pin, hide, share, strategy; one more is one more rule"
            )
        return self

    @property
    def action(self) -> Action:
        """The name of the action."""
        (name,) = self.model_fields_set
        return name  # type: ignore[return-value]


class RuleDefinition(_RulesPart):
    """One rule as it stands in the file."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
    """Lower case, unique in the file; answers, metrics and logs name the rule by it."""
    note: Annotated[str, Field(max_length=1_000)] | None = None
    """For people."""
    when: Annotated[str, Field(max_length=MAX_EXPRESSION)] | None = None
    """An expression (CEL) over visitor, context and now. Unset: always."""
    placements: Annotated[list[Annotated[str, Field(pattern=PATTERN, max_length=64)]], Field(min_length=1)] | None = (
        None
    )
    """Unset: all."""
    items: ItemSelection | None = None
    """Which items boost, bury, hide and share are about."""
    do: Do
    from_: str | None = Field(None, alias="from", max_length=64)
    """From this time on, in the file's zone."""
    until: str | None = Field(None, max_length=64)
    """Up to this time and no longer."""
    priority: Annotated[int, Field(ge=-1_000, le=1_000)] = 0
    """The higher wins where two rules want the same."""
    holdout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0
    """For this share of visitors the rule does nothing, so that its worth can be measured."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needs_items = self.do.action in ("boost", "bury", "hide", "share")
        if needs_items and self.items is None:
            raise PydanticCustomError("no_items", "This action needs `items`: which ones?")
        if not needs_items and self.items is not None:
            raise PydanticCustomError("items", "`items` has no meaning for this action; remove it")
        return self


class RulesFile(_RulesPart):
    """The whole file."""

    timezone: Annotated[str, Field(max_length=64)] = "UTC"
    """The shop's time zone, such as Europe/Berlin: of `from`, `until` and `now`."""
    salt: Annotated[str, Field(max_length=64, pattern=r"^[!-~]*$")] = "usual"
    """Another one puts other visitors into the holdouts."""
    rules: Annotated[list[RuleDefinition], Field(max_length=MAX_RULES)] = []


def describe_action(do: Do) -> dict[str, Any]:
    """Return the action as JSON, without what is not set."""
    return do.model_dump(exclude_none=True)
