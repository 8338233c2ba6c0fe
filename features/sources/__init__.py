"""Outside formats in, event log and catalog out. One file per format; `read` finds it by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from features.common.errors import InputError
from features.event_log.ingest import Parsed
from features.sources import event_store, events_file, ga4, online_retail, postgres, rees46, retailrocket, segment
from features.sources.simulator import shop
from features.sources.simulator.shop import SimulatorConfig

SourceName = Literal[
    "events", "postgres", "ga4", "segment", "rees46", "retailrocket", "online-retail", "simulated", "store"
]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)

_FILES = {
    "ga4": ga4.read,
    "segment": segment.read,
    "rees46": rees46.read,
    "retailrocket": retailrocket.read,
    "online-retail": online_retail.read,
}


def read(
    name: SourceName | str,
    paths: Sequence[Path] = (),
    mapping: Path | None = None,
    config: SimulatorConfig | None = None,
    table: str | None = None,
    query_file: Path | None = None,
) -> Iterator[Parsed]:
    """What the source `name` makes of `paths`, one `Parsed` per batch of rows, read as they are asked for.

    `mapping` is for `events` and `postgres`, `table` or `query_file` for `postgres`, `config` for
    `simulated`; these two and `store` read no files. Raises `InputError` at once for an unknown name or arguments
    that do not go with it.
    """
    if name not in SOURCES:
        raise InputError(f"unknown source {name!r}; there are {', '.join(SOURCES)}")
    if mapping and name not in ("events", "postgres"):
        raise InputError(f"a mapping goes with the sources `events` and `postgres`, not {name!r}; leave it out")
    if config and name != "simulated":
        raise InputError(f"simulator settings go with the source `simulated`, not {name!r}; leave them out")
    if (table or query_file) and name != "postgres":
        raise InputError(f"a table or query goes with the source `postgres`, not {name!r}; leave it out")
    if name in ("simulated", "postgres", "store"):
        if paths:
            raise InputError(f"the source `{name}` reads no files; leave out {paths[0]}")
        if name == "simulated":
            return shop.read(config or SimulatorConfig())
        if name == "store":
            return event_store.read()
        return postgres.read(table, query_file, mapping)
    if not paths:
        raise InputError(f"the source {name!r} reads files; name at least one")
    return events_file.read(paths, mapping) if name == "events" else _FILES[name](paths)
