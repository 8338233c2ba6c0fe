"""Column mapping: which of a shop's columns and event names are which of the event log's, written as YAML."""

from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict

from features.common import yaml_config
from features.common.errors import InputError
from features.event_log.schema import EVENT_SCHEMA, LinkKind

MAPPING_HELP = "YAML that maps your columns to ours."  # of the option, in all sources that take it


def _event_column(name: str) -> str:
    if name not in EVENT_SCHEMA:
        raise ValueError(f"no such event column; there are {', '.join(EVENT_SCHEMA)}")
    return name


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no such time zone; write it as Europe/Berlin")
    return name


class Mapping(BaseModel):
    """Which of a shop's columns, constants and names are which of the event log's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[Annotated[str, AfterValidator(_event_column)], str] = {}
    """Event column → the file's column. Others are read under their own name."""
    constants: dict[Annotated[str, AfterValidator(_event_column)], str | bool | int | float] = {}
    """Event column → the value of every row, whatever the file says."""
    names: dict[str, str] = {}
    """The file's event names → the log's. Others are kept as they are."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """IANA zone of times written without an offset."""
    catalog: Path | None = None
    """Products, as a file in the catalog's columns; relative to the mapping's directory."""
    email: str | None = None
    """The file's column with the customer's e-mail address, of which only a salted hash is kept."""
    payment_token: str | None = None
    """The file's column with what names a card or account to the shop; only a salted hash is kept."""

    @property
    def secrets(self) -> dict[LinkKind, str]:
        """Kind of token → the file's column that holds it."""
        columns: dict[LinkKind, str | None] = {"email": self.email, "payment": self.payment_token}
        return {kind: column for kind, column in columns.items() if column is not None}

    @classmethod
    def load(cls, path: Path) -> "Mapping":
        """Read a mapping. Raises `InputError` that names the file and the key at fault."""
        mapping = yaml_config.load_yaml(path, cls, "the mapping")
        if doubled := sorted(mapping.columns.keys() & mapping.constants.keys()):
            raise InputError(f"the mapping {path} names {', '.join(doubled)} as column and as constant; keep one")
        stored = {theirs: ours for ours, theirs in mapping.columns.items()}
        if plain := sorted(set(mapping.secrets.values()) & (stored.keys() | set(EVENT_SCHEMA))):
            raise InputError(
                f"the mapping {path} would keep {', '.join(plain)}, an e-mail address or payment token, as "
                f"{', '.join(stored.get(c, c) for c in plain)}; only its hash may be kept: name another column"
            )
        return mapping if mapping.catalog is None else mapping.model_copy(
            update={"catalog": path.parent / mapping.catalog}
        )  # fmt: skip
