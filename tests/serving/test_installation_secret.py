"""The installation's secret: kept by one user, the same in all processes, of the installation alone."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from features.common.errors import InputError
from serving.installation_secret import FILE, signing_key
from serving.settings import Settings, read_settings

SECRET = "0123456789abcdef" * 2 + "~"


def test_it_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: signing_key(Settings(), "cursors"), range(64)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    file = tmp_path / "home" / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [FILE], "no half of it stays behind"


def test_each_purpose_and_each_installation_has_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = signing_key(Settings(), "cursors")
    assert signing_key(Settings(), "visitors") != here
    assert signing_key(Settings(), "cursors") == here
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "elsewhere"))
    assert signing_key(Settings(), "cursors") != here


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_SERVER_SECRET", SECRET)
    settings = read_settings()
    one = signing_key(settings, "cursors")
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "elsewhere"))
    assert signing_key(read_settings(), "cursors") == one
    assert SECRET not in repr(settings) + str(settings)
    assert not (tmp_path / "home").exists()


def test_a_short_one_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USUAL_SERVER_SECRET", "guessable")
    with pytest.raises(InputError, match="USUAL_SERVER_SECRET has 9 characters; use 32") as error:
        read_settings()
    assert "guessable" not in str(error.value)
    monkeypatch.setenv("USUAL_SERVER_SECRET", "")
    assert read_settings().server_secret is None


def test_an_emptied_file_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / FILE).write_text("")
    key = signing_key(Settings(), "cursors")
    assert len((tmp_path / "home" / FILE).read_text()) > 32
    assert signing_key(Settings(), "cursors") == key


def test_a_home_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "file"))
    keys: dict[str, Any] = {"open": False, "secret_keys": "s" * 32}
    logging.getLogger("usual").propagate = True
    assert signing_key(Settings(**keys), "cursors") == signing_key(Settings(**keys), "cursors")
    assert "USUAL_SERVER_SECRET" in caplog.text
    assert signing_key(Settings(), "cursors") != signing_key(Settings(), "cursors"), "of one process alone"


def test_two_servers_of_one_secret_read_each_others_cursors(serve: Callable[..., Any], fake: type) -> None:
    body = {"client_id": "c", "limit": 3}
    first, second, other = (serve(fake(), server_secret=secret) for secret in (SECRET, SECRET, SECRET[::-1]))
    (page,) = first.post(body).json()["results"]
    (next_page,) = second.post(body | {"cursor": page["next_cursor"]}).json()["results"]
    assert [item["rank"] for item in next_page["items"]] == [4, 5, 6]
    refused = other.post(body | {"cursor": page["next_cursor"]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/requests/0/cursor"
