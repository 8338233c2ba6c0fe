from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.errors import InputError
from features.event_log.identity_links import merge_client
from features.event_log.ingestion import readings
from features.event_log.ingestion.ingest import IngestReport, IngestSettings, Inputs, ParsedBatch, ingest
from features.event_log.schema import CATALOG_SCHEMA, EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform
from tests.features.event_log.lines import NOON, Line, kept_lines, line_batch, line_events

REPLACE = IngestSettings(reread="replace")


def read(
    log: Path, files: dict[Path, list[Line]], mapping: str = "", settings: IngestSettings | None = None, **more: object
) -> IngestReport:
    """Ingest `files`, whose content is their lines, as a source with this mapping would."""
    for path, lines in files.items():
        path.write_text("order,item,quantity,price\n" + "".join(f"{line}\n" for line in lines))
    batches = [line_batch(lines, n, file=path, **more) for n, (path, lines) in enumerate(files.items())]
    inputs = Inputs("events", list(files), mapping, ["order,item,quantity,price"] * len(files))
    return ingest(batches, log, inputs=inputs, settings=settings)


def doubled(lines: list[Line]) -> list[Line]:
    """What another mapping would make of the same lines."""
    return [(order + "x", item, 2 * quantity, price) for order, item, quantity, price in lines]


def reread(
    log: Path, path: Path, lines: list[Line], settings: IngestSettings | None, *others: Path, **more: object
) -> IngestReport:
    """Ingest a file that is there under another mapping."""
    inputs = Inputs("events", [path, *others], "m2", ["order,item,quantity,price"])
    return ingest([line_batch(lines, file=path, **more)], log, inputs=inputs, settings=settings)


LINES: list[Line] = [("a1", "A", 1, 10), ("a1", "B", 1, 5), ("b1", "A", 2, 10)]


def test_a_log_knows_the_files_it_was_made_from(tmp_path: Path):
    report = read(tmp_path / "log", {tmp_path / "a.csv": LINES, tmp_path / "b.csv": LINES[:1]})
    a, b = report.log.info["sources"]
    assert (a["file"], a["rows"], a["bytes"]) == ("a.csv", 3, (tmp_path / "a.csv").stat().st_size)
    assert a["digest"] == readings.digest_file(tmp_path / "a.csv") != b["digest"]
    assert a["mapping"] == b["mapping"]
    again = read(tmp_path / "log", {tmp_path / "a.csv": LINES, tmp_path / "b.csv": LINES[:1]})
    assert again.log.info == report.log.info
    assert (again.kept, again.in_log) == ({}, 4)


def test_the_same_content_under_another_mapping_stops_before_anything_is_read(tmp_path: Path):
    before = read(tmp_path / "log", {tmp_path / "a.csv": LINES}, "m1")
    (tmp_path / "a.csv").rename(tmp_path / "copy.csv")
    inputs = Inputs("events", [tmp_path / "copy.csv"], "m2")

    def batches():
        raise AssertionError("read")
        yield

    with pytest.raises(InputError, match=r"copy.csv: .* holds 3 rows of it as a.csv, read under another mapping") as e:
        ingest(batches(), tmp_path / "log", inputs=inputs)
    assert "`--reread replace`" in str(e.value)
    assert "`--reread add`" in str(e.value)
    assert before.log.open(tmp_path / "log").info == before.log.info


def test_reread_add_keeps_both(tmp_path: Path):
    read(tmp_path / "log", {tmp_path / "a.csv": LINES}, "m1")
    report = reread(tmp_path / "log", tmp_path / "a.csv", doubled(LINES), IngestSettings(reread="add"))
    assert report.log.info["rows"] == 6
    # Both readings are known now: each again changes nothing, without a word.
    again = reread(tmp_path / "log", tmp_path / "a.csv", doubled(LINES), None)
    assert again.log.info == report.log.info


def test_reread_replace_is_as_if_the_file_was_read_anew(tmp_path: Path):
    other = [("c1", "C", 1, 1)]
    read(tmp_path / "log", {tmp_path / "a.csv": LINES}, "m1")
    read(tmp_path / "log", {tmp_path / "other.csv": other}, "m2")
    report = reread(tmp_path / "log", tmp_path / "a.csv", doubled(LINES), REPLACE)
    fresh = tmp_path / "fresh"
    read(fresh, {tmp_path / "other.csv": other}, "m2")
    assert reread(fresh, tmp_path / "a.csv", doubled(LINES), None).log.fingerprint == report.log.fingerprint
    assert report.taken_back == 3
    assert report.kept == {"purchase": 3}
    assert any("3 rows of the earlier reading were taken back" in note for note in report.notes)
    assert [s["file"] for s in report.log.info["sources"]] == ["other.csv", "a.csv"]


def test_a_row_of_two_files_stays_when_one_is_replaced(tmp_path: Path):
    january, february = [("a1", "A", 1, 10), ("b1", "A", 1, 10)], [("b1", "A", 1, 10), ("c1", "A", 1, 10)]
    read(tmp_path / "log", {tmp_path / "jan.csv": january, tmp_path / "feb.csv": february}, "m1")
    report = reread(tmp_path / "log", tmp_path / "jan.csv", [("z1", "Z", 1, 1)], REPLACE)
    assert [order for order, *_ in kept_lines(report.log.scan().collect())] == ["b1", "c1", "z1"]
    assert report.taken_back == 1
    # Replaced too, the second file takes its share of that row with it.
    last = reread(tmp_path / "log", tmp_path / "feb.csv", [("y1", "Y", 1, 1)], REPLACE)
    assert [order for order, *_ in kept_lines(last.log.scan().collect())] == ["y1", "z1"]


