"""Sources: other systems' formats in, batches of events, catalog rows and identity links out.

One module per source, each of which declares its `SOURCE`: name, options, and how it is read. `read` finds a source
by its name; `option_help` says which sources take an option. To add a source, open `rees46.py`, the simplest, add a
module like it, its name to `SourceName` in `source.py` and its `SOURCE` below. What sources share is in `parsing/`;
`simulator/` is a shop that does not exist.

May import `features.common` and `features.event_log`.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.sources import (
    diginetica,
    dunnhumby,
    event_store,
    events_file,
    ga4,
    instacart,
    online_retail,
    postgres,
    presets,
    rees46,
    retailrocket,
    segment,
    simulated,
    sql,
)
from features.sources.parsing.cells import pii
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import readers
from features.sources.simulator.config import SimulatorConfig as SimulatorConfig
from features.sources.source import SOURCES as SOURCES
from features.sources.source import OptionName, Source, SourceOptions
from features.sources.source import SourceName as SourceName

REGISTRY: dict[str, Source] = {
    source.name: source
    for source in (
        events_file.SOURCE,
        postgres.SOURCE,
        sql.SOURCE,
        ga4.SOURCE,
        segment.SOURCE,
        rees46.SOURCE,
        retailrocket.SOURCE,
        instacart.SOURCE,
        diginetica.SOURCE,
        dunnhumby.SOURCE,
        online_retail.SOURCE,
        simulated.SOURCE,
        event_store.SOURCE,
    )
}

# How messages refer to each option: what goes with its sources, and the pronoun for it.
_WORDING: dict[OptionName, tuple[str, str]] = {
    "mapping": ("a mapping goes", "it"),
    "config": ("simulator settings go", "them"),
    "table": ("a table or query goes", "it"),
    "query_file": ("a table or query goes", "it"),
    "watermark": ("a watermark goes", "it"),
}


def read(
    name: SourceName | str,
    paths: Sequence[Path] = (),
    mapping: Path | None = None,
    config: SimulatorConfig | None = None,
    table: str | None = None,
    query_file: Path | None = None,
    watermark: str | None = None,
    log: Path | None = None,
    preset: str | None = None,
) -> Iterator[ParsedBatch]:
    """Read the source `name`: one `ParsedBatch` per batch of rows of `paths`, read as they are asked for.

    The other arguments are the options of sources, see the `options` of each `Source` in `REGISTRY`, and `log`, the
    event log that the batches will be added to. A `preset` of the source `events` is the mapping of a well-known
    export, of which `mapping` may change some keys, or another source that reads it. Raises `InputError` at once for
    an unknown name, for an option that the source does not take, and for files where it reads none or none where it
    reads some.
    """
    if name not in REGISTRY:
        raise InputError(f"unknown source {name!r}; there are {', '.join(SOURCES)}")
    if preset is not None:
        if name != "events":
            raise InputError(f"a preset goes with the source events, not {name!r}; write `usual ingest events FILE`")
        name = presets.find_preset(preset).source
    source = REGISTRY[name]
    options = SourceOptions(
        mapping=mapping, config=config, table=table, query_file=query_file, watermark=watermark, log=log
    )
    for option, (goes, it) in _WORDING.items():
        if getattr(options, option) and option not in source.options:
            takers = sources_with(option)
            which = f"the source{'s' if len(takers) > 1 else ''} {' and '.join(f'`{taker}`' for taker in takers)}"
            raise InputError(f"{goes} with {which}, not {name!r}; leave {it} out")
    if paths and not source.reads_files:
        raise InputError(f"the source `{name}` reads no files; leave out {paths[0]}")
    if source.reads_files and not paths:
        raise InputError(f"the source {name!r} reads files; name at least one")
    if name == "events" and preset is not None:
        batches = events_file.read(paths, presets.load_preset(preset, mapping))
    else:
        batches = source.read(paths, options)
    return _with_suggestion(batches, paths, preset, name == "events") if paths else batches


def _with_suggestion(
    batches: Iterator[ParsedBatch], paths: Sequence[Path], preset: str | None, any_preset: bool
) -> Iterator[ParsedBatch]:
    """Yield `batches`; where files cannot be read, name the preset that fits them and how to look at them."""
    try:
        yield from batches
    except InputError as error:
        hints = [presets.suggest(paths, preset)] if any_preset or preset is not None else []
        at = [error.path] if isinstance(error, ColumnsError) and error.path is not None else paths
        hints.append(_suggest_inspection(at, str(error)))
        hints = list(filter(None, hints))
        if not hints:
            raise
        if isinstance(error, ColumnsError):
            raise error.with_advice(*hints) from error
        text = str(error).rstrip(".")
        raise InputError(f"{text}{'' if text.endswith('?') else '.'} {'. '.join(hints)}") from error


def _suggest_inspection(paths: Sequence[Path], error: str) -> str:
    """Say how to look at the files; empty where that would end as reading them did."""
    if any(words in error for words in ("usual inspect", "does not exist", pii.SALT)):
        return ""
    try:
        for path in paths:
            readers.recognise(path)
    except InputError:
        return ""
    return f"`usual inspect {' '.join(shlex.quote(str(p)) for p in paths)}` shows what is in it and proposes a mapping"


def sources_with(option: OptionName) -> tuple[SourceName, ...]:
    """The names of the sources that take `option`."""
    return tuple(source.name for source in REGISTRY.values() if option in source.options)


def option_help(option: OptionName) -> str:
    """Help text of `option` for a command line: the sources that take it, and what it is."""
    takers = sources_with(option)
    return f"{', '.join(f'`{taker}`' for taker in takers)}: {REGISTRY[takers[0]].options[option]}"
