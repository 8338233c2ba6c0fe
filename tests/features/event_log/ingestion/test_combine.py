import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.event_log import partitions
from features.event_log.ingestion import compaction, staging
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from features.event_log.schema import EVENT_NAMES, EVENT_SCHEMA, conform
from tests.features.event_log.ingestion.combined import combine_events
from tests.features.event_log.lines import Line, kept_lines, line_batch, line_events


def test_equal_lines_of_an_order_are_pieces(tmp_path: Path):
    report = ingest([line_batch([("a1", "A", 1, 10)] * 3 + [("a1", "B", 1, 7)])], tmp_path / "log")
    assert kept_lines(report.log.scan().collect()) == [("a1", "A", 3, 10), ("a1", "B", 1, 7)]
    assert (report.kept, report.merged, report.duplicates) == ({"purchase": 2}, 2, 0)


def test_prices_of_merged_lines_are_averaged_by_quantity_and_equal_ones_stay_exact(tmp_path: Path):
    lines = [("a1", "A", 1, 10), ("a1", "A", 3, 6), *[("a2", "B", 0.1, 0.1)] * 3]
    report = ingest([line_batch(lines)], tmp_path / "log")
    (a, b) = kept_lines(report.log.scan().collect())
    assert a == ("a1", "A", 4, 7)
    assert b[3] == 0.1
    assert b[2] == pytest.approx(0.3)


def test_a_line_in_two_files_counts_once_with_the_larger_quantity(tmp_path: Path):
    first, second = [("a1", "A", 1, 10), ("a1", "B", 1, 5)], [("a1", "A", 1, 10)] * 2 + [("b1", "A", 1, 10)]
    for log, files in (("forth", [first, second]), ("back", [second, first])):
        report = ingest([line_batch(lines, n) for n, lines in enumerate(files)], tmp_path / log)
        assert kept_lines(report.log.scan().collect()) == [("a1", "A", 2, 10), ("a1", "B", 1, 5), ("b1", "A", 1, 10)]
        assert (report.merged, report.duplicates, report.in_log) == (1, 1, 0)
        assert any("1 line of orders is in more than one of the files" in note for note in report.notes)


def test_what_the_log_has_stands(tmp_path: Path):
    ingest([line_batch([("a1", "A", 1, 10)])], tmp_path / "log")
    report = ingest([line_batch([("a1", "A", 2, 9), ("a1", "A", 1, 9), ("a1", "B", 1, 5)])], tmp_path / "log")
    assert kept_lines(report.log.scan().collect()) == [("a1", "A", 1, 10), ("a1", "B", 1, 5)]
    assert (report.kept, report.merged, report.duplicates, report.in_log) == ({"purchase": 1}, 0, 2, 2)


def test_rows_with_ids_of_their_own_are_not_added_up(tmp_path: Path):
    events = line_events([("a1", "A", 1, 10)], None)
    report = ingest([ParsedBatch(2, events.vstack(events))], tmp_path / "log")
    assert kept_lines(report.log.scan().collect()) == [("a1", "A", 1, 10)]
    assert (report.merged, report.duplicates, report.in_log) == (0, 1, 0)


def test_a_free_line_beside_a_paid_one_is_told_loudly(tmp_path: Path):
    lines = [("a1", "A", 1, 59), ("a1", "A", 1, 0), ("a1", "B", 1, 0), ("b1", "A", 1, 59)]
    report = ingest([line_batch(lines)], tmp_path / "log")
    (note,) = [note for note in report.notes if "CAUTION" in note]
    assert "1 line at price 0" in note
    assert "order a1" in note
    assert "where:" in note
    gift = ingest([line_batch([("a1", "B", 1, 0), ("a1", "A", 1, 59)])], tmp_path / "gift")
    assert not any("CAUTION" in note for note in gift.notes)


def test_refused_consent_of_one_line_holds_for_the_merged_one(tmp_path: Path):
    yes, no = (line_events([("a1", "A", 1, 10)], consent=consent) for consent in (True, False))
    for n, rows in enumerate((yes.vstack(no), no.vstack(yes))):
        report = ingest([ParsedBatch(2, rows)], tmp_path / str(n))
        assert report.log.scan().collect()["consent"].to_list() == [False]


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["a1", "a2", "b1", "c1", "c2"]),
        st.sampled_from("ABC"),
        st.sampled_from([1.0, 2.0, 0.1, 0.7]),
        st.sampled_from([0.0, 9.99, 10.0, 3.3]),
    ),
    min_size=1,
    max_size=30,
)


