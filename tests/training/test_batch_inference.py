"""Batch inference: reading customers, ranking for them, writing the result."""

from pathlib import Path

import polars as pl
import pytest

from features.common.errors import InputError
from models.bundle import Bundle
from models.interface import RankingRequest
from models.recommender import BundleRecommender
from training import batch_inference


def test_batch_inference_ranks_as_the_server_does(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_inference, "BATCH", 7)
    customers = [*bundle.snapshot.customers.values.to_pylist()[:20], "nobody"]
    table = batch_inference.recommend(bundle, customers, 6)
    rankings = BundleRecommender(bundle).recommend([RankingRequest(6, c) for c in customers])
    assert table["customer_id"].to_list() == [c for c in customers for _ in range(6)]
    assert table["rank"].to_list() == [1, 2, 3, 4, 5, 6] * 21
    assert table["item_id"].to_list() == [i for r in rankings for i in r.item_ids]
    assert table["score"].to_list() == [s for r in rankings for s in r.scores]


def test_customers_are_read_from_parquet_csv_and_text(bundle: Bundle, tmp_path: Path):
    table = pl.DataFrame({"customer_id": ["007", "b", None, "b"], "more": [1, 2, 3, 4]})
    table.write_parquet(tmp_path / "a.parquet")
    table.write_csv(tmp_path / "a.csv")
    (tmp_path / "a.txt").write_text("007\n\n b \nb\n")
    for name in ("a.parquet", "a.csv", "a.txt"):
        assert batch_inference.read_customers(tmp_path / name, bundle) == ["007", "b"]
    assert batch_inference.read_customers(None, bundle) == bundle.snapshot.customers.values.to_pylist()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"customer\n1\n", "has no column customer_id; name one so. Its columns: customer"),
        ("a.csv", b"customer_id\n", "holds no customer id"),
        ("a.txt", b"\n \n", "holds no customer id"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.parquet", b"PAR", "cannot be read"),
        ("a.txt", None, "cannot be read"),
    ],
)
def test_an_input_without_customers_is_refused(
    bundle: Bundle, tmp_path: Path, name: str, content: bytes | None, message: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        batch_inference.read_customers(tmp_path / name, bundle)


def test_the_file_name_decides_the_output_format(bundle: Bundle, tmp_path: Path):
    table = batch_inference.recommend(bundle, ["nobody"], 2)
    for name, read in (("deep/a.parquet", pl.read_parquet), ("deep/a.csv", pl.read_csv)):
        batch_inference.write(table, tmp_path / name)
        assert read(tmp_path / name)["item_id"].to_list() == table["item_id"].to_list()
    with pytest.raises(InputError, match=r"must end in .parquet or .csv"):
        batch_inference.write(table, tmp_path / "a.xlsx")
