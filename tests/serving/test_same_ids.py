"""One id is one id, whichever way it comes in."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import polars as pl
import pytest

from features.common.ids import normalize_id
from features.event_log.ingestion.ingest import ingest
from features.sources import events_file, ga4, segment
from features.sources.customer_ids import read_customer_ids
from models.pyfunc import UsualModel
from serving.events.validate import validate_events
from serving.schemas.items import ItemUpdate
from serving.schemas.recommendations import RecommendationRequest

UGLY = [
    "c1", " c2 ", "777.0", "888.00", "\ufeffc3", "c4\u00a0", "\u200bc5", "'00042", "Zoe\u0308", "00043", "a/b",
    "12,0", "NULL", "nan",
    "None", "undefined", "\\N", "(not set)", "N/A", "<NA>", "nil", "#N/A", "(null)", "[object Object]", "0", "0.0",
    "-", "--",
    "guest", "Anonymous", "unknown", "not set", "00000000-0000-0000-0000-000000000000", "9007199254740993",
]  # fmt: skip
AT, NOW = "2026-01-05T10:00:00Z", 1_767_607_200_000_000
CUSTOMERS = [normalize_id(text, "customer") for text in UGLY]
ITEMS = [normalize_id(text, "item") for text in UGLY]


def by_client(events: pl.DataFrame, column: str) -> list[str | None]:
    ids = dict(events.select("client_id", column).iter_rows())
    return [ids.get(f"d{n}") for n in range(len(UGLY))]


def read_all(batches) -> pl.DataFrame:
    return pl.concat([batch.events for batch in batches])


def rows(item: bool) -> list[dict[str, str]]:
    """A search each, or where it is the items that are ugly, a view."""
    return [
        {
            "name": "view_item" if item else "search",
            "timestamp": AT,
            "client_id": f"d{n}",
            "item_id" if item else "customer_id": text,
        }
        for n, text in enumerate(UGLY)
    ]


def from_csv(folder: Path, item: bool) -> pl.DataFrame:
    with (folder / "e.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows(item)[0])
        writer.writeheader()
        writer.writerows(rows(item))
    return read_all(events_file.read([folder / "e.csv"], None))


def from_json_lines(folder: Path, item: bool) -> pl.DataFrame:
    (folder / "e.jsonl").write_text("\n".join(map(json.dumps, rows(item))))
    return read_all(events_file.read([folder / "e.jsonl"], None))


def from_parquet(folder: Path, item: bool) -> pl.DataFrame:
    pl.DataFrame(rows(item)).write_parquet(folder / "e.parquet")
    return read_all(events_file.read([folder / "e.parquet"], None))


def from_ga4(folder: Path, item: bool) -> pl.DataFrame:
    lines = [
        {"event_name": r["name"], "event_timestamp": str(NOW), "user_pseudo_id": r["client_id"],
         "user_id": r.get("customer_id"),
         "items": [{"item_id": r["item_id"]}] if item else []}
        for r in rows(item)
    ]  # fmt: skip
    (folder / "g.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_all(ga4.read([folder / "g.jsonl"]))


def from_segment(folder: Path, item: bool) -> pl.DataFrame:
    lines = [
        {"type": "track", "event": "Product Viewed" if item else "Products Searched",
         "messageId": f"m{r['client_id']}", "timestamp": AT,
         "anonymousId": r["client_id"], "userId": r.get("customer_id"), "properties": {"product_id": r.get("item_id")}}
        for r in rows(item)
    ]  # fmt: skip
    (folder / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_all(segment.read([folder / "s.jsonl"]))


def from_http(_: Path, item: bool) -> pl.DataFrame:
    bodies = [
        {"event_id": f"e{n}", "name": r["name"], "client_id": r["client_id"], "customer_id": r.get("customer_id"),
         "params": {"items": [{"item_id": r["item_id"]}] if item else []}}
        for n, r in enumerate(rows(item))
    ]  # fmt: skip
    stored = [
        dict(zip(events_file.EVENT_SCHEMA, row, strict=True))
        for e in validate_events(bodies, NOW).events
        for row in e.rows
    ]
    return pl.DataFrame([{c: r[c] for c in ("client_id", "customer_id", "item_id")} for r in stored])


WAYS = [from_csv, from_json_lines, from_parquet, from_ga4, from_segment, from_http]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_ids_of_events_are_the_same(way, tmp_path: Path):
    assert by_client(way(tmp_path, item=False), "customer_id") == CUSTOMERS
    assert by_client(way(tmp_path, item=True), "item_id") == ITEMS


def test_ids_of_requests_are_the_same():
    requests = [RecommendationRequest.model_validate({"customer_id": text, "session_id": "s"}) for text in UGLY]
    assert [r.customer_id for r in requests] == CUSTOMERS
    items = [text for text in UGLY if normalize_id(text, "item")]
    context = RecommendationRequest.model_validate({"session_id": "s", "context": {"item_ids": items}}).context
    assert context.item_ids == [normalize_id(text, "item") for text in items]
    assert [
        ItemUpdate.model_validate({"item_id": text, "available": True}).item_id for text in items
    ] == context.item_ids


def test_ids_of_a_customer_list_are_the_same(tmp_path: Path):
    with (tmp_path / "c.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["customer_id", "n"], *([text, n] for n, text in enumerate(UGLY))])
    assert read_customer_ids(tmp_path / "c.csv") == list(dict.fromkeys(filter(None, CUSTOMERS)))


def test_ids_of_a_catalog_are_the_same(tmp_path: Path):
    from_csv(tmp_path, item=True)
    items = [text for text in UGLY if normalize_id(text, "item")]
    with (tmp_path / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["item_id", "title"], *([text, f"t{n}"] for n, text in enumerate(items))])
    (tmp_path / "m.yml").write_text("catalog: items.csv\n")
    log = ingest(events_file.read([tmp_path / "e.csv"], tmp_path / "m.yml"), tmp_path / "log").log
    titled = log.catalog().filter(pl.col("title").is_not_null())["item_id"].to_list()
    assert titled == sorted({i for text in items if (i := normalize_id(text, "item"))})


def ask(frame: pd.DataFrame) -> list[str | None]:
    """The customers that the model is asked for."""
    asked: list[str | None] = []

    def recommend(requests):
        asked.extend(r.customer_id for r in requests)
        return [SimpleNamespace(item_ids=[], scores=[], strategy="s") for _ in requests]

    model = UsualModel()
    model.recommender = SimpleNamespace(recommend=recommend)  # type: ignore[assignment]
    model.predict(None, frame)
    return asked


def test_ids_in_a_models_input_are_the_same():
    assert ask(pd.DataFrame({"customer_id": UGLY})) == CUSTOMERS


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, float("nan")], ["1", None]),
        (["c1", None], ["c1", None]),
        (pd.array([1, None], dtype="Int64"), ["1", None]),
        ([1, "a", None, 2.0], ["1", "a", None, "2"]),
        ([], []),
    ],
)
def test_a_models_input_may_be_numbers(column, expected):
    assert ask(pd.DataFrame({"customer_id": column})) == expected


@pytest.mark.parametrize("number", [777, 777.0])
def test_a_number_in_json_is_the_id_that_its_text_is(number, tmp_path: Path):
    (tmp_path / "e.jsonl").write_text(json.dumps({"name": "search", "timestamp": AT, "customer_id": number}))
    assert read_all(events_file.read([tmp_path / "e.jsonl"], None))["customer_id"].to_list() == ["777"]
    event = {"event_id": number, "name": "search", "customer_id": number, "client_id": "d"}
    (stored,) = validate_events([event], NOW).events
    assert dict(zip(events_file.EVENT_SCHEMA, stored.rows[0], strict=True))["customer_id"] == "777"
    assert RecommendationRequest.model_validate({"customer_id": number}).customer_id == "777"


@pytest.mark.parametrize("word", ["undefined", "(not set)", "NULL", "0", "-", ""])
def test_an_order_without_an_id_makes_no_other_one_a_duplicate(word: str):
    bought = [
        {"event_id": f"e{n}", "name": "purchase", "customer_id": f"c{n}",
         "params": {"transaction_id": word, "items": [{"item_id": "p", "price": 1}]}}
        for n in range(2)
    ]  # fmt: skip
    assert [event.order_key for event in validate_events(bought, NOW).events] == [None, None]


def test_what_stands_for_nobody_is_nobody():
    event = {"event_id": "e", "name": "search", "customer_id": "undefined", "client_id": "null"}
    (rejected,) = validate_events([event], NOW).rejected
    assert rejected.code == "no_customer_or_client"
    (rejected,) = validate_events([event | {"customer_id": "6.71235E+12"}], NOW).rejected
    assert (rejected.code, rejected.pointer) == ("scientific_id", "/events/0/customer_id")
    with pytest.raises(ValueError, match="no word such as null"):
        RecommendationRequest.model_validate({"customer_id": "undefined"})
