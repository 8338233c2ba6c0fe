"""The routes of the rules: what is followed, and what rules or a draft would do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.schemas.rules import RulesDescription, RulesPreviewResponse
from tests.serving.conftest import FakeRecommender, RunningServer

ANYONE = {"session_id": "s"}
FILE = """
timezone: Europe/Berlin
rules:
  - {id: recalled, items: {item_ids: [i0]}, do: {hide: true}}
  - {id: email, when: context.source == 'email' && visitor.orders < 1.0, do: {pin: {item_ids: [i9]}}, priority: 5}
  - {id: later, from: 2099-01-01, placements: [home.new], do: {pin: {item_ids: [i8], at: 2}}}
"""


@pytest.fixture
def server(serve: Callable[..., RunningServer], tmp_path: Path) -> RunningServer:
    path = tmp_path / "rules.yml"
    path.write_text(FILE)
    return serve(FakeRecommender(30), rules=path, follow_every_s=0.05)


def preview(server: RunningServer, **body: object) -> dict[str, Any]:
    response = server.client.post("/v1/rules/preview", json=ANYONE | {"limit": 3} | body)
    assert response.status_code == 200, response.text
    RulesPreviewResponse.model_validate_json(response.content)
    answer: dict[str, Any] = response.json()
    return answer


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["item_id"] for item in items]


def outcomes(answer: dict[str, Any]) -> dict[str, str | bool]:
    return {rule["id"]: rule["matched"] or rule["why"] for rule in answer["rules"]}


def test_the_rules_that_are_followed_are_told(server: RunningServer):
    response = server.client.get("/v1/rules")
    RulesDescription.model_validate_json(response.content)
    answer = response.json()
    assert (answer["file"], answer["timezone"], answer["problem"]) == ("rules.yml", "Europe/Berlin", None)
    assert [(r["id"], r["action"], r["line"], r["active"]) for r in answer["rules"]] == [
        ("email", "pin", 5, True),
        ("later", "pin", 6, False),
        ("recalled", "hide", 4, True),
    ]
    assert answer["rules"][1]["from"] == "2099-01-01T00:00:00+01:00"


def test_a_file_that_breaks_is_told_and_changes_nothing(server: RunningServer, tmp_path: Path):
    (tmp_path / "rules.yml").write_text("rules: [{id: x, do: {boost: 2}}]")
    for _ in range(200):
        problem = server.client.get("/v1/rules").json()["problem"]
        if problem:
            break
    assert "line 1: x: do.boost" in problem
    assert str(tmp_path) not in problem
    assert ids(server.post(ANYONE | {"limit": 2}).json()["results"][0]["items"]) == ["i1", "i2"]


def test_a_server_without_rules_says_so(serve: Callable[..., RunningServer]):
    server = serve(FakeRecommender(30))
    answer = server.client.get("/v1/rules").json()
    assert (answer["file"], answer["rules"]) == (None, [])
    assert ids(preview(server)["with_rules"]) == ["i0", "i1", "i2"]
    draft = "rules: [{id: x, do: {pin: {item_ids: [i7]}}}]"
    assert ids(preview(server, rules=draft)["with_rules"]) == ["i7", "i0", "i1"]
    assert ids(server.post(ANYONE | {"limit": 2}).json()["results"][0]["items"]) == ["i0", "i1"]


def test_both_lists_are_shown_and_of_each_rule_what_does_not_hold(server: RunningServer):
    answer = preview(server)
    assert ids(answer["without_rules"]) == ["i0", "i1", "i2"]
    assert ids(answer["with_rules"]) == ["i1", "i2", "i3"]
    assert answer["with_rules"][0]["title"] == "Item 1"
    assert outcomes(answer) == {
        "recalled": True,
        "email": "context.source == 'email': context.source is not known here",
        "later": "it is for home.new",
    }
    answer = preview(server, context={"source": "email"})
    assert ids(answer["with_rules"]) == ["i9", "i1", "i2"]
    assert answer["with_rules"][0]["rules"] == [{"id": "email", "action": "pin", "from": 9, "to": 1}]
    why = outcomes(preview(server, context={"source": "web"}))["email"]
    assert why == "context.source == 'email': not so, as context.source is 'web'"


def test_another_time_is_the_shops(server: RunningServer):
    assert outcomes(preview(server, placement="home.new"))["later"] == "it begins 2099-01-01T00:00:00+01:00"
    answer = preview(server, placement="home.new", at="2099-01-01")
    assert answer["at"] == "2099-01-01T00:00:00+01:00"
    assert ids(answer["with_rules"]) == ["i1", "i8", "i2"]


@pytest.mark.parametrize(
    ("body", "status", "pointer", "detail"),
    [
        ({"rules": "rules: [{id: x}]"}, 422, "/rules", "line 1: x: do: this is missing"),
        ({"rules": "rules: [\n" * 1_000}, 422, "/rules", "line 1: "),
        (
            {"rules": "rules: [{id: x, when: a, do: {pin: {item_ids: [i1]}}}]"},
            422,
            "/rules",
            "x: when: a is no",
        ),
        ({"rules": 5}, 422, "/rules", "valid string"),
        ({"at": "tomorrow"}, 422, "/at", "is no time"),
        ({"at": "2026-03-29T02:30"}, 422, "/at", "does not exist in Europe/Berlin"),
        ({"rule": "x"}, 422, "/rule", "not supported"),
        ({"placement": "nowhere"}, 404, "/placement", "no such placement"),
        ({"placement": "category.top"}, 422, "/context/category", "needs it"),
        ({"session_id": None}, 422, "", "at least one"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    server: RunningServer, body: dict[str, Any], status: int, pointer: str, detail: str
):
    response = server.client.post("/v1/rules/preview", json=ANYONE | body)
    assert response.status_code == status
    (error, *_) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]


def test_a_server_does_not_start_with_rules_that_do_not_fit(tmp_path: Path):
    from features.common.errors import InputError
    from serving.api.app import create_app
    from serving.settings import Settings

    path = tmp_path / "rules.yml"
    path.write_text("rules: 5")
    with pytest.raises(InputError, match="line 1"):
        create_app(FakeRecommender(), Settings(rules=path))  # type: ignore[arg-type]
