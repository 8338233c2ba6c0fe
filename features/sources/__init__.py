"""Outside formats in, event log and catalog out. One file per format; `read` finds it by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from features.errors import InputError
from features.ingest import Parsed
from features.sources import events_file, online_retail, simulated
from features.sources.simulated import SimulatorConfig

SourceName = Literal["online-retail", "events", "simulated"]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)


def read(
    name: SourceName | str,
    paths: Sequence[Path] = (),
    mapping: Path | None = None,
    config: SimulatorConfig | None = None,
) -> Iterator[Parsed]:
    """What the source `name` makes of `paths`, one `Parsed` per file, read as they are asked for.

    `mapping` is for `events`, `config` for `simulated`, which reads no files. Raises `InputError` at
    once for an unknown name or arguments that do not go with it.
    """
    if name not in SOURCES:
        raise InputError(f"unknown source {name!r}; there are {', '.join(SOURCES)}")
    if mapping and name != "events":
        raise InputError(f"a mapping goes with the source `events`, not {name!r}; leave it out")
    if config and name != "simulated":
        raise InputError(f"simulator settings go with the source `simulated`, not {name!r}; leave them out")
    if name == "simulated":
        if paths:
            raise InputError(f"the source `simulated` reads no files; leave out {paths[0]}")
        return simulated.read(config or SimulatorConfig())
    if not paths:
        raise InputError(f"the source {name!r} reads files; name at least one")
    return online_retail.read(paths) if name == "online-retail" else events_file.read(paths, mapping)
