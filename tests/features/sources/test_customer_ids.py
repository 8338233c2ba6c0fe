import codecs
import gzip
import resource
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from features.sources.customer_ids import read_customer_ids


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("seeds.csv", lambda path: path.write_text("why,customer_id\nvip,007\nvip,c2\nvip,007\n")),
        ("seeds.txt", lambda path: path.write_text("007\n\n  c2 \n")),
        ("seeds.parquet", lambda path: pl.DataFrame({"customer_id": ["007", "c2", None]}).write_parquet(path)),
        ("seeds.jsonl", lambda path: path.write_text('{"customer_id": "007"}\n{"customer_id": "c2", "x": 1}\n')),
        ("seeds.csv", lambda path: path.write_text("\ufeffcustomer_id\n007\nc2\n")),
        ("seeds.txt", lambda path: path.write_text("\ufeff007\nc2\n")),
        ("seeds.txt", lambda path: path.write_bytes(codecs.BOM_UTF16_LE + "007\r\nc2\r\n".encode("utf-16-le"))),
        ("seeds.csv", lambda path: path.write_text("Customer ID\n007\nc2\n")),
        ("seeds.txt", lambda path: path.write_text("Customer ID\n007\nc2\n")),
        ("seeds.csv", lambda path: path.write_text("customer_id;name\n007;x\nc2;y\n")),
        ("seeds.csv", lambda path: path.write_text("007\nc2\n")),
        ("seeds", lambda path: path.write_text("007\nc2\n")),
        ("seeds.list", lambda path: path.write_text('"007"\n"c2"\n')),
        ("seeds.csv", lambda path: path.write_text("customer_id\n 007\nc2\u00a0\n\nNULL\n")),
        ("seeds.csv.gz", lambda path: path.write_bytes(gzip.compress(b"customer_id\r007\rc2\r"))),
    ],
)
def test_ids_are_read_once_each_in_the_order_of_the_file(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    write(tmp_path / name)
    assert read_customer_ids(tmp_path / name) == ["007", "c2"]


def test_whole_numbers_are_one_id_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer_id\n42.0\n42\n  a/b \n")
    assert read_customer_ids(tmp_path / "a.csv") == ["42", "a/b"]
    pl.DataFrame({"customer_id": [42.0, 7.0]}).write_parquet(tmp_path / "a.parquet")
    assert read_customer_ids(tmp_path / "a.parquet") == ["42", "7"]


def test_errors_name_the_file_and_its_role(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    with pytest.raises(InputError, match=r"the list of seeds .*seeds\.csv cannot be read: does not exist"):
        read_customer_ids(path, "the list of seeds")
    path.write_text("customer\nc1\n")
    with pytest.raises(InputError, match=r"seeds\.csv has no column customer_id; name one so\. Its columns: customer"):
        read_customer_ids(path, "the list of seeds")
    path.write_text("customer_id\n")
    with pytest.raises(InputError, match=r"the list of seeds .*seeds\.csv holds no customer id"):
        read_customer_ids(path, "the list of seeds")
    path.write_text("")
    with pytest.raises(InputError, match=r"the list of seeds .*seeds\.csv cannot be read: it is empty"):
        read_customer_ids(path, "the list of seeds")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name;mail\nx;1\n", r"has no column customer_id; name one so\. Its columns: name, mail"),
        ("customer_id\n6.71235E+12\n", r"has the customer id 6\.71235E\+12: .*export the column as text"),
        ('customer_id,n\n"1,x\n2,y\n', 'has a line with a quote that does not close: "1,x'),
        ("<html><body>Login</body></html>", "is a web page"),
    ],
)
def test_what_would_lose_customers_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_customer_ids(tmp_path / "a.csv")


def test_a_small_file_of_many_equal_rows_is_read_in_bounded_memory(tmp_path: Path):
    """A few kilobytes of Parquet that hold gigabytes of text."""
    path = tmp_path / "equal.parquet"
    long, rows = "c" * 500, 2_000_000
    column = pl.Series("customer_id", [long], pl.String).cast(pl.Categorical).new_from_index(0, rows)
    pl.DataFrame([column]).write_parquet(path, row_group_size=rows)
    assert path.stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_customer_ids(path) == [long]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000, "kilobytes"
