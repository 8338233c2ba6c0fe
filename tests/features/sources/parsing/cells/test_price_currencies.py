from pathlib import Path

import pytest

from features.event_log.ingestion.ingest import ParsedBatch
from features.sources import events_file

HEADER = "name,timestamp,customer_id,item_id,quantity,price,currency\n"
PRICES = [
    ("$12", ""), ("12", "$"), ("US$12", "EUR"), ("12 kr", ""), ("12", "12"), ("12", "EUR"), ("$12", "EUR"),
    ("$5", "USD"), ("12 €", ""), ("¥7", "CNY"),
]  # fmt: skip


def read(tmp_path: Path, mapping: str, prices: list[tuple[str, str]]) -> ParsedBatch:
    rows = (f"purchase,2026-01-05,c,A,1,{price},{currency}\n" for price, currency in prices)
    (tmp_path / "e.csv").write_text(HEADER + "".join(rows))
    (tmp_path / "m.yml").write_text(mapping)
    (parsed,) = events_file.read([tmp_path / "e.csv"], tmp_path / "m.yml")
    assert parsed.rows_read == parsed.events.height + parsed.rejected.height
    return parsed


@pytest.mark.parametrize(
    ("mapping", "amounts", "rejected"),
    [
        (
            "currency: EUR\nrates: {USD: 0.9, CNY: 0.1}", [12, 4.5, 12, 0.7],
            {0: "no_rate_for_currency", 1: "no_rate_for_currency", 2: "bad_currency", 3: "no_rate_for_currency",
             4: "bad_currency", 6: "bad_currency"},
        ),
        (
            "currency: USD\nrates: {EUR: 2}", [12, 12, 24, 5, 24],
            {2: "bad_currency", 3: "no_rate_for_currency", 4: "bad_currency", 6: "bad_currency",
             9: "no_rate_for_currency"},
        ),
    ],
)  # fmt: skip
def test_a_currency_that_cannot_be_the_logs_is_not_taken_for_it(
    tmp_path: Path, mapping: str, amounts: list[float], rejected: dict[int, str]
):
    parsed = read(tmp_path, mapping, PRICES)
    assert parsed.events["price"].round(2).to_list() == amounts
    assert dict(parsed.rejected.select("row", "reason").iter_rows()) == rejected


def test_without_a_currency_signs_are_told(tmp_path: Path):
    parsed = read(tmp_path, "", [("$12", ""), ("12", "kr"), ("12", "978"), ("12", "")])
    assert parsed.events["currency"].to_list() == [None, None, None]
    assert parsed.rejected.select("row", "reason").rows() == [(2, "bad_currency")]
    assert any("2 prices are in $ or kr" in note for note in parsed.notes)


def test_rows_without_a_price_need_no_currency(tmp_path: Path):
    (tmp_path / "e.csv").write_text("name,timestamp,customer_id,item_id,price,currency\nview_item,2026-01-05,c,A,,12\n")
    (parsed,) = events_file.read([tmp_path / "e.csv"])
    assert parsed.events.height == 1


def test_a_quantity_has_no_currency(tmp_path: Path):
    (tmp_path / "e.csv").write_text(HEADER + "purchase,2026-01-05,c,A,3 USD,1,\npurchase,2026-01-05,c,A,3,1,\n")
    (parsed,) = events_file.read([tmp_path / "e.csv"])
    assert parsed.rejected.select("row", "reason").rows() == [(0, "bad_quantity")]


def test_signs_with_a_dollar_in_them_are_of_one_currency(tmp_path: Path):
    parsed = read(tmp_path, "currency: BRL", [("R$ 12", ""), ("12", "R$"), ("R$ 12", "BRL")])
    assert parsed.events["price"].to_list() == [12, 12, 12]
