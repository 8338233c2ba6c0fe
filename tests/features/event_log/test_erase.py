import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from features.common.clock import micros
from features.common.errors import InputError
from features.event_log import partitions
from features.event_log.erase import Erasure, erase, erase_client
from features.event_log.identity_links import merge_client
from features.event_log.ingestion import compaction
from features.event_log.ingestion.ingest import IngestReport, ParsedBatch, ingest
from features.event_log.log import EventLog
from features.event_log.schema import EVENT_SCHEMA, LINK_SCHEMA, REJECTED_SCHEMA, conform
from features.tables.build import build_from_events
from usual.cli import app

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

# (customer, client): Ann has a phone of her own and shares the tablet with Bob; her laptop is known by its token.
VISITS = [
    ("ann-17", "ann-phone"), (None, "ann-phone"), ("ann-17", "tablet-5"), ("bob-23", "tablet-5"), (None, "tablet-5"),
    (None, "ann-laptop"), ("bob-23", "bob-phone"), (None, "bob-phone"), ("cyd-42", None), ("ann-17", None),
]  # fmt: skip
LINKS = [
    ("email", "token-ann", None, "ann-17"), ("email", "token-ann", "ann-laptop", None),
    ("email", "token-bob", "bob-phone", "bob-23"), ("payment", "token-ann-card", "tablet-5", "ann-17"),
    ("payment", "token-ann-card", "tablet-5", None),
]  # fmt: skip
RAWS = [
    {"user": "ann-17", "note": ""}, {"user": "bob-23"}, {"text": "paid by (ann-17), thanks"}, {"device": "ann-phone"},
    {"user": "ann-170"}, {"_unparsed": '{"user": "ann-17", '}, {"nested": {"users": ["bob-23", "ann-17"]}},
]  # fmt: skip
ANN = ("ann-17", "ann-phone", "ann-laptop", "token-ann", "token-ann-card")


def source(visits: list[tuple[str | None, str | None]] = VISITS, days: int = 8) -> ParsedBatch:
    """Every visit on each of some days, as a view and a purchase."""
    rows = [
        {
            "event_id": f"{name}-{day}-{VISITS.index(v)}", "name": name, "customer_id": v[0], "client_id": v[1],
            "timestamp": NOON + timedelta(days=day, minutes=VISITS.index(v)), "item_id": f"i{day % 3}",
            "quantity": 1.0, "price": 2.0, "order_id": f"o{day}-{VISITS.index(v)}",
        }
        for day in range(days) for v in visits for name in ("view_item", "purchase") if name == "view_item" or v[0]
    ]  # fmt: skip
    events = conform(pl.DataFrame(rows, infer_schema_length=None), EVENT_SCHEMA)
    links = pl.DataFrame([(NOON, *row) for row in LINKS], schema=LINK_SCHEMA, orient="row")
    raw = pl.DataFrame({"row": range(len(RAWS)), "raw": [json.dumps(r) for r in RAWS]})
    rejected = conform(raw.with_columns(source=pl.lit("a.csv"), reason=pl.lit("bad")), REJECTED_SCHEMA)
    return ParsedBatch(events.height + rejected.height, events, rejected, links=links)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", 40)
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 20)
    return ingest([source()], tmp_path / "log").log


def all_texts(path: Path) -> str:
    """Every text in every file under `path`, decoded."""
    texts = []
    for file in (f for f in path.rglob("*") if f.is_file()):
        texts.append(file.name)
        if file.suffix == ".parquet":
            table = pl.read_parquet(file)
            texts += [str(v) for c in table.columns for v in table[c].cast(pl.String).drop_nulls()]
            # What lies in a dictionary or in the statistics is there too.
            texts.append(str(pl.read_parquet_metadata(file)))
        else:
            texts.append(file.read_text())
    return "\n".join(texts)


