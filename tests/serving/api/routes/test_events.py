"""Routes that write events, over HTTP and on a SQLite store; the stores have tests of their own."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.common.clock import now
from features.event_log.schema import EVENT_SCHEMA, ROW, TIDY_RULES, TIMESTAMP, validate
from serving.event_store import Limits, open_store
from serving.event_store.protocol import COLUMNS
from serving.events.validate import validate_events
from serving.schemas.events import EventsResponse
from tests.serving.event_bodies import ago, event_body, post_events
from tests.serving.store_events import read_events

NOW = now()


def test_a_purchase_is_stored_as_rows_of_the_log(event_server, sqlite_url: str):
    event = event_body(
        "purchase", timestamp=ago(hours=1), customer_id="u_91", session_id=" s7 ", consent=True, source="email",
        recommendation_id="rec_1", device="mobile", country="DE",
        params={"transaction_id": "T1", "value": 59.9, "affiliation": "unread", "items": [
            {"item_id": "p1", "item_list_id": "home.for_you", "index": 1, "price": 29.95, "quantity": 2, "coupon": "X"},
            {"item_id": 17, "price": 3, "currency": "usd"}]},
    )  # fmt: skip
    response = post_events(event_server, event)
    assert (response.status_code, response.json()) == (
        202,
        {"accepted": 1, "duplicates": 0, "unproven": 0, "claims": 0, "rejected": []},
    )
    first, second = read_events(sqlite_url).sort("item_id", descending=True).rows(named=True)
    assert datetime.now(UTC) - first.pop("received_at") < timedelta(seconds=20)
    assert first == {
        "event_id": event["event_id"], "name": "purchase", "timestamp": datetime.fromisoformat(event["timestamp"]),
        "customer_id": "u_91", "client_id": "d1", "session_id": "s7", "item_id": "p1", "quantity": 2.0,
        "price": 29.95, "currency": "EUR", "order_id": "T1", "query": None, "list_id": "home.for_you", "position": 1,
        "recommendation_id": "rec_1", "source": "email", "device": "mobile", "country": "DE", "consent": True,
        "question": None, "answer": None,
    }  # fmt: skip
    assert [second[c] for c in ("item_id", "quantity", "price", "currency", "list_id")] == ["17", 1.0, 3.0, "USD", None]


def test_wrong_events_are_reported_and_the_others_stored(event_server, sqlite_url: str):
    def of(item: dict[str, object], name: str = "view_item") -> dict[str, Any]:
        return event_body(name, params={"items": [item]})

    wrong: dict[str, tuple[object, str, str]] = {
        "": (7, "", "bad_event"),
        "who": (event_body(client_id=None, session_id="s"), "", "no_customer_or_client"),
        "id": ({k: v for k, v in event_body().items() if k != "event_id"}, "/event_id", "missing_event_id"),
        "typo": (event_body(user="u"), "/user", "unknown_field"),
        "currency": (event_body(params={"currency": "euro"}), "/params/currency", "bad_currency"),
        "price": (of({"item_id": "p", "price": -1}), "/params/items/0/price", "bad_price"),
        "pieces": (of({"item_id": "p", "quantity": 0}), "/params/items/0/quantity", "bad_quantity"),
        "no item": (event_body(params={"items": []}), "/params/items", "missing_item_id"),
        "unpaid": (of({"item_id": "p"}, name="purchase"), "/params/items/0/price", "missing_quantity_or_price"),
        "absurd": (of({"item_id": "p", "price": 1e12, "quantity": 1e9}), "/params/items", "absurd_amount"),
        "mail": (event_body(customer_id="jane@example.org"), "/customer_id", "email_as_id"),
        "zero byte": (event_body(session_id="a\0b"), "/session_id", "bad_text"),
        "time": (event_body(timestamp="yesterday"), "/timestamp", "bad_timestamp"),
        "number": (event_body(timestamp=1700000000), "/timestamp", "bad_timestamp"),
        "before year 1": (event_body(timestamp="0001-01-01T00:00:00+01:00"), "/timestamp", "bad_timestamp"),
        "after year 9999": (event_body(timestamp="9999-12-31T23:59:59-01:00"), "/timestamp", "bad_timestamp"),
        "old": (event_body(timestamp=ago(days=31)), "/timestamp", "too_old"),
        "ahead": (event_body(timestamp=ago(minutes=-11)), "/timestamp", "too_far_ahead"),
        "long": (event_body(session_id="x" * 257), "/session_id", "bad_session_id"),
        "name": (event_body("view item"), "/name", "bad_name"),
    }  # fmt: skip
    good = event_body()
    response = post_events(event_server, *(event for event, *_ in wrong.values()), good).json()
    EventsResponse.model_validate(response)
    expected = [(n, f"/events/{n}{place}", code) for n, (_, place, code) in enumerate(wrong.values())]
    assert [(r["index"], r["pointer"], r["code"]) for r in response["rejected"]] == expected
    assert response["accepted"] == 1
    assert read_events(sqlite_url)["event_id"].to_list() == [good["event_id"]]
    assert "jane" not in json.dumps(response)


def test_only_wrong_events_are_a_422(event_server):
    response = post_events(event_server, event_body(params={"currency": "€"}), 5)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [(e["pointer"], e["code"]) for e in response.json()["errors"]] == [
        ("/events/0/params/currency", "bad_currency"), ("/events/1", "bad_event"),
    ]  # fmt: skip


@pytest.mark.parametrize("body", [{}, {"events": []}, {"events": [{}] * 1001}, {"events": {}}, [], {"event": [{}]}])
def test_a_body_of_another_shape_is_a_422(event_server, body: object):
    response = event_server.client.post("/v1/events", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_unknown_names_are_stored_and_addresses_are_not(event_server, sqlite_url: str):
    search = event_body("view_search_results", params={"search_term": "mail jane@example.org", "items": []})
    assert (
        post_events(event_server, event_body("tea_brewed"), search, event_body("login", params={"items": []})).json()[
            "accepted"
        ]
        == 3
    )
    rows = read_events(sqlite_url)
    assert rows["name"].to_list() == ["tea_brewed", "search", "login"]
    assert rows["query"].to_list() == [None, "mail [redacted]", None]


def test_an_item_named_twice_is_one_row(event_server, sqlite_url: str):
    items = [
        {"item_id": "p", "price": 3, "quantity": 1},
        {"item_id": "q", "price": 1},
        {"item_id": "p", "price": 6, "quantity": 2},
    ]
    post_events(event_server, event_body("purchase", params={"items": items}))
    assert read_events(sqlite_url).select("item_id", "quantity", "price").rows() == [("p", 3.0, 5.0), ("q", 1.0, 1.0)]


def test_events_of_a_clock_that_is_ahead_stay_in_order(event_server, sqlite_url: str):
    ahead = [event_body("view_item", f"p{n}", timestamp=ago(seconds=-60 - n)) for n in (3, 1, 2)]
    assert post_events(event_server, *ahead).json()["accepted"] == 3
    rows = read_events(sqlite_url).sort("timestamp")
    assert rows["item_id"].to_list() == ["p1", "p2", "p3"]
    assert (rows["timestamp"] <= rows["received_at"]).all()


def test_an_event_sent_again_is_a_duplicate(event_server):
    events = [event_body(), event_body("purchase", params={"transaction_id": "T1"})]
    assert post_events(event_server, *events).json()["accepted"] == 2
    again = [*events, event_body("purchase", params={"transaction_id": "T1"}), event_body()]
    assert post_events(event_server, *again).json() == {
        "accepted": 1,
        "duplicates": 3,
        "unproven": 0,
        "claims": 0,
        "rejected": [],
    }


_words = st.sampled_from(["", " ", "p", "jane@example.org", "x\0", "ä" * 300, None, 7, 1.5, True, [], {}])
_times = st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
_numbers = st.sampled_from([None, 0, 1, -1, 2.5, 1e13, 1e12, 1e9, 1e10, "3.5", "three", True, [1]])
_items = st.fixed_dictionaries(
    {}, optional={"item_id": _words, "price": _numbers, "quantity": _numbers, "index": _numbers}
)
_params = st.fixed_dictionaries(
    {},
    optional={
        "transaction_id": _words, "search_term": _words, "currency": _words,
        "items": st.lists(_items | _words, max_size=3),
    },
)  # fmt: skip
_events = st.fixed_dictionaries(
    {"event_id": _words, "name": st.sampled_from(["view_item", "purchase", "search", "tea", "", None])},
    optional={
        "client_id": _words, "customer_id": _words, "timestamp": _words | _times,
        "consent": _words, "source": _words, "params": _params | _words, "other": _words,
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_events | _words, max_size=5))
def test_accepted_events_always_meet_the_rules_of_the_log(raw: list[object]):
    validated = validate_events(raw, NOW)
    assert len(validated.events) + len({r.index for r in validated.rejected}) == len(raw)
    assert {r.index for r in validated.rejected} <= set(range(len(raw)))
    assert all(re.fullmatch(r"/events/\d+(/\w+)*", r.pointer) for r in validated.rejected)
    rows = [row for event in validated.events for row in event.rows]
    if rows:
        plain = {c: pl.Int64() if t == TIMESTAMP else t for c, t in EVENT_SCHEMA.items()}
        frame = pl.DataFrame(rows, schema=plain, orient="row").with_columns(
            pl.from_epoch("timestamp", "us").dt.replace_time_zone("UTC")
        )
        _, rejected = validate(frame.with_row_index(ROW), "http", TIDY_RULES)
        assert rejected.is_empty(), rejected
        assert len(rows[0]) == len(COLUMNS)


def test_merge_and_erase(event_server, sqlite_url: str):
    assert post_events(event_server, event_body(), event_body(customer_id="u1", client_id="d2")).status_code == 202
    merge = {"client_id": "d1", "customer_id": "u1"}
    assert event_server.client.post("/v1/customers/merge", json=merge).json() == {"changed": True}
    assert event_server.client.post("/v1/customers/merge", json=merge).json() == {"changed": False}
    erased = event_server.client.post("/v1/customers/erase", json={"customer_id": "u1"}).json()
    assert erased == {"events": 2, "links": 2, "clients": 2, "shared_clients": 0, "claims": 0}
    assert read_events(sqlite_url).is_empty()
    wrong = event_server.client.post("/v1/customers/erase", json={"customer_id": ""})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/customer_id")


def test_without_its_store_the_server_ranks_and_acknowledges_no_event(serve: Callable, fake: type, tmp_path: Path):
    (tmp_path / "taken").write_text("")
    store = open_store(str(tmp_path / "taken" / "events.sqlite"), Limits(write_s=0.5))
    server = serve(fake(), store=store)
    (result, nobody) = server.post({"client_id": "d1"}, {"session_id": "s"}).json()["results"]
    assert (result["degraded"], len(result["items"])) == (True, 12)
    assert nobody["degraded"] is False
    response = post_events(server, event_body())
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert int(response.headers["retry-after"]) > 0
    for path, body in (("merge", {"client_id": "d", "customer_id": "u"}), ("erase", {"customer_id": "u"})):
        assert server.client.post(f"/v1/customers/{path}", json=body).status_code == 503
    (tmp_path / "taken").unlink()
    time.sleep(0.3)
    assert post_events(server, event_body()).status_code == 202
    assert server.post({"client_id": "d1"}).json()["results"][0]["degraded"] is False


def test_a_server_without_a_store_refuses_events(serve: Callable, fake: type):
    server = serve(fake())
    assert post_events(server, event_body()).status_code == 503
    assert server.post({"client_id": "d1"}).json()["results"][0]["degraded"] is False
