"""What a source is: its name, the options it takes, and the function that reads it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from features.event_log.ingestion.ingest import ParsedBatch
from features.sources.simulator.config import SimulatorConfig

SourceName = Literal[
    "events",
    "postgres",
    "sql",
    "ga4",
    "segment",
    "rees46",
    "retailrocket",
    "instacart",
    "diginetica",
    "dunnhumby",
    "online-retail",
    "simulated",
    "store",
]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)
OptionName = Literal["mapping", "config", "table", "query_file", "watermark"]


@dataclass(frozen=True)
class SourceOptions:
    """The options of all sources; None where an option was not given."""

    mapping: Path | None = None
    config: SimulatorConfig | None = None
    table: str | None = None
    query_file: Path | None = None
    watermark: str | None = None
    log: Path | None = None  # where the events go; it knows how far a watermark has come


@dataclass(frozen=True)
class Source:
    """A format or place that events come from; each source module declares one as `SOURCE`.

    `read` takes the files and options; it yields one `ParsedBatch` per batch of rows, read as they are asked for.
    `options` maps each option that the source takes to its help text.
    """

    name: SourceName
    description: str
    read: Callable[[Sequence[Path], SourceOptions], Iterator[ParsedBatch]]
    options: Mapping[OptionName, str] = field(default_factory=dict)
    reads_files: bool = True