def test_no_trace_of_the_customer_remains(shop: EventLog):
    erasure = erase("ann-17", shop.path)
    assert erasure == Erasure(events=8 * (6 + 3), links=4, rejected=5, clients=2, shared_clients=1)
    texts = all_texts(shop.path).replace("ann-170", "")
    assert [text for text in ANN if text in texts] == []
    assert "bob-23" in texts
    raw = b"".join(f.read_bytes() for f in shop.path.rglob("*") if f.is_file())
    assert b"ann-phone" not in raw


def test_other_customers_keep_their_rows(shop: EventLog):
    erase("ann-17", shop.path)
    event_log = EventLog.open(shop.path)
    visits = set(event_log.scan().select("customer_id", "client_id").collect().rows())
    assert visits == {("bob-23", "tablet-5"), ("bob-23", "bob-phone"), (None, "bob-phone"), ("cyd-42", None)}
    assert event_log.links()["token"].to_list() == ["token-bob"]
    assert [json.loads(r) for r in event_log.rejected()["raw"]] == [{"user": "bob-23"}, {"user": "ann-170"}]


def without_ann(path: Path) -> EventLog:
    theirs = [v for v in VISITS if v[0] in ("bob-23", "cyd-42") or v[1] == "bob-phone"]
    return ingest([source(theirs)], path).log


def test_the_tables_are_those_of_a_log_without_the_customer(shop: EventLog, tmp_path: Path):
    erase("ann-17", shop.path)
    event_log, without = EventLog.open(shop.path), without_ann(tmp_path / "without")
    assert event_log.fingerprint == without.fingerprint
    as_of = micros(NOON + timedelta(days=6))
    one, other = (build_from_events(e.scan(), shop.catalog(), as_of) for e in (event_log, without))
    for name in ("customers", "items", "history", "anonymous"):
        assert getattr(one, name).equals(getattr(other, name)), name


def erased_and_kept(report: IngestReport) -> tuple[int, dict[str, int]]:
    return report.erased, report.kept


def test_reading_the_source_again_brings_nothing_back(shop: EventLog):
    erase("ann-17", shop.path)
    before = EventLog.open(shop.path)
    report = ingest([source()], shop.path)
    assert erased_and_kept(report) == (8 * (6 + 3) + 5, {})
    assert "77  of customers who were erased" in report.text()
    assert report.log.info == before.info
    assert [text for text in ANN if text in all_texts(shop.path).replace("ann-170", "")] == []


def cut(user: str, ascii_only: bool = True) -> str:
    """The copy of a line of JSON that breaks off."""
    return json.dumps({"_unparsed": json.dumps({"n": 1, "user": user, "x": 2}, ensure_ascii=ascii_only)[:-1]})


@pytest.mark.parametrize(
    ("customer", "raws"),
    [
        ("auth0|5f7c8ec7", [
            cut("auth0|5f7c8ec7"),
            '{"_unparsed": "{\\"user\\":\\"auth0|5f7c8ec7"}', '{"_ragged": "1,auth0|5f7c8ec7,3"}',
            '{"_unparsed": "user=auth0|5f7c8ec7&n=1"}', '{"_unparsed": "{user:auth0|5f7c8ec7}"}',
        ]),
        ("café-77", [
            cut("café-77"), cut("café-77", ascii_only=False), json.dumps({"user": "café-77"}),
            '{"user": "caf\\u00E9-77"}',
            '{"_unparsed": "user caf\\\\u00E9-77 left"}', '{"note": "\\ud800", "user": "café-77"}',
        ]),
        ("urn:shop/7 b", [
            cut("urn:shop/7 b"), '{"user": "urn:shop\\/7 b"}', '{"_unparsed": "{\\"u\\": \\"urn:shop\\\\/7 b\\""}',
        ]),
    ],
)  # fmt: skip
def test_ids_of_any_spelling_are_erased_from_rejected_rows(tmp_path: Path, customer: str, raws: list[str]):
    others = [cut("auth0|5f7c8ec8"), cut("café-78"), cut("urn:shop/8 b"), '{"user": "auth0"}']
    raw = pl.DataFrame({"row": range(len(raws + others)), "raw": raws + others})
    rejected = conform(raw.with_columns(source=pl.lit("a.csv"), reason=pl.lit("bad_json")), REJECTED_SCHEMA)
    events = source([("bob-23", "bob-phone"), ("cyd-42", None)], days=1).events
    events = events.with_columns(pl.col("customer_id").replace("cyd-42", customer))
    parsed_batch = ParsedBatch(events.height + rejected.height, events, rejected)
    event_log = ingest([parsed_batch], tmp_path / "log").log
    assert erase(customer, event_log.path).rejected == len(raws)
    assert sorted(EventLog.open(event_log.path).rejected()["raw"]) == sorted(others)
    assert ingest([parsed_batch], event_log.path).erased == 2 + len(raws)
    assert sorted(EventLog.open(event_log.path).rejected()["raw"]) == sorted(others)


