"""What visitors say of themselves: `preferences`, from the page to the log, and what becomes of it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_log import stated_answers
from features.event_log.ingestion.ingest import ingest
from features.event_log.log import EventLog
from features.sources import event_store as source
from features.sources import read
from features.sources.event_store import CLAIMS, EVENTS, is_postgres
from serving.event_store import EventStore, Limits, VisitorIds, open_store
from serving.event_store.protocol import AT
from tests.serving.event_bodies import ago, event_body, post_events
from tests.serving.events.test_trust import KEYS, Shop, token
from tests.serving.store_events import T, event, read_events

MOST = 60


def said(question: str | None = "brand", answer: object = "Acme", **fields: Any) -> dict[str, Any]:
    body = event_body("preferences", params={"question": question, "answer": answer, "source": "quiz"}, **fields)
    del body["params"]["items"]
    return body


def stored(url: str) -> list[tuple[Any, ...]]:
    return read_events(url).sort("event_id").select("question", "answer", "list_id", "customer_id", "client_id").rows()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Acme", '["Acme"]'),
        (["Acme", " Bo ", "Acme"], '["Acme","Bo"]'),
        ([20, 49.5], '["20","49.5"]'),
        (42, '["42"]'),
        (None, None),
        ([], None),
        (["", " "], None),
        ("write to a@example.org", '["write to [redacted]"]'),
    ],
)
def test_an_answer_is_one_row_of_the_log(event_server, sqlite_url: str, answer: object, text: str | None):
    assert post_events(event_server, said(answer=answer)).json()["accepted"] == 1
    ((question, kept, where, customer, client),) = stored(sqlite_url)
    if text and "[redacted]" in text:
        assert "example.org" not in kept
        assert kept.startswith('["write to ')
    else:
        assert kept == text
    assert (question, where, customer, client) == ("brand", "quiz", None, "d1")


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"question": None}, "/params/question"),
        ({"question": ""}, "/params/question"),
        ({"question": "brand", "answer": [str(n) for n in range(11)]}, "/params/answer"),
        ({"question": "brand", "answer": {"a": 1}}, "/params/answer"),
        ({"question": "brand", "answer": [["a"]]}, "/params/answer"),
        ({"question": "brand", "answer": "x" * 257}, "/params/answer"),
        ({"question": "x" * 257, "answer": "x"}, "/params/question"),
        ({"question": "brand", "answer": "a\0b"}, "/params/answer"),
    ],
)
def test_answers_that_are_none_are_rejected(event_server, params: dict[str, object], pointer: str):
    body = said()
    body["params"] = params
    response = post_events(event_server, body, said())
    assert response.json()["accepted"] == 1
    (rejected,) = response.json()["rejected"]
    assert rejected["pointer"].startswith(f"/events/0{pointer}")


def test_who_refuses_consent_says_nothing(event_server, sqlite_url: str):
    post_events(event_server, said(consent=False, customer_id="u1"))
    call = {"type": "track", "event": "Preferences Given", "userId": "u1", "anonymousId": "d1",
            "timestamp": ago(hours=1),
            "context": {"consent": {"categoryPreferences": {"Ads": False}}},
            "properties": {"question": "brand", "answer": "Acme"}}  # fmt: skip
    assert event_server.client.post("/v1/events/segment", json=call).status_code == 202
    assert {row[:2] + row[3:] for row in stored(sqlite_url)} == {(None, None, None, None)}


def test_a_page_speaks_for_its_device_and_for_whom_it_proves(serve: Callable, fake: type, tmp_path: Path):
    url = str(tmp_path / "events.sqlite")
    server = serve(fake(), store=open_store(url, Limits(write_s=5)), visit_budget_ms=5000, **KEYS)
    shop = Shop(server, url)
    device = shop.device()
    shop.page(said(client_id=device, customer_id="u1"))
    shop.page(said("size", "M", client_id=device, customer_id="u2"), token=token("u2"))
    shop.page(said("color", "red", client_id="guessed", customer_id="u3"))
    rows = {question: (customer, client) for question, _, _, customer, client in stored(url)}
    assert rows == {"brand": (None, device), "size": ("u2", device), "color": (None, "~guessed")}


def test_calls_of_segment(event_server, sqlite_url: str):
    def call(answer: object, message: str, **properties: object) -> dict[str, object]:
        return {"type": "track", "event": "Preferences Given", "anonymousId": "d1", "messageId": message,
                "timestamp": ago(hours=1),
                "properties": {"question": "brand", "answer": answer, "source": "chat"} | properties}  # fmt: skip

    calls = [call("Acme", "m1"), call(["A", "B"], "m2"), call(None, "m3"), call("x", "m4", question=None)]
    body = event_server.client.post("/v1/events/segment", json={"batch": calls}).json()
    assert body["accepted"] == 3
    assert [(r["index"], r["code"]) for r in body["rejected"]] == [(3, "missing_question")]
    rows = read_events(sqlite_url).sort("event_id")
    assert [stated_answers.decode(a) for a in rows["answer"]] == [("Acme",), ("A", "B"), ()]
    assert rows["list_id"].to_list() == ["chat"] * 3


def test_answers_come_with_the_visit_however_long_it_is(store: EventStore):
    answers = [event("preferences", T + n, None, question=f"q{n}", answer="[]") for n in range(3)]
    views = [event("view_item", T + 10 + n % 80) for n in range(MOST)]
    other = event("preferences", T + 5, None, question="brand", answer='["A"]', client_id="d2")
    later = event("preferences", T + 100, None, question="late", answer='["A"]')
    store.append([*answers, *views, other, later]).result(5)
    (visit,) = store.visits([VisitorIds(None, "d1")], T, T + 100, 5, MOST - 10)
    assert [e.question for e in visit if e.name == "preferences"] == ["q0", "q1", "q2"], "half-open, d1 alone"
    assert sum(e.name == "view_item" for e in visit) == MOST - 10
    assert store.visits([VisitorIds(None, "d1")], T, T, 5) == [[]]
    (visit,) = store.visits([VisitorIds(None, "d1")], T + 1, T + 3, 5)
    assert [(e.t, e.question, e.answer) for e in visit] == [(T + 1, "q1", "[]"), (T + 2, "q2", "[]")]


def test_after_login_the_answers_of_the_device_are_the_customers(store: EventStore):
    store.append([event("preferences", T, None, question="brand", answer='["A"]')]).result(5)
    store.append([event("login", T + 1, None, client_id="d1", customer_id="u1")]).result(5)
    (visit,) = store.visits([VisitorIds("u1", None)], T, T + 2, 5)
    assert [e.question for e in visit] == ["brand"]


def test_erasure_and_export(store: EventStore, url: str, tmp_path: Path):
    own = [event("preferences", T, None, question="brand", answer='["A"]', customer_id=c) for c in ("u1", "u2")]
    store.append(own).result(5)
    store.erase("u1").result(5)
    log = ingest(source.read(url), tmp_path / "log").log
    assert log.scan().select("customer_id", "question", "answer").collect().rows() == [("u2", "brand", '["A"]')]


def test_a_store_of_before_gets_the_columns(open_: Callable[..., EventStore], url: str):
    store = open_()
    store.append([event()]).result(5)
    store.close()
    for table in (EVENTS, CLAIMS):
        for column in ("question", "answer"):
            execute(url, f"ALTER TABLE {table} DROP COLUMN {column}")
    assert read_events(url).select("question", "answer").rows() == [(None, None)], "also before a server has opened it"
    store = open_()
    store.append([event("preferences", T + 1, None, question="brand", answer='["A"]')]).result(5)
    assert set(read_events(url)["question"].to_list()) == {None, "brand"}
    (visit,) = store.visits([VisitorIds(None, "d1")], T, T + 2, 5)
    assert [(e.name, e.question) for e in visit] == [("view_item", None), ("preferences", "brand")]


def execute(url: str, statement: str) -> None:
    if is_postgres(url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())
    else:
        with sqlite3.connect(url) as connection:
            connection.execute(statement)
        connection.close()


def test_files(tmp_path: Path):
    lines = tmp_path / "answers.csv"
    lines.write_text(
        "event_id,name,timestamp,client_id,question,answer\n"
        "a,preferences,2026-01-01T00:00:00Z,d1,brand,Acme\n"
        "b,preferences,2026-01-01T00:00:01Z,d1,size,\"[\"\"M\"\",\"\"L\"\"]\"\n"
        "c,preferences,2026-01-01T00:00:02Z,d1,brand,\n"
    )  # fmt: skip
    log = ingest(read("events", [lines]), tmp_path / "log").log
    rows = log.scan().select("event_id", "question", "answer").collect().rows()
    assert [(i, q, stated_answers.decode(a)) for i, q, a in rows] == [
        ("a", "brand", ("Acme",)), ("b", "size", ("M", "L")), ("c", "brand", ()),
    ]  # fmt: skip


def test_a_log_of_before_is_read_and_added_to(tmp_path: Path):
    def batch(name: str, answer: str = "") -> Any:
        file = tmp_path / f"{name}.csv"
        file.write_text(
            f"event_id,name,timestamp,client_id,item_id,question,answer\n{name},"
            f"{'preferences' if answer else 'view_item'},2026-01-0{len(name)}T00:00:00Z,d1,i1,brand,{answer}\n"
        )
        return read("events", [file])

    log = ingest(batch("a"), tmp_path / "log").log
    (part,) = log.partitions
    file = log.path / "events" / part.file
    pl.read_parquet(file).drop("question", "answer").write_parquet(file)
    manifest = log.path / "log.json"
    manifest.write_text(manifest.read_text().replace('"format": 4', '"format": 3'))
    old = EventLog.open(log.path)
    assert old.scan().select("question", "answer").collect().rows() == [(None, None)]
    new = ingest(batch("bb", "Acme"), log.path).log
    assert new.info["format"] == 4
    assert new.scan().select("event_id", "answer").collect().rows() == [("a", None), ("bb", "Acme")]


@given(st.lists(st.one_of(st.text(max_size=20), st.integers(), st.floats(allow_nan=False, allow_infinity=False))))
def test_answers_survive_their_encoding(answers: list[str | int | float]):
    texts = list(dict.fromkeys(t for t in (stated_answers.plain(a) for a in answers) if t))
    assert stated_answers.decode(stated_answers.encode(answers)) == tuple(texts[: stated_answers.MAX_ANSWERS])


@given(st.text())
def test_any_text_can_be_decoded(text: str):
    assert len(stated_answers.decode(text)) <= stated_answers.MAX_ANSWERS


def test_rows_of_events_have_the_columns_last():
    assert [*AT][-2:] == ["question", "answer"], "hashes of events of before do not change"
