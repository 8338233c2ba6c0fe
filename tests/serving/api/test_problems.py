import json
import socket
from collections.abc import Iterator

import httpx
import pytest

ANYONE = {"session_id": "s"}


def check(response: httpx.Response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, "about:blank")
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == "#" + response.headers["x-request-id"]
    return problem


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        (ANYONE | {"limit": 0}, "/limit"),
        (ANYONE | {"limit": -1}, "/limit"),
        (ANYONE | {"limit": 1_000_000}, "/limit"),
        (ANYONE | {"limit": 101}, "/limit"),
        (ANYONE | {"limit": "5"}, "/limit"),
        (ANYONE | {"limit": 5.0}, "/limit"),
        (ANYONE | {"limit": True}, "/limit"),
        (ANYONE | {"limit": 10**300}, "/limit"),
        ({}, ""),
        ({"customer_id": ""}, ""),
        ({"customer_id": None, "session_id": " "}, ""),
        ({"customer_id": 5.5}, "/customer_id"),
        ({"customer_id": "x" * 257}, "/customer_id"),
        (ANYONE | {"placement": "Home Page"}, "/placement"),
        (ANYONE | {"placement": ""}, "/placement"),
        (ANYONE | {"placement": "home."}, "/placement"),
        (ANYONE | {"placement": "home\n"}, "/placement"),
        (ANYONE | {"context": {"item_ids": "p1"}}, "/context/item_ids"),
        (ANYONE | {"context": {"item_ids": ["p"] * 51}}, "/context/item_ids"),
        (ANYONE | {"context": {"item_ids": ["p", 3.5]}}, "/context/item_ids/1"),
        (ANYONE | {"context": {"cart_item_ids": [""]}}, "/context/cart_item_ids/0"),
        (ANYONE | {"context": None}, "/context"),
        (ANYONE | {"context": {"colour": "red"}}, "/context/colour"),
        (ANYONE | {"context": {"category": ["a"]}}, "/context/category"),
        (ANYONE | {"exclude": {"item_ids": ["p"] * 501}}, "/exclude/item_ids"),
        (ANYONE | {"include": ["margin"]}, "/include/0"),
        (ANYONE | {"include": "score"}, "/include"),
        (ANYONE | {"strict": 1}, "/strict"),
        (ANYONE | {"diversity": 1.1}, "/diversity"),
        (ANYONE | {"cursor": "not/ours"}, "/cursor"),
        (ANYONE | {"exclude": {"purchased_within_days": -1}}, "/exclude/purchased_within_days"),
        (ANYONE | {"filter": {"all": [{"field": "secret", "op": "==", "value": 1}]}}, "/filter/all/0/field"),
        (ANYONE | {"filter": {"any": [{"field": "price", "op": "~", "value": 1}]}}, "/filter/any/0/op"),
        (ANYONE | {"filter": {"none": [{"field": "price", "op": "<", "value": "x"}]}}, "/filter/none/0"),
        (ANYONE | {"a/b~c": 1}, "/a~1b~0c"),
        ("p1", ""),
        (None, ""),
        ([], ""),
    ],
)
def test_wrong_request_is_422_and_says_where(server, request_: object, pointer: str) -> None:
    problem = check(server.post(request_), 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == "/requests/0" + pointer
    assert problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/requests"),
        ({"requests": []}, "/requests"),
        ({"requests": [ANYONE] * 17}, "/requests"),
        ({"requests": ANYONE}, "/requests"),
        ({"requests": [ANYONE], "distinct": 1}, "/distinct"),
        ({"requests": [ANYONE], "unique": True}, "/unique"),
        ([], ""),
        (5, ""),
        (None, ""),
    ],
)
def test_wrong_envelope_is_422(server, body: object, pointer: str) -> None:
    problem = check(server.post_bytes(json.dumps(body).encode()), 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == pointer


def test_all_requests_wrong_lists_each(server) -> None:
    problem = check(server.post(ANYONE | {"limit": 0}, {}), 422, "invalid_request")
    assert [e["pointer"] for e in problem["errors"]] == ["/requests/0/limit", "/requests/1"]


def test_list_of_errors_is_bounded(server) -> None:
    problem = check(server.post(ANYONE | {"exclude": {"item_ids": [None] * 500}}), 422, "invalid_request")
    assert len(problem["errors"]) == 50


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "json"])
def test_other_content_types_are_415(server, content_type: str) -> None:
    check(
        server.post_bytes(b'{"requests": [{"session_id": "s"}]}', content_type),
        415,
        "unsupported_media_type",
    )


def test_content_type_may_have_parameters(server) -> None:
    body = b'{"requests": [{"session_id": "s"}]}'
    assert server.post_bytes(body, "Application/JSON; charset=utf-8").status_code == 200


def test_unknown_paths_and_methods(server) -> None:
    client = server.client
    for path in ("/", "/v2", "/v1/recommendations/", "/v1/customers/a@b.example"):
        problem = check(client.get(path), 404, "not_found")
        assert "example" not in str(problem)
    response = client.get("/v1/recommendations")
    check(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    check(client.post("/v1/model"), 405, "method_not_allowed")


def _five_megabytes() -> Iterator[bytes]:
    for _ in range(50):
        yield b"[" * 100_000


def test_large_body_is_413_with_a_length(server) -> None:
    response = server.post_bytes(b"".join(_five_megabytes()))
    check(response, 413, "body_too_large")


def test_large_body_is_413_without_a_length(server) -> None:
    headers = {"content-type": "application/json"}
    response = server.client.post("/v1/recommendations", content=_five_megabytes(), headers=headers)
    check(response, 413, "body_too_large")
    assert server.post(ANYONE).status_code == 200


def test_large_body_is_refused_before_it_has_arrived(server) -> None:
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 5000000\r\n\r\n{"
        )
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer


def test_client_that_leaves_does_no_harm(server, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 500\r\n\r\n{"
        )
    assert server.post(ANYONE).status_code == 200
    assert "unexpected error" not in caplog.text


@pytest.mark.parametrize("root_path", ["", "/shop"])
def test_unexpected_error_is_500_without_details(
    serve, monkeypatch, caplog: pytest.LogCaptureFixture, root_path: str
) -> None:
    def broken(outcomes: list[dict]) -> None:
        raise RuntimeError(outcomes[0]["segment"])

    monkeypatch.setattr("serving.api.routes.recommendations.failure", broken)
    response = serve(root_path=root_path).post({"customer_id": "secret"})
    problem = check(response, 500, "internal_error")
    assert "secret" not in str(problem)
    assert "secret" not in caplog.text
    assert response.headers["x-request-id"] in caplog.text