def test_a_shared_client_keeps_its_later_events(shop: EventLog):
    """Anonymous events of the tablet before the erasure may be Ann's; later ones cannot be."""
    erase("ann-17", shop.path)
    new = source([(None, "tablet-5"), (None, "ann-phone")], days=1)
    later = new.events.with_columns(pl.col("timestamp") + pl.duration(days=50_000), pl.col("event_id") + "-later")
    report = ingest([ParsedBatch(later.height, later)], shop.path)
    assert erased_and_kept(report) == (1, {"view_item": 1})
    assert report.log.scan_all_times().collect()["client_id"].to_list()[-1] == "tablet-5"


def test_partitions_without_the_customer_are_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(partitions, "ROWS_PER_PARTITION", 40)
    early = source(days=2).events.with_columns(pl.col("timestamp") - pl.duration(days=9), pl.col("event_id") + "-early")
    others = source([("bob-23", "bob-phone")])
    event_log = ingest([ParsedBatch(early.height, early), others], tmp_path / "log").log
    before = {p.file: (event_log.path / "events" / p.file).stat().st_ino for p in event_log.partitions}
    erase("ann-17", event_log.path)
    after = {
        p.file: (event_log.path / "events" / p.file).stat().st_ino for p in EventLog.open(event_log.path).partitions
    }
    assert len(before.items() & after.items()) == len(before) - 1 > 0


def test_an_undone_merge_is_no_link(shop: EventLog):
    merge_client("ann-phone", "bob-23", shop.path, undo=True)
    merge_client("ann-phone", "ann-17", shop.path, undo=True)
    erase("ann-17", shop.path)
    rows = EventLog.open(shop.path).scan().filter(pl.col("client_id") == "ann-phone").collect()
    assert rows["customer_id"].to_list() == [None] * 8


def test_the_last_customer_can_be_erased(tmp_path: Path):
    event_log = ingest([ParsedBatch(8, source([("cyd-42", None)], days=4).events)], tmp_path / "log").log
    erase("cyd-42", event_log.path)
    empty = EventLog.open(event_log.path)
    assert empty.scan().collect().schema == EVENT_SCHEMA
    assert empty.info["rows"] == 0
    with pytest.raises(InputError, match="holds no events any more"):
        _ = empty.first
    with pytest.raises(InputError, match="none of the 8 rows read is a usable event: 8 of customers who were erased"):
        ingest([ParsedBatch(8, source([("cyd-42", None)], days=4).events)], event_log.path)
    assert ingest([source([("bob-23", "bob-phone")])], event_log.path).log.info["rows"] == 16


def test_unknown_and_already_erased_customers(shop: EventLog):
    with pytest.raises(InputError, match="knows no customer of this id") as error:
        erase("nobody-1", shop.path)
    assert "nobody-1" not in str(error.value)
    assert not (shop.path / "erased.json").exists()
    assert not erase("ann-17", shop.path).already
    before = EventLog.open(shop.path)
    again = erase("ann-17", shop.path)
    assert again.already
    assert "already erased" in again.text()
    assert EventLog.open(shop.path) == before


