from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from training.benchmarks import diginetica
from training.benchmarks.files import find

HEADER = "session_id;user_id;item_id;timeframe;eventdate\n"


def write(path: Path, rows: list[tuple[int, int, int, str]]) -> Path:
    lines = (f"{session};NA;{item};{offset};{day}\n" for session, item, offset, day in rows)
    path.write_text(HEADER + "".join(lines))
    return path


def shop() -> list[tuple[int, int, int, str]]:
    """Five early visits of items 1 and 2, and some that the protocol drops."""
    early = [(n, item, 1000 * item, "2016-05-01") for n in range(5) for item in (1, 2)]
    return [
        *early,
        (10, 1, 5, "2016-05-02"),  # a visit of one click
        (11, 1, 9_000, "2016-05-20"), (11, 2, 4_000, "2016-05-20"),  # in the last week, clicks in another order
        (12, 1, 1, "2016-05-21"), (12, 3, 2, "2016-05-21"),  # an item with fewer than five clicks
        (13, 1, 1, "2016-05-14"), (13, 2, 2, "2016-05-14"),  # seven days before the last: in neither set
        (14, 2, 1, "2016-05-21"), (14, 1, 2, "2016-05-21"),
    ]  # fmt: skip


def test_the_split_is_that_of_the_papers(tmp_path: Path):
    visits, split = diginetica.read_views(write(tmp_path / "train-item-views.csv", shop()))
    assert split == datetime(2016, 5, 14, tzinfo=UTC)
    known, test = visits.filter(pl.col("timestamp") < split), visits.filter(pl.col("timestamp") >= split)
    assert known["session_id"].unique().sort().to_list() == ["0", "1", "2", "3", "4"]
    assert test.group_by("session_id", maintain_order=True).agg("item_id").sort("session_id").rows() == [
        ("11", ["2", "1"]),
        ("14", ["2", "1"]),
    ]


def test_a_long_visit_stays_on_its_side_of_the_split(tmp_path: Path):
    rows = [*shop(), (20, 1, 1, "2016-05-13"), (20, 2, 3 * 86_400_000, "2016-05-13")]
    visits, split = diginetica.read_views(write(tmp_path / "train-item-views.csv", rows))
    assert (visits.filter(pl.col("session_id") == "20")["timestamp"] < split).all()


def test_a_prepared_split_keeps_its_visits_apart(tmp_path: Path):
    table = pl.DataFrame(
        {
            "session_id": [1, 1, 2, 2, 7, 7],
            "pos": [0, 1, 0, 1, 1, 0],
            "item_id": [5, 6, 5, 6, 6, 5],
            "split": ["train", "train", "train", "train", "test", "test"],
        }
    )
    table.write_parquet(tmp_path / "sessions.parquet")
    visits, split = diginetica.read_prepared(tmp_path / "sessions.parquet")
    assert visits.filter(pl.col("timestamp") >= split)["item_id"].to_list() == ["5", "6"]
    assert visits.filter(pl.col("timestamp") < split).height == 4
    assert visits.sort("session_id", "timestamp").equals(visits.sort("session_id", maintain_order=True))


def test_what_is_missing_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="there is none among nothing"):
        find([tmp_path], "train-item-views", "the file of item views")
    (tmp_path / "train-item-views.csv").write_text("a;b\n1;2\n")
    with pytest.raises(InputError, match="lacks session_id"):
        diginetica.read_views(tmp_path / "train-item-views.csv")
    with pytest.raises(InputError, match="no visit has two clicks"):
        diginetica.read_views(write(tmp_path / "train-item-views.csv", shop()[:2]))