@given(lines=ORDERS, seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_log_is_the_same_however_lines_are_ordered_cut_and_split_at_orders(
    lines: list[Line], seed: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    tmp_path = tmp_path_factory.mktemp("lines")
    whole = ingest([line_batch(lines)], tmp_path / "whole")
    rng = random.Random(seed)
    monkeypatch.setattr(staging, "ROWS_PER_RUN", rng.randint(1, 10))
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", rng.randint(1, 10))
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", rng.randint(1, 10))
    mixed = rng.sample(lines, len(lines))
    file_of = {order: rng.randint(0, 2) for order, *_ in lines}
    batches, size = [], rng.randint(1, 8)
    for number in rng.sample([0, 1, 2], 3):
        rows = [line for line in mixed if file_of[line[0]] == number]
        batches += [line_batch(rows[i : i + size], number) for i in range(0, len(rows), size)]
    cut = ingest(batches, tmp_path / "cut")
    assert cut.log.fingerprint == whole.log.fingerprint
    assert (cut.kept, cut.merged, cut.duplicates) == (whole.kept, whole.merged, 0)
    monkeypatch.undo()


@given(files=st.lists(ORDERS, min_size=2, max_size=3), again=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_overlapping_files_count_the_largest_whatever_their_order(
    files: list[list[Line]], again: bool, tmp_path_factory: pytest.TempPathFactory
):
    tmp_path = tmp_path_factory.mktemp("files")
    forth = ingest([line_batch(lines, n) for n, lines in enumerate(files)], tmp_path / "forth")
    back = ingest([line_batch(lines, n) for n, lines in enumerate(files[::-1])], tmp_path / "back")
    assert forth.log.fingerprint == back.log.fingerprint
    pieces: Counter[tuple[str, str]] = Counter()
    for lines in files:
        per_file: Counter[tuple[str, str]] = Counter()
        for order, item, quantity, _ in lines:
            per_file[order, item] += quantity  # type: ignore[assignment]
        pieces |= per_file
    kept = {(order, item): q for order, item, q, _ in kept_lines(forth.log.scan().collect())}
    assert kept == pytest.approx(dict(pieces))
    if again:
        second = ingest([line_batch(lines, n) for n, lines in enumerate(files)], tmp_path / "forth")
        assert second.log.fingerprint == forth.log.fingerprint
        assert (second.kept, second.in_log) == ({}, sum(map(len, files)))


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD = {
    "event_id": "e1", "name": "purchase", "timestamp": NOON, "customer_id": "c1", "item_id": "i1",
    "quantity": 2.0, "price": 3.5,
}  # fmt: skip


def frame(*rows: dict) -> pl.DataFrame:
    columns = {k: v for k, v in EVENT_SCHEMA.items() if any(k in r for r in rows)}
    return conform(pl.DataFrame(rows, schema=columns), EVENT_SCHEMA)


def test_the_earliest_row_of_a_key_is_kept():
    late = GOOD | {"timestamp": NOON.replace(hour=13), "price": 1.0}
    other = GOOD | {"item_id": "i0"}
    assert combine_events(frame(late, other, GOOD))["item_id", "price"].rows() == [("i0", 3.5), ("i1", 3.5)]


def test_events_without_an_item_are_deduplicated_too():
    search = GOOD | {"name": "search", "item_id": None}
    assert combine_events(frame(search, search)).height == 1


ROWS = st.fixed_dictionaries({
    "event_id": st.sampled_from(["e1", "e2"]),
    "name": st.sampled_from(EVENT_NAMES[:3]),
    "timestamp": st.sampled_from([NOON, NOON.replace(hour=13)]),
    "item_id": st.sampled_from([None, "i1", "i2"]),
    "session_id": st.sampled_from([None, "s1", "s2"]),
    "price": st.sampled_from([None, 1.0, 2.0]),
    "country": st.sampled_from([None, "DE", "AT"]),
    "consent": st.sampled_from([None, True, False]),
})  # fmt: skip


@settings(deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=12).flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))))
def test_deduplication_depends_on_the_rows_not_their_order(orders: tuple[list[dict], list[dict]]):
    one, other = (combine_events(frame(*rows)) for rows in orders)
    assert one.equals(other)
    assert one.height == len({(r["event_id"], r["item_id"]) for r in orders[0]})
    assert combine_events(pl.concat([one, other])).equals(one)
