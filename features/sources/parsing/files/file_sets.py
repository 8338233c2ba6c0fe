"""File sets: data sets that are published as several files, which are told apart by their headers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from features.sources.parsing.cells import coerce
from features.sources.parsing.cells.column_lists import ColumnsError
from features.sources.parsing.files import readers

Headers = Mapping[str, Sequence[str]]  # kind of file → the columns that it has


def sort_files(paths: Sequence[Path], headers: Headers, publisher: str) -> dict[str, list[Path]]:
    """Sort `paths` by the first kind whose columns each has. Raises `InputError` for a file of no kind."""
    files: dict[str, list[Path]] = {kind: [] for kind in headers}
    for path in paths:
        files[detect_kind(path, headers, publisher)].append(path)
    return files


def detect_kind(path: Path, headers: Headers, publisher: str) -> str:
    """Return the first kind whose columns the file has. Raises `InputError` for a file of no kind."""
    columns = readers.read_column_names(path)
    kind = next((kind for kind, header in headers.items() if set(header).issubset(columns)), None)
    if kind is None:
        expected = " or ".join(f"({', '.join(header)})" for header in headers.values())
        raise ColumnsError(f"{path} is none of {publisher} files, which have the columns {expected}", columns)
    return kind


def read_texts(paths: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    """Read `columns` of small files as texts; empty ones are null."""
    parts = [batch.select(map(coerce.to_text, columns)) for path in paths for _, batch in readers.read_batches(path)]
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(columns, pl.String()))


def read_batches(paths: Sequence[Path], rows: int) -> Iterator[tuple[int, Path, int, pl.DataFrame]]:
    """Yield (number of the file, file, number of its first row, batch) for batches of at most `rows` rows."""
    for number, path in enumerate(paths):
        for offset, batch in readers.read_batches(path, rows):
            yield number, path, offset, batch
