from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.event_log.customer_ids import read_customer_ids


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("seeds.csv", lambda path: path.write_text("why,customer_id\nvip,007\nvip,c2\nvip,007\n")),
        ("seeds.txt", lambda path: path.write_text("007\n\n  c2 \n")),
        ("seeds.parquet", lambda path: pl.DataFrame({"customer_id": ["007", "c2", None]}).write_parquet(path)),
    ],
)
def test_ids_are_read_once_each_in_the_order_of_the_file(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    write(tmp_path / name)
    assert read_customer_ids(tmp_path / name) == ["007", "c2"]


def test_errors_name_the_file_and_its_role(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    with pytest.raises(InputError, match=r"the list of seeds .*seeds\.csv cannot be read"):
        read_customer_ids(path, "the list of seeds")
    path.write_text("customer\nc1\n")
    with pytest.raises(InputError, match=r"seeds\.csv has no column customer_id; it has customer"):
        read_customer_ids(path, "the list of seeds")
    path.write_text("customer_id\n")
    with pytest.raises(InputError, match=r"the list of seeds .*seeds\.csv holds no customer id"):
        read_customer_ids(path, "the list of seeds")
