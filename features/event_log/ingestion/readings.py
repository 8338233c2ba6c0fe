"""Readings: which files a log was made from, under which mapping, and which rows each reading gave.

log.json keeps one entry per file under `sources`: its name, size, the digest of its content, and the digest of its
mapping. A reading is what can be taken back as a whole: one file, or several that were read together because rows
depend on more than one of them. Each row of the log has a code, `schema.ORIGIN`, that stands for the set of readings
that gave it, as log.json lists them under `origins`; so a file can be read anew under a corrected mapping.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from features.common.counts import count
from features.common.errors import InputError

Reread = Literal["replace", "add"]
_HEX = 32


@dataclass(frozen=True)
class Inputs:
    """What one command reads: `files`, or of a source without files the `place`, such as a table's name.

    `mapping` is a text that is equal where the same source reads the same file in the same way. `columns` has for each
    file a text of its columns, equal for files of one layout, or None where that is unknown.
    """

    source: str
    files: Sequence[Path] = ()
    mapping: str = ""
    columns: Sequence[str | None] = ()
    place: str = ""


@dataclass(frozen=True)
class SourceEntry:
    """One of the `sources` of log.json. `rows` is None for a file that was read together with others."""

    file: str
    source: str
    mapping: str  # digest
    reading: int
    digest: str | None = None  # of the content; None for a source without files
    bytes: int | None = None
    rows: int | None = None
    columns: str | None = None  # digest

    def has_content_of(self, other: "SourceEntry") -> bool:
        """Whether both are the same content; of a source without files, the same table or query."""
        if self.digest or other.digest:
            return self.digest == other.digest
        return (self.file, self.source) == (other.file, other.source)

    def is_reading_of(self, other: "SourceEntry") -> bool:
        """Whether both are the same content, read in the same way."""
        return self.has_content_of(other) and self.is_read_as(other)

    def is_read_as(self, other: "SourceEntry") -> bool:
        """Whether both are read in the same way."""
        return (self.source, self.mapping) == (other.source, other.mapping)


class Origins:
    """The sets of readings that gave rows, by code. Codes are kept for the life of the log."""

    def __init__(self, stored: Mapping[str, Sequence[int]]) -> None:
        self._sets = {int(code): frozenset(readings) for code, readings in stored.items()}
        self._codes = {readings: code for code, readings in self._sets.items()}

    def code(self, readings: Iterable[int]) -> int:
        """The code of a set of readings."""
        wanted = frozenset(readings)
        if wanted not in self._codes:
            code = max(self._sets, default=0) + 1
            self._sets[code], self._codes[wanted] = wanted, code
        return self._codes[wanted]

    def union(self, codes: Iterable[int | None]) -> int | None:
        """The code of all readings that any of `codes` stands for."""
        readings = {reading for code in codes if code is not None for reading in self._sets.get(code, ())}
        return self.code(readings) if readings else None

    def without(self, readings: frozenset[int]) -> dict[int, int | None]:
        """For each set that any of `readings` is in: its code → that of the rest, None where nothing is left."""
        rests = {code: members - readings for code, members in self._sets.items() if members & readings}
        return {code: self.code(rest) if rest else None for code, rest in rests.items()}

    def as_dict(self, used: Iterable[int]) -> dict[str, list[int]]:
        """The sets of the codes that are `used`, for log.json."""
        return {str(code): sorted(self._sets[code]) for code in sorted(set(used) & self._sets.keys())}


@dataclass
class Readings:
    """The sources of a log while one command adds its own: digests are computed beside the reading.

    A context: leaving it waits for the thread that computes them.
    """

    inputs: Inputs | None
    before: list[SourceEntry]
    notes: list[str] = field(default_factory=list)
    removed: frozenset[int] = frozenset()
    _rows: dict[int | None, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        files = self.inputs.files if self.inputs else ()
        sizes = {entry.bytes for entry in self.before}
        # Files that may be in the log already. Their digests are needed before anything is read.
        self._suspects = [i for i, file in enumerate(files) if file.stat().st_size in sizes]
        self._digests: list[Future[str]] = [self._pool.submit(digest_file, file) for file in files]
        self._next = max((entry.reading for entry in self.before), default=0) + 1

    def __enter__(self) -> "Readings":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def check(self, reread: Reread | None, out: Path) -> None:
        """Find files that the log has under another mapping; `reread` says what is to be done with them.

        Raises `InputError` where nothing is said, and where a file cannot be taken back without others that are
        missing here.
        """
        if not self.inputs:
            return
        numbers: list[int | None] = [*range(len(self.inputs.files))] or [None]
        clashes = [(i, entry) for i in numbers for entry in self._clashes(i)]
        self._note_layouts({i for i, _ in clashes})
        if not clashes:
            return
        if reread is None:
            raise InputError(_describe_clash(self.inputs, clashes, out))
        if reread == "replace":
            readings = frozenset(entry.reading for _, entry in clashes)
            here = {entry.digest for _, entry in clashes} | {self._digests[i].result() for i in self._suspects}
            together = [e for e in self.before if e.reading in readings and e.digest and e.digest not in here]
            if together:
                raise InputError(
                    f"{clashes[0][1].file} was read together with {', '.join(sorted({e.file for e in together}))}; "
                    "to replace what that reading gave, name all of them in this command"
                )
            self.removed = readings

    def _clashes(self, nth: int | None) -> list[SourceEntry]:
        """The entries of the same content as file `nth` under other mappings, unless it is there under this one too.

        Of a source without files the content is a table or query of the same name.
        """
        if nth is None and not (self.inputs and self.inputs.place):
            return []
        new = self._digested(nth) if nth in self._suspects else self._entry(nth)
        same = [e for e in self.before if e.has_content_of(new)] if new.digest or nth is None else []
        if any(entry.is_reading_of(new) for entry in same):
            return []
        return same + ([] if nth is None else self._grown(nth, new))

    def _grown(self, nth: int, new: SourceEntry) -> list[SourceEntry]:
        """The entries that file `nth` continues: their content stands at its beginning."""
        assert self.inputs  # noqa: S101  the caller has looked
        size = new.bytes or 0
        older = [e for e in self.before if e.columns and e.columns == new.columns and e.bytes and e.bytes < size]
        if all(entry.is_read_as(new) for entry in older):
            return []
        prefixes = digest_prefixes(self.inputs.files[nth], {entry.bytes or 0 for entry in older})
        continued = [entry for entry in older if prefixes.get(entry.bytes or 0) == entry.digest]
        return [] if any(entry.is_read_as(new) for entry in continued) else continued

    def _note_layouts(self, clashing: set[int | None]) -> None:
        assert self.inputs  # noqa: S101  the caller has looked
        known = {(e.columns, e.mapping, e.source) for e in self.before}
        for i, file in enumerate(self.inputs.files):
            new = self._entry(i)
            others = [e for e in self.before if e.columns == new.columns and e.mapping != new.mapping]
            if not new.columns or not others or i in clashing or (new.columns, new.mapping, new.source) in known:
                continue
            self.notes.append(
                f"{file.name} has the columns of {others[-1].file}, which this log read under another mapping; if it "
                "holds the same rows, as a newer export of the same table does, they count twice now. Ingest all "
                "files into a new log under one mapping then"
            )

    def name_of(self, path: Path | None) -> str:
        """What messages call a file, or the source where the file is not known."""
        if not self.inputs:
            return path.name if path else "the input"
        number = self._number(path)
        if number is None:
            return self.inputs.place or self.inputs.source
        return self.inputs.files[number].name

    def count(self, path: Path | None, rows: int) -> None:
        """Note that `rows` were read from this file, or from several together."""
        if rows:
            number = self._number(path)
            self._rows[number] = self._rows.get(number, 0) + rows

    def reading_of(self, path: Path | None) -> int | None:
        """The number of the reading that rows of this file belong to; None of all files together."""
        return self._reading(self._number(path)) if self.inputs else None

    def _number(self, path: Path | None) -> int | None:
        files = list(self.inputs.files) if self.inputs else []
        if len(files) == 1:
            return 0
        return files.index(path) if path in files else None

    def _reading(self, file: int | None) -> int:
        assert self.inputs  # noqa: S101  the caller has looked
        files = range(len(self.inputs.files))
        chosen = files if file is None else [file]
        if not {*chosen} <= {*self._suspects}:
            return self._next + (len(files) if file is None else file)
        # The same content read in the same way is the same reading.
        known = [e for e in self.before if e.reading not in self.removed]
        places: list[int | None] = [*chosen] or [None]
        common = [{e.reading for e in known if e.is_reading_of(self._digested(i))} for i in places]
        same = set.intersection(*common)
        return min(same) if same else self._next + (len(files) if file is None else file)

    def after(self) -> list[SourceEntry]:
        """The sources of the log after this command."""
        remaining = [entry for entry in self.before if entry.reading not in self.removed]
        if not self.inputs:
            return remaining
        files = len(self.inputs.files)
        if not files:
            place = replace(self._entry(None), reading=self._reading(None), rows=self._rows.get(None, 0))
            return [*(entry for entry in remaining if not entry.is_reading_of(place)), place]
        for i in range(files):
            alone = files == 1 or i in self._rows
            units: list[int | None] = [i] if alone else []
            if files > 1 and (not alone or None in self._rows):
                units.append(None)
            for file in units:
                rows = sum(self._rows.values()) if files == 1 else self._rows.get(i) if file is not None else None
                new = replace(self._digested(i), reading=self._reading(file), rows=rows)
                if not any(entry.is_reading_of(new) and entry.reading == new.reading for entry in remaining):
                    remaining.append(new)
        return remaining

    def _digested(self, nth: int | None) -> SourceEntry:
        entry = self._entry(nth)
        return entry if nth is None else replace(entry, digest=self._digests[nth].result())

    def _entry(self, nth: int | None) -> SourceEntry:
        assert self.inputs  # noqa: S101  the caller has looked
        mapping = digest_text(self.inputs.mapping)
        if nth is None:
            return SourceEntry(self.inputs.place or self.inputs.source, self.inputs.source, mapping, 0)
        file = self.inputs.files[nth]
        columns = self.inputs.columns[nth] if nth < len(self.inputs.columns) else None
        layout = digest_text(columns) if columns else None
        return SourceEntry(file.name, self.inputs.source, mapping, 0, None, file.stat().st_size, columns=layout)


def load_sources(info: Mapping[str, Any]) -> list[SourceEntry]:
    """The entries that a log.json has."""
    return [SourceEntry(**entry) for entry in info.get("sources", [])]


def dump_sources(entries: Iterable[SourceEntry]) -> list[dict[str, Any]]:
    """Entries as log.json has them."""
    return [asdict(entry) for entry in entries]


def digest_file(path: Path) -> str:
    """32 hex digits of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_HEX]


