"""Hot swap, refresh and what goes wrong with them, over HTTP."""

import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.common.clock import DAY
from features.common.errors import InputError
from features.common.paths import CODE_ROOT
from features.event_log.ingestion.ingest import ParsedBatch, ingest
from models import publishing
from models.bundle import Bundle
from models.bundle_erasure import erase_customer
from models.recommender import BundleRecommender, load
from serving.deploy.refresh import refresh

SWAPS = 20


@pytest.fixture(scope="module")
def bundle_path(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("following") / "bundle")


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "champion"


@pytest.fixture
def watching_server(serve: Callable, bundle_path: Path, where: Path) -> Any:
    published = publishing.publish(bundle_path, "1", where)
    return serve(
        BundleRecommender(Bundle.load(published.path)),
        champion=where,
        follow_every_s=0.05,
        load=load,
        published=published,
        deadline_ms=10_000,
    )


def version(server: Any) -> str:
    return str(server.post({"client_id": "d1"}).json()["results"][0]["model"]["version"])


def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_published_champions_and_rollbacks_are_swapped_in(watching_server: Any, bundle_path: Path, where: Path):
    for champion in ("2", "1", "3"):
        publishing.publish(bundle_path, champion, where)
        until(lambda champion=champion: version(watching_server) == champion)
    assert watching_server.client.get("/v1/model").json()["version"] == "3"


