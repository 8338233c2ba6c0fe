"""Dialect: what a file is, recognised from its first bytes: format, container, encoding, delimiter and header."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.common.errors import InputError
from features.sources.parsing.cells.pii import redact_text
from features.sources.parsing.text_files import chunks, containers, csv_header, encodings

Format = Literal["Parquet", "CSV", "JSON lines", "Excel", "XML"]

FORMATS: dict[str, Format] = {
    ".parquet": "Parquet", ".csv": "CSV", ".tsv": "CSV", ".tab": "CSV", ".txt": "CSV",
    ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON lines", ".xlsx": "Excel", ".xml": "XML",
}  # fmt: skip
PACKED = (".gz", ".zip", ".bz2", ".xz")
ERRORS = (*containers.ERRORS, ValueError, RuntimeError)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # .xls
_FOREIGN = {
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_PAGE = re.compile(
    rb"\s*(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|script|div|p|h1|meta)\b", re.I | re.S
)
_ARRAY = re.compile(r"\s*\[\s*(\{|\]|\[|\Z)")


@dataclass(frozen=True)
class Dialect:
    """How a file is read."""

    format: Format
    compression: tuple[containers.Compression, ...] = ()
    """The containers around it, from the outside."""
    encoding: str | None = None
    """Of a text file, as Python calls it."""
    delimiter: str | None = None
    """Of CSV."""
    header_row: int | None = None
    """The line of a CSV file that names the columns, from 1."""
    columns: tuple[str, ...] = ()
    """Of CSV: the header's names, each once."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out, for the person who has the file read."""
    header: csv_header.Header | None = None
    """Of CSV: where the rows begin and what shape they have."""


class EmptyFile(InputError):
    """A file without as much as a header."""


def recognise(
    path: Path, encoding: str | None = None, delimiter: str | None = None, one_column: bool = False
) -> Dialect:
    """Recognise what `path` is by its content, and by its name where that leaves it open.

    `one_column`: text that is named as none of `FORMATS` may be a table of one column.
    Raises `InputError` for a file that is missing, empty, no table, or of no format in `FORMATS`, and for an `encoding`
    or `delimiter` that cannot be one, and for a damaged container.
    """
    named = name_format(path)
    try:
        return _recognise(path, named, encoding, delimiter, one_column)
    except ERRORS as error:
        raise read_error(path, named or "a table", error) from error


def read_error(path: Path, kind: str, error: BaseException) -> InputError:
    """Describe why `path` cannot be read as `kind`."""
    why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, EOFError):
        why = "it is cut short"
    elif isinstance(error, containers.DAMAGE):
        why = "what packs it is damaged or cut short"
    ending = path.suffix or path.name
    return InputError(
        f"{path} cannot be read as {kind}: {redact_text(why)}. Is it complete, and is {ending} what it is?"
    )


def _recognise(
    path: Path, named: Format | None, encoding: str | None, delimiter: str | None, one_column: bool
) -> Dialect:
    with containers.open_bytes(path) as (file, compression):
        start = file.read(chunks.HEAD)
    if binary := _recognise_binary(path, start, named):
        return Dialect(binary, compression)
    text = next(chunks.read_blocks(path, chunks.HEAD, encoding), b"")
    if not text.strip():
        raise EmptyFile(f"{path} is empty: it has neither a header nor rows")
    if kind := _foreign_text(text):
        raise InputError(f"{path} is {kind}, not a table: was it saved in place of the export? Download it again")
    encoded = encodings.recognise(start, encoding)
    notes: list[str] = []
    name = encoded.name
    if encoded.by_line and not encodings.is_utf8(start[: start.rfind(b"\n") + 1] or start):
        name = "cp1252"
        notes += filter(None, [chunks.describe_guess(path)])
    if named != "JSON lines" and text.lstrip()[:1] == b"<" and (named == "XML" or _is_xml(text)):
        return Dialect("XML", compression, name)
    if named == "XML":
        raise InputError(f"{path} is named .xml, but does not begin as XML does")
    if named == "JSON lines" or _is_json(text):
        return Dialect("JSON lines", compression, name, notes=tuple(notes))
    header = csv_header.find(text, delimiter)
    if named is None and not header.is_table and not (one_column and len(header.names) == 1):
        raise InputError(
            f"{path}: cannot tell the format from {''.join(path.suffixes[-2:])!r} or from what is in it; expected one "
            f"of {', '.join(FORMATS)}, also with {', '.join(PACKED)}"
        )
    notes += [f"{path.name}: {redact_text(note)}" for note in header.notes]
    separator = header.grammar.separator.decode()
    return Dialect("CSV", compression, name, separator, header.row, header.names, tuple(notes), header)


def name_format(path: Path) -> Format | None:
    """The format by the name's ending, without those of containers; None where it names none.

    Raises `InputError` where `path` is no file.
    """
    if path.is_dir():
        raise InputError(f"{path} is a directory; name the files in it ({', '.join(FORMATS)})")
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def check_rows(path: Path, encoding: str | None = None) -> None:
    """Raise `InputError` for a JSON file that is not one object per line, with the command that makes it so."""
    text = next(chunks.read_blocks(path, chunks.HEAD, encoding), b"").decode(errors="replace")
    if _ARRAY.match(text):
        raise InputError(f"{path} is one JSON array; write one object per line (`jq -c '.[]'` does it)")
    if _is_spread(text):
        raise InputError(
            f"{path} is one JSON object over several lines; write one object per line (`jq -c .` does it, or "
            "`jq -c '.NAME[]'` where the rows are a list in it)"
        )


def _recognise_binary(path: Path, start: bytes, named: Format | None) -> Format | None:
    if not start:
        raise EmptyFile(f"{path} is empty: it has neither a header nor rows")
    if start.startswith(b"PAR1"):
        return "Parquet"
    if start.startswith((_OLE, containers.ZIP)):  # a zip file that is no workbook was opened
        return "Excel"
    kind = next((kind for magic, kind in _FOREIGN.items() if start.startswith(magic)), None)
    if kind is None and start[257:262] == b"ustar":
        kind = "a tar archive: unpack it first, it is"
    if kind:
        raise InputError(f"{path} is {kind}, not a table; export it as CSV, JSON lines, Parquet or xlsx")
    if named in ("Parquet", "Excel"):
        raise ValueError(f"it does not begin as {named} does")
    return None


def _foreign_text(text: bytes) -> str | None:
    return "a web page (HTML)" if _PAGE.match(text) else None


def _is_xml(text: bytes) -> bool:
    return re.match(rb"\s*(<\?xml\b|<rss\b|<feed\b)", text) is not None


def _is_json(text: bytes) -> bool:
    """Whether a file that is not named so is JSON lines, or one of the wrong shapes of which `check_rows` tells."""
    start = text.lstrip()
    if start[:1] not in (b"{", b"["):
        return False
    line = start.split(b"\n", 1)[0].decode(errors="replace")
    decoded = start.decode(errors="replace")
    return bool(_ARRAY.match(decoded)) or _is_object(line) or _is_spread(decoded)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_spread(text: str) -> bool:
    """Whether the text begins with a JSON object that goes over several lines."""
    start = text.lstrip()
    first = start.split("\n", 1)[0].strip()
    if not first.startswith("{") or _is_object(first):
        return False
    if first == "{":
        return True
    try:
        value, end = json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "\n" in start[:end]


def skip(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield what follows the first `size` bytes of `blocks`."""
    for block in blocks:
        if size < len(block):
            yield block[size:] if size else block
        size = max(0, size - len(block))
