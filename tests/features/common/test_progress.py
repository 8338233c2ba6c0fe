from pathlib import Path

import pytest

from features.common import progress
from features.event_log.ingestion.ingest import ingest
from tests.features.batches import batch, events


def test_without_a_terminal_rows_are_shown_as_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.show_rows() as show:
        show("read", 1_500_000, None)
        show("write", 200, 1_500_000)
    output = capsys.readouterr()
    assert output.out == ""
    read, write = output.err.splitlines()
    assert "read: 1,500,000 rows" in read
    assert "write: 200 of 1,500,000 rows" in write


def test_lines_about_rows_are_seconds_apart(capsys: pytest.CaptureFixture[str]):
    with progress.show_rows() as show:
        for n in range(1000):
            show("read", n, None)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_every_step_is_a_line(capsys: pytest.CaptureFixture[str]):
    with progress.show_steps() as show:
        show("read", 1, None)  # of how many is not known yet
        show("fit", 1, 2)
        show("evaluate", 2, 2)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == ["[    0 s] read", "[    0 s] 1/2 fit", "[    0 s] 2/2 evaluate"]


def test_on_a_terminal_work_is_shown_as_bars(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal
    with progress.show_rows() as show:
        show("read", 1500, None)
        show("write", 200, 1500)
    with progress.show_steps() as show:
        show("fit", 1, 2)
        show("evaluate", 2, 2)
    output = capsys.readouterr()
    assert output.out == ""
    for text in ("read", "1,500", "write", "evaluate", "2/2"):
        assert text in output.err


def test_an_ingest_reports_rows_read_and_written(tmp_path: Path):
    reports: list[tuple[str, int, int | None]] = []
    batches = [batch(events(("a", 0), ("b", 0))), batch(events(("c", 1)))]
    ingest(batches, tmp_path / "log", lambda *report: reports.append(report))
    assert reports == [("read", 2, None), ("read", 3, None), ("write", 3, None)]