def test_no_request_fails_while_models_are_swapped(watching_server: Any, bundle_path: Path, where: Path):
    responses: list[tuple[int, str, int]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            response = watching_server.post({"client_id": "d1"})
            (result,) = response.json()["results"]
            responses.append((response.status_code, result["model"]["version"], len(result["items"])))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(SWAPS):
            publishing.publish(bundle_path, str(n + 2), where)
            response = watching_server.client.post("/v1/admin/reload")
            assert response.status_code == 200
            assert response.json()["model"]["version"] == str(n + 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert {(status, items) for status, _, items in responses} == {(200, 12)}
    assert len({version for _, version, _ in responses}) > 3


@pytest.fixture(params=["damaged", "gone", "another format", "no pointer"])
def broken(request: pytest.FixtureRequest, bundle_path: Path, where: Path) -> Callable[[], None]:
    """Publishes what cannot be served."""

    def publish() -> None:
        if request.param == "no pointer":
            (where / publishing.POINTER).write_text("{")
            return
        bad = where / "2-bad"
        if request.param != "gone":
            shutil.copytree(bundle_path, bad)
        if request.param == "damaged":
            file = bad / "items" / "features.npy"
            file.write_bytes(file.read_bytes()[:-8])
        elif request.param == "another format":
            manifest = bad / "manifest.json"
            manifest.write_text(manifest.read_text().replace('"format": ', '"format": 9'))
        (where / publishing.POINTER).write_text('{"bundle": "2-bad", "version": "2"}')

    return publish


def test_a_bundle_that_cannot_be_loaded_leaves_the_active_model(
    watching_server: Any, broken: Callable[[], None], bundle_path: Path, where: Path
):
    broken()
    until(lambda: watching_server.client.get("/v1/model").json()["following"]["problem"] is not None)
    assert version(watching_server) == "17", "as before"
    refused = watching_server.client.post("/v1/admin/reload")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert "the old one goes on" in refused.json()["detail"]
    assert str(where) not in refused.text
    publishing.publish(bundle_path, "3", where)
    until(lambda: version(watching_server) == "3")
    assert watching_server.client.get("/v1/model").json()["following"]["problem"] is None


def test_other_files_in_the_place_of_the_active_ones_are_loaded(
    watching_server: Any, bundle_path: Path, where: Path, bundle: Bundle
):
    """A repair, or an erasure, that replaces the files of a version is not taken for what is served already."""
    publishing.publish(bundle_path, "2", where)
    until(lambda: version(watching_server) == "2")
    published = publishing.read_current(where)
    assert published is not None

    def swaps() -> float:
        lines = watching_server.client.get("/metrics").text.splitlines()
        return sum(float(n.split()[-1]) for n in lines if n.startswith('usual_swaps_total{outcome="loaded"}'))

    before = swaps()
    features = published.path / "items" / "features.npy"
    with features.open("r+b") as content:  # the file that the server maps
        content.seek(200)
        content.write(bytes(64))
    publishing.publish(bundle_path, "2", where)
    until(lambda: swaps() > before)
    before = swaps()
    customer = bundle.snapshot.customers.values[0].as_py()
    erase_customer(published.path, customer)
    until(lambda: swaps() > before)
    until(lambda: watching_server.client.get("/v1/model").json()["following"]["problem"] is None)


@pytest.fixture(scope="module")
def shop_log(simulated: ParsedBatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = tmp_path_factory.mktemp("logs") / "shop"
    ingest([simulated], log)
    return log


def test_a_refresh_brings_a_newer_snapshot_of_the_same_models(bundle_path: Path, where: Path, shop_log: Path):
    publishing.publish(bundle_path, "7", where)
    old = Bundle.load(bundle_path)
    later = old.snapshot.as_of + 5 * DAY
    refreshed = refresh(shop_log, where, later)
    assert publishing.read_current(where) == refreshed
    new = Bundle.load(refreshed.path)
    assert (new.snapshot.as_of, refreshed.version) == (later, "7")
    for name, recommender in old.recommenders.items():
        assert new.recommenders[name].ranker.text() == recommender.ranker.text()
    with pytest.raises(InputError, match="older than that"):
        refresh(shop_log, where, old.snapshot.as_of)


def test_a_refresh_needs_a_champion(where: Path, shop_log: Path):
    with pytest.raises(InputError, match="nothing is published"):
        refresh(shop_log, where)


@pytest.mark.parametrize("module", ["models.bundle.np.save", "models.publishing.shutil.copytree"])
def test_a_refresh_on_a_full_disk_says_so_and_leaves_nothing(
    bundle_path: Path, where: Path, shop_log: Path, module: str, monkeypatch: pytest.MonkeyPatch
):
    published = publishing.publish(bundle_path, "7", where)
    before = sorted(where.iterdir())
    (where / ".refresh-killed").mkdir()

    def full(*_: object, **__: object) -> None:
        raise OSError("120 requested and 0 written")  # as numpy says it

    monkeypatch.setattr(module, full)
    with pytest.raises(InputError, match="free some space"):
        refresh(shop_log, where, Bundle.load(bundle_path).snapshot.as_of + DAY)
    assert publishing.read_current(where) == published
    assert sorted(p for p in where.iterdir() if p.name != ".refreshing") == before


def test_a_refresh_that_may_write_no_large_file_says_so(bundle_path: Path, where: Path, shop_log: Path):
    """A process of its own, of which the kernel lets no file grow beyond what a full disk would take."""
    published = publishing.publish(bundle_path, "7", where)
    before = sorted(where.iterdir())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "serving.deploy.refresh", shop_log, where],
        capture_output=True, text=True, timeout=120, preexec_fn=limit, cwd=CODE_ROOT,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("usual: ")
    assert "free some space and refresh again" in done.stderr
    assert "Traceback" not in done.stderr
    assert publishing.read_current(where) == published
    assert sorted(p for p in where.iterdir() if p.name != ".refreshing") == before
    Bundle.load(published.path)


def test_a_refresh_over_http_is_served_when_it_is_ready(
    serve: Callable, bundle_path: Path, where: Path, shop_log: Path
):
    published = publishing.publish(bundle_path, "1", where)
    options = {"champion": where, "follow_every_s": 0.05, "load": load, "published": published, "log": shop_log}
    server = serve(BundleRecommender(Bundle.load(bundle_path)), **options)
    before = server.client.get("/v1/model").json()["as_of"]
    answer = server.client.post("/v1/admin/refresh")
    assert (answer.status_code, answer.json()) == (202, {"refreshing": True})
    until(lambda: server.client.get("/v1/model").json()["as_of"] > before, within_s=60)
    assert version(server) == "1"


def test_a_failed_refresh_is_reported(serve: Callable, bundle_path: Path, where: Path, tmp_path: Path):
    published = publishing.publish(bundle_path, "1", where)
    options = {"champion": where, "load": load, "published": published, "log": tmp_path / "no log"}
    server = serve(BundleRecommender(Bundle.load(bundle_path)), **options)
    assert server.client.post("/v1/admin/refresh").status_code == 202
    until(lambda: server.client.get("/v1/model").json()["following"]["refresh_problem"] is not None, within_s=60)
    assert version(server) == "17"


def test_admin_routes_without_a_watched_directory_are_409(server: Any):
    for path in ("reload", "refresh"):
        response = server.client.post(f"/v1/admin/{path}")
        assert (response.status_code, response.json()["code"]) == (409, "not_following")
    assert server.client.get("/v1/model").json()["following"] is None
