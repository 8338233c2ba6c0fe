"""Item vectors from the shop's catalog file to the log and the snapshot."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.event_log.schema import CATALOG_SCHEMA
from features.ranking.snapshot import Snapshot
from features.sources import events_file
from features.sources.parsing.cells import coerce
from features.tables.build import build_tables

VECTORS = {"i1": [0.5, -1.25], "i2": [0.0, 3.0], "i3": None}
MAPPING = "catalog: {}\n"


def ingest_with(folder: Path, catalog: str, item: str = "i1") -> EventLog:
    """Ingest one view and the catalog file of that name in `folder` into the log there."""
    (folder / "shop.yml").write_text(MAPPING.format(catalog))
    event = {"name": "view_item", "timestamp": "2024-05-01T12:00:00Z", "client_id": "d1", "item_id": item}
    pl.DataFrame([event]).write_csv(folder / "events.csv")
    return ingest(events_file.read([folder / "events.csv"], folder / "shop.yml"), folder / "log").log


def write_jsonl(path: Path, vectors: dict) -> str:
    path.write_text("".join(json.dumps({"item_id": i, "embedding": v}) + "\n" for i, v in vectors.items()))
    return path.name


def write_parquet(path: Path, vectors: dict, kind: pa.DataType) -> str:
    pq.write_table(pa.table({"item_id": list(vectors), "embedding": pa.array(list(vectors.values()), kind)}), path)
    return path.name


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.list_(number) for number in (pa.float16(), pa.float32(), pa.float64())),
        *(pa.list_(number, 2) for number in (pa.float16(), pa.float32(), pa.float64())),
        pa.large_list(pa.float32()),
    ],
    ids=str,
)
def test_vectors_of_a_parquet_catalog(tmp_path: Path, kind: pa.DataType):
    vectors = {i: v and np.array(v, np.float16) for i, v in VECTORS.items()} if "halffloat" in str(kind) else VECTORS
    catalog = ingest_with(tmp_path, write_parquet(tmp_path / "items.parquet", vectors, kind)).catalog()
    assert catalog.schema == CATALOG_SCHEMA | {"embedding": pl.List(pl.Float32)}
    assert dict(catalog.select("item_id", "embedding").iter_rows()) == VECTORS


def test_vectors_of_json_lines_and_csv(tmp_path: Path):
    logs = [ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", VECTORS)).catalog()]
    rows = [{"item_id": i, "embedding": json.dumps(v) if v else ""} for i, v in VECTORS.items()]
    pl.DataFrame(rows).write_csv(tmp_path / "items.csv")
    logs.append(ingest_with(tmp_path, "items.csv").catalog())
    for catalog in logs:
        assert dict(catalog.select("item_id", "embedding").iter_rows()) == VECTORS


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["[0.5, -1.25]", " [0, 3]", " "])], ids=str)
def test_vectors_of_a_parquet_catalog_as_text(tmp_path: Path, dtype: pl.DataType):
    """Dictionary-encoded texts too, with a blank one for an item without a vector."""
    texts = pl.Series("embedding", ["[0.5, -1.25]", " [0, 3]", " "], dtype)
    pl.DataFrame([pl.Series("item_id", list(VECTORS)), texts]).write_parquet(tmp_path / "items.parquet")
    catalog = ingest_with(tmp_path, "items.parquet").catalog()
    assert dict(catalog.select("item_id", "embedding").iter_rows()) == VECTORS


def test_a_log_without_vectors_has_no_such_column(tmp_path: Path):
    log = ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", {"i1": None, "i2": None}))
    assert pl.read_parquet_schema(log.path / "catalog.parquet") == CATALOG_SCHEMA
    content = (log.path / "catalog.parquet").read_bytes()
    (tmp_path / "items.jsonl").write_text('{"item_id": "i1"}\n{"item_id": "i2"}\n')
    (tmp_path / "other").mkdir()
    (tmp_path / "items.jsonl").rename(tmp_path / "other" / "items.jsonl")
    plain = ingest_with(tmp_path / "other", "items.jsonl")
    assert (plain.path / "catalog.parquet").read_bytes() == content
    assert plain.info == log.info


def test_vectors_do_not_change_the_fingerprint(tmp_path: Path):
    with_vectors = ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", VECTORS)).fingerprint
    (tmp_path / "plain").mkdir()
    plain = ingest_with(tmp_path / "plain", write_jsonl(tmp_path / "plain" / "items.jsonl", dict.fromkeys(VECTORS)))
    assert plain.fingerprint == with_vectors


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        ([], r"\[\]"),
        ([1.0, None], r"\[1, ?null\]"),
        ([1.0, "x"], r"\[1, ?\"x\"\]"),
        ([[1.0, 2.0]], r"\[\[1, ?2\]\]"),
        ([1.0, 1e39], "e39|10000"),
        ("1.0, 2.0", "1.0, 2.0"),
        (1.0, "1"),
        (True, "true"),
    ],
)
def test_other_values_are_refused_with_their_row(tmp_path: Path, vector: object, text: str):
    file = write_jsonl(tmp_path / "items.jsonl", {"i1": [1.0, 2.0], "i2": vector})
    with pytest.raises(InputError, match=rf"row 1 \(from 0\) has embedding .*({text}).*, which is no list of fin"):
        ingest_with(tmp_path, file)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e39])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: float):
    file = write_parquet(tmp_path / "items.parquet", {"i1": [1.0, 2.0], "i2": [0.0, number]}, pa.list_(pa.float64()))
    with pytest.raises(InputError, match=r"row 1 \(from 0\) has embedding \[0.0, .*no list of finite numbers"):
        ingest_with(tmp_path, file)


def test_vectors_of_different_lengths_are_refused(tmp_path: Path):
    vectors = {"i0": None, "i1": [1.0, 2.0], "i2": [1.0, 2.0], "i3": [1.0]}
    with pytest.raises(InputError, match=r"row 3 \(from 0\) has an embedding of length 1, row 1 one of length 2"):
        ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", vectors))


def test_a_new_model_has_the_last_word_on_the_length(tmp_path: Path):
    """Items that the new catalog no longer lists, or lists without a vector, keep none of the old length."""
    log = ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", VECTORS | {"gone": [1.0, 1.0]}))
    new = {"i1": [1.0, 2.0, 3.0], "i2": None, "i3": [4.0, 5.0, 6.0]}
    write_jsonl(tmp_path / "new.jsonl", new)
    (tmp_path / "shop.yml").write_text(MAPPING.format("new.jsonl"))
    report = ingest(events_file.read([tmp_path / "events.csv"], tmp_path / "shop.yml"), log.path)
    assert dict(report.log.catalog().select("item_id", "embedding").iter_rows()) == new | {"gone": None}
    assert report.dropped_vectors == {2: 2}
    content = (log.path / "catalog.parquet").read_bytes()
    ingest(events_file.read([tmp_path / "events.csv"]), log.path)
    assert (log.path / "catalog.parquet").read_bytes() == content


def test_a_later_catalog_replaces_vectors_and_leaves_the_others(tmp_path: Path):
    ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", VECTORS))
    catalog = ingest_with(tmp_path, write_jsonl(tmp_path / "new.jsonl", {"i2": [7.0, 8.0], "i1": None})).catalog()
    assert catalog["embedding"].to_list() == [[0.5, -1.25], [7.0, 8.0], None]


def test_the_snapshot_has_a_row_per_item(tmp_path: Path):
    log = ingest_with(tmp_path, write_jsonl(tmp_path / "items.jsonl", VECTORS), "unlisted")
    as_of = int(datetime(2024, 5, 2, tzinfo=UTC).timestamp() * 1e6)
    snapshot = Snapshot.from_tables(build_tables(log, as_of))
    assert snapshot.embeddings is not None
    assert (snapshot.embeddings.dtype, snapshot.embeddings.shape) == (np.float32, (len(snapshot.items), 2))
    expected = [VECTORS.get(i) or [np.nan] * 2 for i in snapshot.items.values.to_pylist()]
    assert np.array_equal(snapshot.embeddings, np.array(expected, np.float32), equal_nan=True)


@pytest.mark.parametrize("cells", [[3.0], [True], [b"ab"], [["1"]], [[True]], [[[1.0]]], [None]])
def test_other_types_are_no_vectors(cells: list):
    assert coerce.to_vectors(pl.Series(cells)).to_list() == [None]


def test_texts_hold_one_array_of_numbers():
    texts = ["[1, 2e-3]", " [1,\n2 ] ", "[1,,2]", "[nan]", "[1, x]", "[[1]]", "[true]", "[]", "", "1,2", None]
    vectors = coerce.to_vectors(pl.Series(texts)).to_list()
    assert vectors[:2] == [pytest.approx([1, 0.002]), [1.0, 2.0]]
    assert vectors[2:] == [None] * 9
