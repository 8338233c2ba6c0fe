from pathlib import Path

import pytest

from features.common import progress
from features.event_log.ingest import ingest
from tests.features.batches import batch, events


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.rows() as tell:
        tell("read", 1_500_000, None)
        tell("write", 200, 1_500_000)
    told = capsys.readouterr()
    assert told.out == ""
    read, write = told.err.splitlines()
    assert "read: 1,500,000 rows" in read
    assert "write: 200 of 1,500,000 rows" in write


def test_lines_are_far_between(capsys: pytest.CaptureFixture[str]):
    with progress.rows() as tell:
        for n in range(1000):
            tell("read", n, None)
    assert capsys.readouterr().err == ""


def test_an_ingest_tells_what_it_has_read_and_written(tmp_path: Path):
    told: list[tuple[str, int, int | None]] = []
    ingest([batch(events(("a", 0), ("b", 0))), batch(events(("c", 1)))], tmp_path / "log", lambda *t: told.append(t))
    assert told == [("read", 2, None), ("read", 3, None), ("write", 3, None)]
