"""Bad input on the command line: exit code 2, and an error that says what is wrong, where, and what to do."""

import json
from pathlib import Path

import polars as pl
import pytest

from features.event_log.ingestion.ingest import ParsedBatch, ingest
from models.bundle import Bundle
from tests.conftest import SHOP
from tests.e2e.conftest import run_in

pytestmark = pytest.mark.e2e

GOOD = "name,timestamp,customer_id,item_id,quantity,price,order_id\n"


@pytest.fixture(scope="module")
def log(simulated: ParsedBatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ingest([simulated], tmp_path_factory.mktemp("bad_input") / "log").log.path


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("name,customer_id,item_id\npurchase,c1,i1\n")
    stderr = run_in(tmp_path)("ingest", "events", file, "--out", tmp_path / "log", code=2).stderr
    assert "timestamp" in stderr
    assert str(file.name) in stderr
    assert "customer_id" in stderr  # what it has


def test_bad_rows_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        GOOD
        + "purchase,2026-01-01T10:00:00Z,c1,i1,1,9.5,o1\n"
        + "purchase,the other day,c1,i1,1,9.5,o2\n"
        + "purchase,2026-01-01T11:00:00Z,c1,i2,1,-3,o3\n"
    )
    summary = json.loads(run_in(tmp_path)("ingest", "events", file, "--out", tmp_path / "log", "--json").stdout)
    assert summary["rows_read"] == 3
    assert summary["rejected"] == {"bad_timestamp": 1, "negative_price": 1}
    rejected = pl.read_parquet(tmp_path / "log" / "rejected.parquet").sort("row")
    assert rejected["row"].to_list() == [1, 2]
    assert "the other day" in rejected["raw"][0]


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "orders.parquet"
    pl.DataFrame({"name": ["purchase"] * 100}).write_parquet(file)
    file.write_bytes(file.read_bytes()[:-40])
    assert file.name in run_in(tmp_path)("ingest", "events", file, "--out", tmp_path / "log", code=2).stderr


def test_until_before_the_first_event(log: Path, tmp_path: Path) -> None:
    stderr = run_in(tmp_path)("train", "--log", log, "--until", "2020-01-01", code=2).stderr
    assert str(SHOP.start) in stderr
    assert "--until" in stderr


def test_until_that_is_not_a_time(log: Path, tmp_path: Path) -> None:
    assert "'tomorrow'" in run_in(tmp_path)("train", "--log", log, "--until", "tomorrow", code=2).stderr


def test_a_missing_log(tmp_path: Path) -> None:
    assert "usual ingest" in run_in(tmp_path)("train", "--log", tmp_path / "nowhere", code=2).stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 99}, "format 99"),
        ({"features": "0123456789abcdef"}, "other features"),
    ],
)
def test_a_bundle_of_another_format(bundle: Bundle, tmp_path: Path, change: dict[str, object], expected: str) -> None:
    path, run = bundle.save(tmp_path / "bundle"), run_in(tmp_path)
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    assert expected in run("recommend", "--model", path, "--out", tmp_path / "recs.parquet", code=2).stderr
    assert expected in run("serve", path, "--open", code=2).stderr


def test_recommend_without_a_champion(tmp_path: Path) -> None:
    stderr = run_in(tmp_path)("recommend", "--out", tmp_path / "recs.parquet", code=2).stderr
    assert "usual promote" in stderr


def test_k_of_zero_is_refused(tmp_path: Path) -> None:
    assert "--k" in run_in(tmp_path)("recommend", "--k", 0, "--out", tmp_path / "r.parquet", code=2).stderr


def test_serve_before_package(tmp_path: Path) -> None:
    assert "usual package" in run_in(tmp_path)("serve", code=2).stderr


def test_serve_without_keys(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    run = run_in(tmp_path)
    assert "USUAL_SECRET_KEYS" in run("serve", tmp_path, code=2).stderr
    assert "loopback" in run("serve", tmp_path, "--open", "--host", "0.0.0.0", code=2).stderr  # noqa: S104


@pytest.mark.parametrize(
    "command",
    [
        ("ingest", "events", "orders.csv", "--out", "file/log"),
        ("ingest", "simulated", "--customers", "5", "--days", "30", "--out", "log", "--truth", "file/truth"),
        ("features", "--log", "orders", "--as-of", "2026-02-01", "--out", "file"),
        ("segments", "--log", "orders", "--as-of", "2026-02-01", "--out", "file/segments.csv"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    run = run_in(tmp_path)
    (tmp_path / "orders.csv").write_text(GOOD + "purchase,2026-01-01T10:00:00Z,c1,i1,1,9.5,o1\n")
    (tmp_path / "file").write_text("")
    run("ingest", "events", tmp_path / "orders.csv", "--out", tmp_path / "orders")
    paths = {"orders.csv", "file/log", "log", "file/truth", "orders", "file", "file/segments.csv"}
    stderr = run(*(tmp_path / word if word in paths else word for word in command), code=2).stderr
    assert "file" in stderr
    assert "Traceback" not in stderr
