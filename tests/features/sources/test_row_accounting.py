"""Every row is accounted for, and no event is there that no row says, whatever the file and however it is read."""

import csv
import io
import json
import random
from collections import Counter
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import FILE
from features.sources import events_file

CELLS = {
    "name": st.sampled_from(["purchase", "purchase", "view_item", "refund", "odd", ""]),
    "timestamp": st.sampled_from(["2024-05-01T12:00:00Z", "1714564800", "x", "", "03/04/2024", "25/04/2024"]),
    "customer_id": st.sampled_from(["c1", "Ünal", "7.0"]),
    "item_id": st.sampled_from(["i1", "i2", "", "café"]),
    "quantity": st.sampled_from(["1", "2", "-1", "0", "x", ""]),
    "price": st.sampled_from(["1.5", "19,99", "1.299", "-1", "nan", "x", "", "12.00 EUR"]),
    "order_id": st.sampled_from(["1", "2", ""]),
    "status": st.sampled_from(["paid", "cancelled", "refunded", ""]),
}
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=15)
MAPPING = """
where: {status: {not: [cancelled]}}
refunds: {where: {status: [refunded]}}
negative_quantity: refund
columns: {item_id: [item_id, status]}
"""
# A row that every reader can tell the format by.
FIRST = {"name": "view_item", "timestamp": "2024-05-01T12:00:00Z", "customer_id": "c9", "item_id": "i9",
         "quantity": "1", "price": "3", "order_id": "", "status": "paid"}  # fmt: skip
DAMAGE = ["too,many,cells,in,this,row,of,the,file,here", '{"name": "purchase", "price"', '{"name": NaN', "[1, 2]"]


def write(path: Path, rows: list[dict[str, str]], kind: str, encoding: str = "utf-8") -> Path:
    if kind == "parquet":
        cells = {c: [row[c] or None for row in rows] for c in CELLS}
        pl.DataFrame(cells, schema=dict.fromkeys(CELLS, pl.String())).write_parquet(
            path := path.with_suffix(".parquet")
        )
        return path
    if kind == "jsonl":
        path = path.with_suffix(".jsonl")
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding)
        return path
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(CELLS), delimiter=kind, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    path = path.with_suffix(".csv")
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def read(files: list[Path], folder: Path, rows: int = 1000) -> list[ParsedBatch]:
    (folder / "shop.yml").write_text(MAPPING)
    batches = list(events_file.read(files, folder / "shop.yml", rows))
    for batch in batches:
        accounted = batch.events.height + batch.merged + batch.rejected.height + sum(batch.left_out.values())
        assert batch.rows_read + batch.derived == accounted
    return batches


def events(batches: list[ParsedBatch]) -> Counter[tuple]:
    return Counter(row for b in batches for row in b.events.drop(FILE, strict=False).rows())


def reasons(batches: list[ParsedBatch]) -> Counter[str]:
    return Counter(reason for b in batches for reason in b.rejected["reason"])


@settings(max_examples=10, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 999), cut=st.integers(1, 15), size=st.integers(1, 6))
def test_the_same_content_gives_the_same_events(tmp_path_factory, rows: list[dict], seed: int, cut: int, size: int):
    folder = tmp_path_factory.mktemp("content")
    rows = [FIRST, *rows]
    expected = read([write(folder / "first", rows, ",")], folder)
    assert sum(b.rows_read for b in expected) == len(rows)
    lone = events(read([write(folder / "lone", [FIRST], ",")], folder))
    shuffled = random.Random(seed).sample(rows, len(rows))
    ways = {
        "tabs in cp1252": [write(folder / "tabs", rows, "\t", "cp1252")],
        "semicolons in utf-16": [write(folder / "semicolons", rows, ";", "utf-16")],
        "json": [write(folder / "json", rows, "jsonl")],
        "parquet": [write(folder / "parquet", rows, "parquet")],
        "another order": [write(folder / "shuffled", shuffled, "|")],
        "two files": [write(folder / "a", [FIRST, *rows[1:cut]], ","), write(folder / "b", [*rows[cut:], FIRST], ",")],
    }
    for way, files in ways.items():
        found = read(files, folder, size)
        again = lone if len(files) > 1 else Counter[tuple]()
        assert events(found) == events(expected) + again, way
        assert reasons(found) == reasons(expected), way


@settings(max_examples=15, deadline=None)
@given(rows=ROWS, damage=st.lists(st.tuples(st.integers(0, 15), st.sampled_from(DAMAGE)), max_size=4),
       kind=st.sampled_from([",", "jsonl"]), size=st.integers(1, 6))  # fmt: skip
def test_damaged_rows_are_counted_and_invent_nothing(
    tmp_path_factory, rows: list[dict], damage: list[tuple[int, str]], kind: str, size: int
):
    folder = tmp_path_factory.mktemp("damaged")
    rows = [FIRST, *rows]
    file = write(folder / "e", rows, kind)
    written = file.read_text().splitlines()
    for place, line in damage:
        written.insert(min(place + 2, len(written)), line)
    file.write_text("\n".join(written) + "\n")
    batches = read([file], folder, size)
    assert sum(b.rows_read for b in batches) == len(rows) + len(damage)
    said = {(row["customer_id"].replace("7.0", "7"), row["item_id"] or row["status"] or None) for row in rows}
    for batch in batches:
        assert set(batch.events.select("customer_id", "item_id").rows()) <= said
    report = ingest(events_file.read([file], folder / "shop.yml", size), folder / "log")
    assert report.rows_read == len(rows) + len(damage)
