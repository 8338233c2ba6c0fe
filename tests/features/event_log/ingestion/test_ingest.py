from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import CATALOG_OPTIONAL, CATALOG_SCHEMA, EVENT_SCHEMA, REJECTED_SCHEMA, conform

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def events(*ids: str, name: str = "view_item", minutes: int = 0) -> pl.DataFrame:
    frame = pl.DataFrame({"event_id": ids, "item_id": ["i1"] * len(ids), "client_id": ["d1"] * len(ids)})
    when = NOON + timedelta(minutes=minutes)
    return conform(frame.with_columns(name=pl.lit(name), timestamp=pl.lit(when)), EVENT_SCHEMA)


def rejected(*rows: int, source: str = "a.csv") -> pl.DataFrame:
    frame = pl.DataFrame({"row": rows}, schema={"row": pl.Int64})
    return conform(frame.with_columns(source=pl.lit(source), reason=pl.lit("bad_price")), REJECTED_SCHEMA)


def catalog(item_id: str, **values: object) -> pl.DataFrame:
    return conform(pl.DataFrame([{"item_id": item_id} | values]), CATALOG_SCHEMA)


def batch(*ids: str, bad: tuple[int, ...] = (), merged: int = 0, **more) -> ParsedBatch:
    return ParsedBatch(len(ids) + len(bad) + merged, events(*ids), rejected(*bad), merged=merged, **more)


def test_every_row_is_counted_once(tmp_path: Path):
    report = ingest([batch("e1", "e2", bad=(4, 7), merged=3), batch("e2", "e3")], tmp_path / "log")
    assert report.rows_read == 9
    assert report.kept == {"view_item": 3}
    assert (report.merged, report.duplicates, report.rejected) == (3, 1, {"bad_price": 2})


def test_a_source_that_loses_rows_is_caught(tmp_path: Path):
    with pytest.raises(RuntimeError, match="read 3 rows, accounted for 2"):
        ingest([ParsedBatch(rows_read=3, events=events("e1", "e2"))], tmp_path / "log")


def test_a_second_ingest_of_the_same_input_changes_nothing(tmp_path: Path):
    once = batch("e1", "e2", bad=(3,), catalog=catalog("i1", title="Vase"))
    first = ingest([once], tmp_path / "log")
    tables = first.log.scan().collect(), first.log.catalog(), first.log.rejected()
    second = ingest([once], tmp_path / "log")
    assert second.kept == {}
    assert second.duplicates == 2
    assert second.log.info == first.log.info
    again = second.log.scan().collect(), second.log.catalog(), second.log.rejected()
    assert all(a.equals(b) for a, b in zip(tables, again, strict=True))


def test_a_log_grows(tmp_path: Path):
    ingest([batch("e1", bad=(1,))], tmp_path / "log")
    more = ParsedBatch(2, events("e1", "e2", name="purchase", minutes=5))
    report = ingest([more], tmp_path / "log")
    assert report.kept == {"purchase": 1}
    assert report.duplicates == 1
    table = report.log.scan().collect()
    assert table.select("event_id", "name").rows() == [("e1", "view_item"), ("e2", "purchase")]
    assert report.log.rejected().height == 1


def test_no_usable_row_leaves_no_log_and_says_why(tmp_path: Path):
    with pytest.raises(InputError, match=r"none of the 2 rows read is a usable event: 2 × bad_price"):
        ingest([batch(bad=(0, 1))], tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_catalog_alone_may_have_rejected_rows(tmp_path: Path):
    refused = rejected(1).with_columns(reason=pl.lit("catalog_missing_item_id"))
    report = ingest([ParsedBatch(1, events(), refused, catalog=catalog("i1"))], tmp_path / "log")
    assert report.rejected == {"catalog_missing_item_id": 1}
    assert report.log.catalog()["item_id"].to_list() == ["i1"]
    orders = ParsedBatch(2, events(), pl.concat([rejected(0), refused]), catalog=catalog("i1"))
    with pytest.raises(InputError, match="none of the 2 rows read is a usable event"):
        ingest([orders], tmp_path / "other")


def test_a_failed_source_leaves_the_old_log_alone(tmp_path: Path):
    before = ingest([batch("e1")], tmp_path / "log").log

    def broken():
        yield batch("e2")
        raise InputError("the second file is damaged")

    with pytest.raises(InputError, match="second file"):
        ingest(broken(), tmp_path / "log")
    assert before.scan().collect()["event_id"].to_list() == ["e1"]
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_log_cannot_replace_other_files(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        ingest([batch("e1")], tmp_path / "file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("")
    with pytest.raises(InputError, match="is not an event log"):
        ingest([batch("e1")], tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.png").exists()


def test_an_ingest_without_files_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="at least one file"):
        ingest([], tmp_path / "log")


def test_notes_reach_the_report(tmp_path: Path):
    report = ingest([batch("e1", notes=("a.csv: day first",)), batch("e2")], tmp_path / "log")
    assert report.notes == ("a.csv: day first",)


def test_a_note_that_comes_with_every_batch_is_in_the_report_once(tmp_path: Path):
    report = ingest(
        [batch("e1", notes=("a.csv: day first",)), batch("e2", notes=("a.csv: day first",))], tmp_path / "log"
    )
    assert report.notes == ("a.csv: day first",)


def with_vectors(**vectors: list[float]) -> pl.DataFrame:
    rows = [{"item_id": i, "embedding": v} for i, v in vectors.items()]
    return conform(pl.DataFrame(rows), CATALOG_SCHEMA | CATALOG_OPTIONAL)


def test_vectors_of_another_length_are_in_the_report(tmp_path: Path):
    first = ingest([batch("e1", catalog=with_vectors(i1=[1, 2], i2=[1, 2]))], tmp_path / "log")
    assert "dropped_vectors" not in first.as_dict()
    assert "embedding" not in first.text()
    second = ingest([batch("e2", catalog=with_vectors(i1=[1, 2, 3]))], tmp_path / "log")
    assert second.log.catalog()["embedding"].to_list() == [[1, 2, 3], None]
    assert second.as_dict()["dropped_vectors"] == {"2": 1}
    assert "\nembedding: 1 item lost its vector of length 2, since newer vectors" in second.text()
    third = ingest([batch("e3", catalog=catalog("i1", title="Vase"))], tmp_path / "log")
    assert third.as_dict().keys() == first.as_dict().keys()
    assert third.log.catalog()["embedding"].to_list() == [[1, 2, 3], None]


def test_vectors_of_several_lengths_stop_an_ingest_when_they_come(tmp_path: Path):
    def batches():
        yield batch("e1", catalog=with_vectors(i1=[1, 2], i2=[1, 2, 3]))
        raise AssertionError("read on")

    with pytest.raises(InputError, match="1 item of length 2, such as 'i1'; 1 item of length 3, such as 'i2'"):
        ingest(batches(), tmp_path / "log")
