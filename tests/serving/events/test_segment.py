"""Calls of Segment and RudderStack over HTTP."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.sources import event_store as source
from serving.event_store import Limits, open_store
from tests.serving.event_bodies import ago
from tests.serving.store_events import read_events

SAMPLES = Path(__file__).parents[2] / "features" / "sources" / "samples"


@pytest.fixture
def server(serve: Callable, url: str, fake: type) -> Any:
    return serve(fake(), store=open_store(url, Limits(write_s=5)))


@pytest.fixture(autouse=True)
def without_a_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USUAL_IDENTITY_SALT", raising=False)


def test_calls_of_segment(server, url: str):
    lines = [json.loads(line) for line in (SAMPLES / "segment.jsonl").read_text().splitlines()]
    at = ago(hours=2)
    calls = [line | {"timestamp": at} for line in lines]
    answer = server.client.post("/v1/events/segment", json={"batch": calls}).json()
    rows = read_events(url)
    assert answer["accepted"] == rows["event_id"].n_unique()
    assert answer["accepted"] + answer["duplicates"] + len(answer["rejected"]) + answer["ignored"] == len(calls)
    assert {"search", "view_item", "add_to_cart", "purchase", "refund", "login"} <= set(rows["name"].to_list())
    again = server.client.post("/v1/events/segment", json={"batch": calls}).json()
    assert (again["accepted"], again["duplicates"]) == (0, answer["accepted"] + answer["duplicates"])
    assert "example.org" not in json.dumps(rows.drop("timestamp", "received_at").rows())


def call(event: str = "Product Viewed", **more: object) -> dict[str, object]:
    return {"type": "track", "event": event, "anonymousId": "d1", "timestamp": ago(hours=1),
            "properties": {"product_id": "p1", "price": 2}} | more  # fmt: skip


def test_single_calls_and_invalid_calls(server):
    def sent_call(body: object) -> Any:
        return server.client.post("/v1/events/segment", json=body)

    assert sent_call(call()).json() == {
        "accepted": 1,
        "duplicates": 0,
        "unproven": 0,
        "claims": 0,
        "rejected": [],
        "ignored": 0,
    }
    assert sent_call(call(type="page")).json() == {
        "accepted": 0,
        "duplicates": 0,
        "unproven": 0,
        "claims": 0,
        "rejected": [],
        "ignored": 1,
    }
    lost = sent_call(call(properties={}))
    assert (lost.status_code, lost.json()["errors"][0]["code"]) == (422, "missing_item_id")
    mixed = [
        call(),
        call("Order Completed"),
        call(timestamp=ago(days=40)),
        call(timestamp=ago(days=-1)),
        call(type="page"),
    ]
    mixed[1]["properties"] = {"order_id": "T", "products": [{"product_id": "p"}]}
    answer = sent_call({"batch": mixed}).json()
    assert (answer["accepted"], answer["ignored"]) == (1, 1)
    assert [(r["pointer"], r["code"]) for r in answer["rejected"]] == [
        ("/batch/1", "missing_quantity_or_price"), ("/batch/2", "too_old"), ("/batch/3", "too_far_ahead"),
    ]  # fmt: skip


def test_email_addresses_link_clients_where_there_is_a_salt(
    serve: Callable, fake: type, url: str, monkeypatch: pytest.MonkeyPatch
):
    server = serve(fake(), store=open_store(url))
    body = call(userId="u1", type="identify", traits={"email": "jane@example.org"})
    assert server.client.post("/v1/events/segment", json=body).json()["accepted"] == 1
    assert next(source.read(url)).links.is_empty()
    monkeypatch.setenv("USUAL_IDENTITY_SALT", "sixteen letters!")
    server.client.post("/v1/events/segment", json=body)
    (token,) = next(source.read(url)).links["token"]
    assert re.fullmatch("[0-9a-f]{32}", token)


@pytest.mark.parametrize("absent", ["", " ", "(not set)", 7, 7.0, True, {}, ["m"], None])
def test_invalid_message_ids(server, url: str, absent: object):
    calls = [
        call(messageId=absent),
        call("Product Added", messageId=absent),
        call(messageId="m1"),
        {"messageId": absent},
    ]
    answer = server.client.post("/v1/events/segment", json={"batch": calls}).json()
    assert (answer["accepted"], answer["duplicates"]) == (3, 0)
    assert [r["pointer"] for r in answer["rejected"]] == ["/batch/3"]
    ids = read_events(url)["event_id"].to_list()
    assert len(set(ids)) == 3
    assert "m1" in ids
    again = server.client.post("/v1/events/segment", json={"batch": [*calls, calls[0], call(messageId=" m1 ")]}).json()
    assert (again["accepted"], again["duplicates"], len(again["rejected"])) == (0, 5, 1)


def test_texts_that_cannot_be_stored(server, url: str):
    long, zero = "".join(chr(33 + n * 7 % 90) for n in range(9000)).replace("@", "a"), "a\0b"
    alias = {"type": "alias", "userId": "u1", "timestamp": ago(hours=1)}
    wrong: list[tuple[dict[str, object], str]] = [
        (call(anonymousId=zero), "bad_text"),
        (call(userId=long), "bad_customer_id"),
        (call(messageId=long), "bad_event_id"),
        (call(properties={"product_id": zero}), "bad_text"),
        (call(properties={"products": [{"product_id": "p"}, {"product_id": long}]}), "bad_item_id"),
        (call(properties={"product_id": "p", "currency": long}), "bad_currency"),
        (call("Products Searched", properties={"query": "tea" * 400}), "bad_query"),
        (call(context={"device": {"type": long}}), "bad_device"),
        (alias | {"previousId": zero}, "bad_text"),
        (alias | {"previousId": long}, "bad_previous_id"),
        (call(type="page", anonymousId=long), "bad_client_id"),
    ]
    valid = [call(properties={"product_id": "p", "unread": zero + long}), alias | {"previousId": "d7"}]
    calls = [*(body for body, _ in wrong), *valid]
    answer = server.client.post("/v1/events/segment", json={"batch": calls})
    assert answer.status_code == 202
    body = answer.json()
    assert [(r["index"], r["code"]) for r in body["rejected"]] == [(n, code) for n, (_, code) in enumerate(wrong)]
    assert (body["accepted"], body["ignored"]) == (1, 1)
    assert read_events(url)["item_id"].to_list() == ["p"]
    assert next(source.read(url)).links.select("client_id", "customer_id").rows() == [("d7", "u1")]


def test_a_call_without_consent_links_nobody(server, url: str):
    refused = {"context": {"consent": {"categoryPreferences": {"Advertising": False}}}}
    calls = [call(), call("Signed In", userId="u1", properties={}, **refused)]
    assert server.client.post("/v1/events/segment", json={"batch": calls}).json()["accepted"] == 2
    server.post({"customer_id": "u1"})
    assert server.recommender.batches[-1][0].recent == ()
    refusal = read_events(url).row(by_predicate=pl.col("name") == "login", named=True)
    assert {refusal[column] for column in ("customer_id", "client_id", "session_id", "order_id")} == {None}


def test_version_1_and_refunds_of_whole_orders_are_read_as_in_files(server, url: str):
    products = [{"id": "1", "price": "19,99", "quantity": 2}, {"id": "2", "price": 3}]
    bought = call("Completed Order", messageId="b", userId="undefined", properties={"orderId": 6, "products": products})
    returned = call("Order Cancelled", messageId="r", properties={"order_id": "6"})
    assert server.client.post("/v1/events/segment", json={"batch": [returned, bought]}).json()["accepted"] == 2
    rows = (
        read_events(url)
        .sort("name", "item_id")
        .select("name", "customer_id", "order_id", "item_id", "quantity", "price")
    )
    line = [("6", "1", 2.0, 19.99), ("6", "2", 1.0, 3.0)]
    assert rows.rows() == [(name, None, *cells) for name in ("purchase", "refund") for cells in line]