def digest_prefixes(path: Path, lengths: Iterable[int]) -> dict[int, str]:
    """The digests of the first bytes of a file, for several numbers of bytes."""
    digests, digest, done = dict[int, str](), hashlib.sha256(), 0
    with path.open("rb") as file:
        for length in sorted(lengths):
            while done < length and (block := file.read(min(length - done, 1 << 20))):
                digest.update(block)
                done += len(block)
            digests[length] = digest.hexdigest()[:_HEX]
    return digests


def digest_text(text: str) -> str:
    """32 hex digits of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX]


def _describe_clash(inputs: Inputs, clashes: Sequence[tuple[int | None, SourceEntry]], out: Path) -> str:
    lines = []
    for i, entry in clashes[:5]:
        rows = f"{count(entry.rows, 'row')} of " if entry.rows is not None else ""
        if entry.source != inputs.source:
            how = f"by the source `{entry.source}`, not `{inputs.source}`"
        else:
            how = "under another mapping" if inputs.mapping else "under a mapping, and there is none now"
        name = str(inputs.files[i]) if i is not None else entry.file
        if i is not None and entry.bytes != inputs.files[i].stat().st_size:
            known = f"{rows}{entry.file}, which it continues"
        else:
            known = f"{rows}the same content" if entry.file == Path(name).name else f"{rows}it as {entry.file}"
        digests = f"digest {entry.mapping[:8]}, now {digest_text(inputs.mapping)[:8]}"
        lines.append(f"{name}: {out} holds {known}, read {how} ({digests})")
    if len(clashes) > len(lines):
        lines.append(f"and {len(clashes) - len(lines):,} more")
    return (
        "; ".join(lines) + ". Read once more, every row would count twice. Write `--reread replace` to take back what "
        "the earlier reading gave and read it anew, or `--reread add` to keep both"
    )
