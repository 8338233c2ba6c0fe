"""Servers whose published bundle is damaged where it lies: they go on, or serve again once a whole one is published."""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from models import publishing
from models.bundle import Bundle
from serving.deploy.bento import build_bento
from serving.deploy.server import build_command, find_free_port, run_process

pytestmark = pytest.mark.e2e

WITHIN_S = 60.0


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def overwrite(file: Path) -> None:
    with file.open("r+b") as content:  # the same file, as a server maps it
        content.write(random.Random(1).randbytes(file.stat().st_size))


def flip(file: Path) -> None:
    with file.open("r+b") as content:
        content.seek(file.stat().st_size // 2)
        byte = content.read(1)
        content.seek(-1, os.SEEK_CUR)
        content.write(bytes([byte[0] ^ 4]))


def delete(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    os.truncate(file, 0)


DAMAGES = (truncate, overwrite, flip, delete, empty)


class Shop:
    """A server that watches `champion`."""

    def __init__(self, url: str, champion: Path) -> None:
        self.client, self.champion = httpx.Client(base_url=url, timeout=10, trust_env=False), champion

    def version(self) -> str | None:
        """The version that answers; None where nothing does."""
        try:
            answer = self.client.post("/v1/recommendations", json={"requests": [{"client_id": "d1", "limit": 5}]})
        except httpx.HTTPError:
            return None
        if answer.status_code != 200:
            return None
        (result,) = answer.json()["results"]
        assert len(result["items"]) == 5
        return str(result["model"]["version"])

    def damage(self, how: Callable[[Path], None]) -> None:
        """Damage every file of the current bundle but its manifest."""
        current = publishing.read_current(self.champion)
        assert current is not None
        for file in sorted(p for p in current.path.rglob("*") if p.is_file() and p.name != "manifest.json"):
            if file.stat().st_size:
                how(file)

    def until(self, version: str | None) -> None:
        """Wait until it answers with `version` and has nothing to say against that; None: with any."""
        end = time.monotonic() + WITHIN_S
        while (answered := self.version()) is None or (version and (answered, self.problem()) != (version, "")):
            assert time.monotonic() < end, f"no answer of {version} but {answered}: {self.problem()}"
            time.sleep(0.1)

    def problem(self) -> str | None:
        """Why what is published does not answer."""
        try:
            return str(self.client.get("/v1/model").json()["following"]["problem"] or "")
        except (httpx.HTTPError, ValueError, KeyError):
            return "no answer"


@pytest.fixture(scope="module")
def saved(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("saved") / "bundle")


@pytest.fixture(params=["alone", "beside another champion", "with a Bento"])
def shop(
    request: pytest.FixtureRequest, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    for variable in ("USUAL_EVENT_STORE", "USUAL_CHAMPION", "USUAL_BUNDLE", "USUAL_SECRET_KEYS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("USUAL_HOME", str(tmp_path / "home"))
    champion = publishing.publishing_dir()
    if request.param == "with a Bento":
        build_bento(saved, version_label="packed")
    if request.param == "beside another champion":
        publishing.publish(saved, "0", champion)
    publishing.publish(saved, "1", champion)
    port = find_free_port()
    command, env = build_command(None, "127.0.0.1", port, 1, own_keys=False)
    with run_process(command, env, port) as url:
        running = Shop(url, champion)
        running.spare = request.param != "alone"  # type: ignore[attr-defined]
        yield running
        running.client.close()


def test_it_serves_again(shop: Shop, saved: Path):
    """Under each kind of damage; the same version is published again, or another one."""
    shop.until("1")
    for number, how in enumerate(DAMAGES):
        shop.damage(how)
        for _ in range(5):
            shop.version()
        if shop.spare:  # type: ignore[attr-defined]
            shop.until(None)  # by what it maps, or by the bundle beside the damaged one, or in the Bento
        version = "1" if number % 2 == 0 else f"new-{number}"
        publishing.publish(saved, version, shop.champion)
        publishing.publish(saved, version, shop.champion)
        current = publishing.read_current(shop.champion)
        assert current is not None
        Bundle.load(current.path)
        shop.until(version)
