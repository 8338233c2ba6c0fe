"""Inputs: what a command reads and how, as texts that the event log keeps digests of."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from features.common.errors import InputError
from features.event_log.ingestion.ingest import Inputs
from features.sources import presets
from features.sources.parsing.mapping.mapping import read_yaml
from features.sources.simulator.config import SimulatorConfig
from features.sources.source import SourceName

_HEAD = 1 << 16  # bytes


def describe_inputs(
    source: SourceName | str,
    paths: Sequence[Path] = (),
    mapping: Path | None = None,
    preset: str | None = None,
    table: str | None = None,
    query_file: Path | None = None,
    config: SimulatorConfig | None = None,
) -> Inputs | None:
    """Describe the files of a command and how they are read; None where one of them does not exist.

    The arguments are those of `sources.read`.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    files = [file for file in files if not file.is_dir()]
    if not all(file.is_file() for file in files):
        return None  # the reader says which
    how = {"mapping": _load(mapping), "preset": _load_preset(preset)} | (config.model_dump() if config else {})
    text = json.dumps({key: value for key, value in how.items() if value is not None}, sort_keys=True, default=str)
    name = presets.find_preset(preset).source if preset else source
    place = query_file.name if query_file else table or ""
    return Inputs(name, files, text, [_describe_columns(file) for file in files], place)


def stated_currency(mapping: Path | None, preset: str | None = None) -> tuple[str | None, dict[str, float]]:
    """The currency of the log and the rates that a mapping or preset states."""
    stated: dict[str, Any] = {**(_load_preset(preset) or {}), **(_load(mapping) or {})}
    rates = stated.get("rates")
    code = stated.get("currency")
    return (str(code) if code else None), ({str(c): r for c, r in rates.items()} if isinstance(rates, dict) else {})


def merge_currency(
    mapping: tuple[str | None, Mapping[str, float]], option: str | None, rates: Sequence[str]
) -> tuple[str | None, dict[str, float]]:
    """The currency and rates of a mapping with those of the command line, `rates` as USD=0.92.

    Raises `InputError` where the two contradict each other, and for a rate that is none.
    """
    code, merged = mapping[0], dict(mapping[1])
    if code and option and code.upper() != option.upper():
        raise InputError(f"the mapping is in {code}, --currency says {option}; a log has one currency: keep one")
    for text in rates:
        name, _, value = text.partition("=")
        try:
            merged[name.strip()] = float(value)
        except ValueError:
            raise InputError(
                f"--rate {text}: write it as USD=0.92, what 1 USD is worth in the log's currency"
            ) from None
    return option or code, merged


def _load(mapping: Path | None) -> dict[str, Any] | None:
    """The content of a mapping, without its comments and order of keys; the reader says what is wrong with it."""
    if mapping is None:
        return None
    try:
        content = read_yaml(mapping)
    except InputError:
        return None
    return _name_keys(content) if isinstance(content, dict) else {}


def _name_keys(content: Any) -> Any:
    """`content` with texts as keys, as a number may be a shop's name for an event."""
    if isinstance(content, dict):
        return {str(key): _name_keys(value) for key, value in content.items()}
    return [_name_keys(value) for value in content] if isinstance(content, list) else content


def _load_preset(preset: str | None) -> dict[str, Any] | None:
    if preset is None or presets.find_preset(preset).source != "events":
        return None
    return _load(presets.preset_path(preset))


def _describe_columns(file: Path) -> str | None:
    """A text of a file's columns, from its first bytes; None where they do not tell."""
    try:
        if file.suffix.lower() == ".parquet":
            return "\n".join(pl.read_parquet_schema(file))
        with file.open("rb") as raw:
            head = raw.read(_HEAD)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(file) as packed:
                head = packed.read(_HEAD)
    except (OSError, EOFError, pl.exceptions.PolarsError):
        return None
    line = head.splitlines()[0].strip() if head.strip() else b""
    if line.startswith(b"{"):
        try:
            return "\n".join(sorted(json.loads(line)))
        except ValueError:
            return None
    if line.startswith(b"PK") or not line or len(line) == _HEAD:
        return None
    return line.decode("utf-8", errors="replace").removeprefix("\ufeff")
