import json
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import Inputs, ParsedBatch, ingest
from features.event_log.schema import EVENT_SCHEMA, REJECTED_SCHEMA, conform
from tests.features.event_log.lines import line_batch, line_events


def rejected(*rows: dict[str, object]) -> pl.DataFrame:
    return conform(pl.DataFrame([{"source": "a.csv", "row": 4} | row for row in rows]), REJECTED_SCHEMA)


def bad(reason: str, **cells: object) -> dict[str, object]:
    return {"reason": reason, "raw": json.dumps(cells)}


def test_every_reason_comes_with_the_cell_of_one_row(tmp_path: Path):
    rows = [
        bad("bad_price", Preis="abc", Datum="2026-01-01"),
        {**bad("bad_price", Preis="xyz"), "row": 9},
        bad("missing_item_id", SKU=None),
        bad("no_customer_or_client", Kunde=""),
        bad("missing_name", event="x"),
        bad("bad_json", _unparsed="{"),
        bad("bad_timestamp", timestamp="x" * 200),
    ]
    columns = {"price": "Preis", "item_id": "SKU", "customer_id": "Kunde"}
    batch = line_batch([("a1", "A", 1, 1)], rejected=rejected(*rows), columns=columns)
    report = ingest([ParsedBatch(8, **{k: v for k, v in vars(batch).items() if k != "rows_read"})], tmp_path / "log")
    assert report.examples["bad_price"] == 'a.csv row 4 (from 0): Preis "abc"'
    assert report.examples["missing_item_id"] == "a.csv row 4 (from 0): SKU empty"
    assert report.examples["no_customer_or_client"] == "a.csv row 4 (from 0): Kunde empty"
    assert report.examples["missing_name"] == "a.csv row 4 (from 0): name empty"
    assert report.examples["bad_json"] == 'a.csv row 4 (from 0): "{"'
    assert len(report.examples["bad_timestamp"]) < 120
    assert 'rejected: bad_price, as a.csv row 4 (from 0): Preis "abc"' in report.text()
    assert report.as_dict()["examples"] == report.examples


def test_unknown_names_are_told_with_the_nearest_known_one(tmp_path: Path):
    names = ["Purchase", "PURCHASE", "order", "view", "addToCart", "product_view", "zzz"]
    frames = [line_events([(f"a{n}", "A", 1, 1)], None, name=name) for n, name in enumerate(names)]
    report = ingest([ParsedBatch(7, pl.concat(frames))], tmp_path / "log")
    (note,) = report.notes
    assert note.startswith("7 rows have a name that the product does not know, and nothing is learnt from them")
    assert "addToCart: add_to_cart" in note
    assert "order: purchase" in note
    assert "zzz: " not in note
    assert report.unknown_names == dict.fromkeys(sorted(names), 1)
    assert not ingest([line_batch([("b1", "A", 1, 1)])], tmp_path / "log").notes


def test_left_out_and_derived_rows_are_in_the_sum(tmp_path: Path):
    batch = ParsedBatch(6, line_events([("a1", "A", 1, 1), ("b1", "A", 1, 1)]), left_out={"Status": 5}, derived=1)
    report = ingest([batch], tmp_path / "log")
    assert (report.left_out, report.derived) == ({"Status": 5}, 1)
    assert "5  left out: Status" in report.text()
    assert "-1  derived from another row" in report.text()
    with pytest.raises(RuntimeError, match="read 7 rows and made 1, accounted for 7"):
        ingest([ParsedBatch(7, batch.events, left_out={"Status": 5}, derived=1)], tmp_path / "other")


def test_duplicates_of_the_log_and_of_the_input_are_told_apart(tmp_path: Path):
    one, two = (line_events([(order, "A", 1, 1)], None) for order in ("a1", "b1"))
    ingest([ParsedBatch(1, one)], tmp_path / "log")
    report = ingest([ParsedBatch(5, pl.concat([one, one, two, two, two]))], tmp_path / "log")
    assert (report.kept, report.duplicates, report.in_log) == ({"purchase": 1}, 4, 2)
    assert report.as_dict()["duplicates_in_log"] == report.as_dict()["duplicates_in_input"] == 2
    assert "2  duplicates: in the log already" in report.text()
    assert "2  duplicates: more than once in this input" in report.text()


def test_where_all_rows_are_bad_the_rejected_ones_are_kept_beside(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("x")
    batch = ParsedBatch(1, pl.DataFrame(schema=EVENT_SCHEMA), rejected(bad("bad_price", price="abc")))
    with pytest.raises(InputError) as error:
        ingest([batch], tmp_path / "log", inputs=Inputs("events", [file]))
    beside = tmp_path / "log.rejected.parquet"
    assert str(beside) in str(error.value)
    assert '1 × bad_price, as a.csv row 4 (from 0): price "abc"' in str(error.value)
    assert f"usual inspect {file}" in str(error.value)
    assert pl.read_parquet(beside)["reason"].to_list() == ["bad_price"]
    assert not (tmp_path / "log").exists()


def test_a_wrong_directory_is_told_before_anything_is_read(tmp_path: Path):
    (tmp_path / "file.csv").write_text("x")

    def batches():
        raise AssertionError("read")
        yield

    with pytest.raises(InputError, match="is a file; name a directory"):
        ingest(batches(), tmp_path / "file.csv")


def test_rejected_rows_come_with_what_to_write_instead(tmp_path: Path):
    batch = line_batch([("a1", "A", 1, 1)], rejected=rejected(bad("ambiguous_timestamp", timestamp="01/02/2026")))
    text = ingest(
        [ParsedBatch(2, **{k: v for k, v in vars(batch).items() if k != "rows_read"})], tmp_path / "log"
    ).text()
    assert "ambiguous_timestamp: write `dates: day first` or `dates: month first` into a mapping" in text
    none = ParsedBatch(1, pl.DataFrame(schema=EVENT_SCHEMA), rejected(bad("bad_price", price="x")))
    with pytest.raises(InputError, match=r"price \"x\"\. To read them: bad_price: write prices as 1234\.50"):
        ingest([none], tmp_path / "other")
