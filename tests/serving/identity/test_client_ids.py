"""Signed client ids: none can be guessed, made up or altered, and those given out stay valid."""

import hmac
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.ids import normalize_id
from serving.identity import client_ids
from serving.identity.client_ids import ClientIds
from serving.settings import Settings
from tests.features.shop import examples

SECRET, NEXT = "first-" + "0123456789abcdef" * 2, "second-" + "0123456789abcdef" * 2
LETTERS = string.ascii_letters + string.digits + "-_."


def ids(**settings: Any) -> ClientIds:
    return ClientIds(Settings.model_validate({"server_secret": SECRET, **settings}))


def test_each_is_new_and_proves_itself() -> None:
    made = {ids().new() for _ in range(200)}
    assert len(made) == 200
    for client_id in made:
        assert ids().is_signed(client_id)
        assert len(client_id) == 3 + 22 + 1 + 22
        assert normalize_id(client_id, "client") == client_id, "it comes out of a body as it went in"


def test_no_altered_id_is_accepted() -> None:
    target = ids()
    text = target.new()
    altered = {text[:at] + letter + text[at + 1 :] for at in range(len(text)) for letter in LETTERS} - {text}
    altered |= {text[:at] for at in range(len(text))} | {text[at:] for at in range(1, len(text))}
    altered |= {text + more for more in ("=", "A", "\n", " ", "\0", "é")} | {f"~{text}", f"{text}\n"}
    assert not [other for other in altered if target.is_signed(other)]


@examples(200)
@given(st.text(max_size=60) | st.from_regex(r"u1\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{22}", fullmatch=True))
def test_none_can_be_made_up(text: str) -> None:
    assert not ids().is_signed(text)


def test_what_is_cached_is_the_id_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_ids, "_MAX_CACHED", 2)
    target = ids()
    made = [target.new() for _ in range(5)]
    for _ in range(3):
        assert [target.is_signed(text) for text in made] == [True] * 5
        assert [target.is_signed(text[:-1]) for text in made] == [False] * 5
    assert target._verify_once.cache_info().currsize == 2


def test_parts_of_two_ids_are_none() -> None:
    target = ids()
    one, two = target.new(), target.new()
    assert not target.is_signed(one.rpartition(".")[0] + "." + two.rpartition(".")[2])


def test_another_installation_has_other_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ClientIds(Settings())
    text = here.new()
    assert ClientIds(Settings()).is_signed(text), "other processes of the same"
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "elsewhere"))
    assert not ClientIds(Settings()).is_signed(text)
    assert not ids().is_signed(text)


def test_server_secrets_are_rotated() -> None:
    text = ids().new()
    assert not ids(server_secret=NEXT).is_signed(text)
    rotated = ids(server_secret=NEXT, server_secrets_before=f" {SECRET}, {'x' * 32}")
    assert rotated.is_signed(text)
    assert not ids().is_signed(rotated.new()), "new ones are signed with the new secret"
    assert ids(server_secret=NEXT).is_signed(rotated.new())


def test_what_is_signed_for_another_purpose_is_no_client_id() -> None:
    body = "u1." + "A" * 22
    for key in (SECRET.encode(), hmac.digest(SECRET.encode(), b"usual cursors", "sha256")):
        assert not ids().is_signed(f"{body}.{client_ids._mac(key, body)}")


def test_they_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(client_ids.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    assert ids().is_signed(ids().new())
    assert compared
