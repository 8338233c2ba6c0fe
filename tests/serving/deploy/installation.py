"""A search of an installation's files for an id: as bytes, in what compressed and packed files hold, and as hashes."""

import gzip
import hashlib
import io
import sqlite3
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.ranking.id_index import IdIndex

_DEEPEST = 3  # archives in archives


def find(root: Path, text: str) -> list[Path]:
    """Every file below `root` that holds `text`: in its name, its bytes, or in what these decode to."""
    needles = [text.encode(), text.encode("utf-16-le"), text.encode("utf-32-le")]
    return [
        path
        for path in sorted(p for p in root.rglob("*") if p.is_file())
        if text in path.name or any(needle in part for part in decode(path.read_bytes()) for needle in needles)
    ]


def find_hashes(root: Path, text: str) -> list[Path]:
    """Every file below `root` that holds a hash of `text`: that of a bundle's index, or a common one."""
    (index,) = IdIndex.from_ids([text]).hashes.view(np.uint64).tolist()
    digests = [hashlib.new(name, text.encode()).digest() for name in ("md5", "sha1", "sha256", "blake2b")]
    digests.append(hashlib.blake2b(text.encode(), digest_size=16).digest())
    needles = [*digests, *(d.hex().encode() for d in digests), struct.pack("<Q", index), struct.pack(">Q", index)]
    needles += [str(index).encode(), f"{index:016x}".encode(), str(index - 2**64).encode()]
    return [
        path
        for path in sorted(p for p in root.rglob("*") if p.is_file())
        if any(needle in part for part in decode(path.read_bytes()) for needle in needles)
    ]


def decode(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield `content`, and what it says where it is Parquet, Arrow, gzip, zip, a database or an array."""
    yield content
    if depth == _DEEPEST:
        return
    if content.startswith(b"PAR1"):
        table = pq.ParquetFile(io.BytesIO(content))
        yield str(table.metadata.to_dict()).encode()
        for group in range(table.num_row_groups):
            yield str(table.read_row_group(group).to_pydict()).encode()
    elif content.startswith(b"ARROW1"):
        with pa.ipc.open_file(content) as file:
            yield str(file.read_all().to_pydict()).encode()
    elif content.startswith(b"\x1f\x8b"):
        yield from decode(gzip.decompress(content), depth + 1)
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from decode(archive.read(name), depth + 1)
    elif content.startswith(b"SQLite format 3\x00"):
        with sqlite3.connect(":memory:") as database:
            database.deserialize(content[:18] + b"\x01\x01" + content[20:])  # without its write-ahead log
            for (table_name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in database.execute(f'SELECT * FROM "{table_name}"'):  # noqa: S608
                    yield repr(row).encode()
    elif content.startswith(b"\x93NUMPY"):
        array = np.load(io.BytesIO(content), allow_pickle=False)
        yield array.tobytes()
        if array.dtype.kind in "iu":
            yield str(array.ravel()[:100_000].tolist()).encode()