def test_files_that_were_read_together_are_replaced_together(tmp_path: Path):
    lines, header = tmp_path / "lines.csv", tmp_path / "orders.csv"
    for path in (lines, header):
        path.write_text(path.name)
    joined = Inputs("events", [lines, header], "m1")
    ingest([line_batch(LINES)], tmp_path / "log", inputs=joined)
    with pytest.raises(InputError, match=r"lines.csv was read together with orders.csv; .* name all of them"):
        reread(tmp_path / "log", lines, doubled(LINES), REPLACE)
    report = reread(tmp_path / "log", lines, doubled(LINES), REPLACE, header)
    assert report.log.info["rows"] == 3


def test_a_key_that_moves_to_another_day_is_not_lost(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("x")
    rows = line_events([("a1", "A", 1, 10)], None)
    inputs = [Inputs("events", [path], mapping) for mapping in ("m1", "m2")]
    ingest([ParsedBatch(1, rows)], tmp_path / "log", inputs=inputs[0])
    later = rows.with_columns(pl.col("timestamp") + pl.duration(days=1))
    report = ingest([ParsedBatch(1, later)], tmp_path / "log", inputs=inputs[1], settings=REPLACE)
    assert report.kept == {"purchase": 1}
    assert report.log.first == later["timestamp"][0]


def test_catalog_links_and_rejected_rows_of_a_replaced_reading_go(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("x")
    rows = line_events([("a1", "A", 1, 10)], None, client_id="d1")
    link = {"at": NOON, "kind": "email", "token": "t", "client_id": "d1", "customer_id": "c1"}
    derived = {"item_id": "A", "price": 10.0, "updated_at": NOON}
    bad = {"source": "a.csv", "row": 7, "reason": "bad_price", "raw": "{}"}
    batch = ParsedBatch(
        2, rows,
        rejected=conform(pl.DataFrame([bad]), REJECTED_SCHEMA),
        catalog=conform(pl.DataFrame([derived]), CATALOG_SCHEMA),
        links=conform(pl.DataFrame([link]), LINK_SCHEMA),
    )  # fmt: skip
    ingest([batch], tmp_path / "log", inputs=Inputs("events", [path], "m1"))
    merge_client("d1", "c1", tmp_path / "log")
    other = line_events([("b1", "B", 1, 10)], None)
    report = ingest([ParsedBatch(1, other)], tmp_path / "log", inputs=Inputs("events", [path], "m2"), settings=REPLACE)
    assert report.log.catalog().is_empty()
    assert report.log.links()["kind"].to_list() == ["merge"]  # what a person stated stays
    assert report.log.rejected().is_empty()


def test_a_grown_file_under_another_mapping_stops_too(tmp_path: Path):
    path = tmp_path / "a.csv"
    read(tmp_path / "log", {path: LINES}, "m1")
    grown = [*LINES, ("c1", "A", 1, 10)]
    with pytest.raises(InputError, match=r"holds 3 rows of a.csv, which it continues"):
        read(tmp_path / "log", {path: grown}, "m2")
    assert read(tmp_path / "log", {path: grown}, "m1").log.info["rows"] == 4
    report = read(tmp_path / "log", {path: grown}, "m2", REPLACE)
    assert report.taken_back == 4
    assert report.log.info["rows"] == 4


def test_a_newer_export_under_another_mapping_is_noted(tmp_path: Path):
    read(tmp_path / "log", {tmp_path / "a.csv": LINES}, "m1")
    report = read(tmp_path / "log", {tmp_path / "b.csv": LINES[::-1]}, "m2")
    assert any("b.csv has the columns of a.csv" in note for note in report.notes)
    same = read(tmp_path / "log", {tmp_path / "c.csv": LINES[:1]}, "m2")
    assert not same.notes


def test_a_table_under_another_mapping_stops_as_a_file_does(tmp_path: Path):
    first = Inputs("postgres", mapping="m1", place="shop.orders")
    ingest([line_batch(LINES)], tmp_path / "log", inputs=first)
    second = Inputs("postgres", mapping="m2", place="shop.orders")
    with pytest.raises(InputError, match=r"shop.orders: .* another mapping"):
        ingest([line_batch(LINES)], tmp_path / "log", inputs=second)
    report = ingest([line_batch(doubled(LINES))], tmp_path / "log", inputs=second, settings=REPLACE)
    assert report.log.info["rows"] == len(report.log.info["sources"]) + 2 == 3


def test_batches_without_inputs_can_be_added(tmp_path: Path):
    report = ingest([line_batch(LINES)], tmp_path / "log")
    assert (report.log.info["sources"], report.log.info["origins"]) == ([], {})
    assert report.log.scan().collect_schema() == EVENT_SCHEMA


ORDERS = st.lists(
    st.tuples(st.sampled_from(["a1", "a2", "b1", "c1"]), st.sampled_from("AB"), st.just(1.0), st.just(5.0)),
    min_size=1,
    max_size=8,
)


@given(files=st.lists(ORDERS, min_size=1, max_size=3), replaced=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_replacing_all_files_is_a_fresh_ingest(
    files: list[list[Line]], replaced: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    tmp_path = tmp_path_factory.mktemp("replace")
    named = {tmp_path / f"{n}.csv": lines for n, lines in enumerate(files)}
    read(tmp_path / "log", named, "m1")
    corrected = {path: doubled(lines) for path, lines in named.items()}
    inputs = Inputs("events", list(named), "m2")
    batches = [line_batch(lines, n, file=path) for n, (path, lines) in enumerate(corrected.items())]
    order = replaced.draw(st.permutations(batches))
    report = ingest(order, tmp_path / "log", inputs=inputs, settings=REPLACE)
    fresh = ingest(batches, tmp_path / "fresh", inputs=inputs)
    assert report.log.fingerprint == fresh.log.fingerprint
    assert report.kept == fresh.kept