def test_salts_differ_from_log_to_log(shop: EventLog, tmp_path: Path):
    ingest([source()], tmp_path / "other")
    stored = []
    for path in (shop.path, tmp_path / "other"):
        erase("ann-17", path)
        stored.append(json.loads((path / "erased.json").read_text()))
    assert not set(stored[0]["customers"]) & set(stored[1]["customers"])


def test_a_log_with_damaged_tombstones_refuses_an_ingest(shop: EventLog):
    erase("ann-17", shop.path)
    (shop.path / "erased.json").write_text("{}")
    with pytest.raises(InputError, match=r"erased.json is damaged"):
        ingest([source()], shop.path)


def pair(event_log: EventLog) -> list[str]:
    links = EventLog.open(event_log.path).links()
    return links.filter(pl.col("client_id") == "bob-phone", pl.col("customer_id") == "cyd-42")["kind"].to_list()


def test_the_later_statement_on_a_pair_counts(shop: EventLog):
    before = EventLog.open(shop.path)
    assert merge_client("bob-phone", "cyd-42", shop.path)
    assert not merge_client("bob-phone", "cyd-42", shop.path)
    assert pair(shop) == ["merge"]
    assert merge_client("bob-phone", "cyd-42", shop.path, undo=True)
    assert pair(shop) == ["unlink"]
    assert merge_client("bob-phone", "cyd-42", shop.path)
    assert pair(shop) == ["merge"]
    after = EventLog.open(shop.path)
    assert (after.fingerprint, after.info["links"]) == (before.fingerprint, before.info["links"] + 1)
    assert after.rejected().equals(before.rejected())
    assert datetime.now(UTC) - after.links()["at"].max() < timedelta(minutes=1)  # type: ignore[operator]


def test_only_known_ids_can_be_merged(shop: EventLog):
    with pytest.raises(InputError, match="no client of this id"):
        merge_client("bob-fone", "bob-23", shop.path)
    with pytest.raises(InputError, match="no customer of this id"):
        merge_client("bob-phone", "bob-24", shop.path)
    erase("ann-17", shop.path)
    with pytest.raises(InputError, match="this customer was erased"):
        merge_client("bob-phone", "ann-17", shop.path)


def test_commands(shop: EventLog):
    def run(*words: str) -> dict:
        result = CliRunner().invoke(app, [*words, "--log", str(shop.path), "--json"])
        assert result.exit_code == 0, result.output
        assert "ann" not in result.stdout
        return json.loads(result.stdout)

    assert run("merge", "ann-laptop", "bob-23") == {"changed": True, "undo": False}
    assert run("merge", "ann-laptop", "bob-23", "--undo") == {"changed": True, "undo": True}
    assert run("erase", "ann-17")["events"] == 72
    assert run("erase", "ann-17")["already"] is True


def test_what_pages_said_of_a_device_without_proof_is_erased_with_it(tmp_path: Path):
    unproven: list[tuple[str | None, str | None]] = [(None, "~ann-phone"), (None, "~tablet-5"), (None, "~other")]
    rows = [
        {"event_id": f"e{n}", "name": "view_item", "customer_id": customer, "client_id": client, "item_id": "i1",
         "timestamp": NOON + timedelta(minutes=n)}
        for n, (customer, client) in enumerate([*VISITS, *unproven])
    ]  # fmt: skip
    batch = ParsedBatch(len(rows), conform(pl.DataFrame(rows, infer_schema_length=None), EVENT_SCHEMA))
    log = ingest([batch], tmp_path / "log").log
    counts = erase("ann-17", log.path)
    assert (counts.clients, counts.shared_clients) == (1, 1)
    assert "ann-phone" not in all_texts(log.path)
    left = EventLog.open(log.path).scan().collect()["client_id"].drop_nulls().to_list()
    assert [client for client in left if client.startswith("~")] == ["~other"]
    assert ingest([batch], log.path).erased > 0
    assert "ann-phone" not in all_texts(log.path)
    assert erase_client("other", log.path).events == 1
