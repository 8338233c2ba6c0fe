"""Server processes: become the server (`serve`), or run one for as long as a block lasts (`run_server`)."""

import http.client
import ipaddress
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import psutil  # type: ignore[import-untyped]

from features.common.errors import InputError
from features.common.paths import CODE_ROOT, bentoml_home
from features.common.subprocesses import module_command, module_path
from features.sources.event_store import is_postgres, sqlite_path
from models import publishing
from models.bundle import read_manifest
from serving.api.middleware.api_keys import is_loopback
from serving.api.middleware.gateway import gateway_options
from serving.deploy.bento import BENTO, bentoml_variables
from serving.rules import rulebook
from serving.schemas import placements
from serving.settings import Settings, open_environment, read_settings

# Seconds that requests have to end when the server stops; BentoML would wait a day.
_GRACE_S = 5


def serve(
    target: str | Path | None = None,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    without_keys: bool = False,
) -> NoReturn:
    """Replace this process with the server.

    `target` is the tag of a Bento or a bundle directory. None: the latest Bento, or without one this installed code,
    serving the published champion and watching for its successors. Arguments that are None come from the environment
    (serving/settings.py), as do the API keys, unless the server is to run `without_keys`. Raises InputError.
    """
    if without_keys:
        os.environ["USUAL_OPEN"] = "1"
    command, env = build_command(target, host, port, workers)
    gateway_options(read_settings())  # fails here where the workers would fail one by one
    _check_bundle(env)
    os.execve(command[0], command, env)  # noqa: S606


@contextmanager
def run_server(
    target: str | Path | None = None, port: int = 0, workers: int = 1, ready_within_s: float = 120
) -> Iterator[str]:
    """Run the server as a child process on the loopback address, without keys; yield its base URL once it is ready.

    Port 0 takes a free one. Server and workers are gone when the block ends. Raises InputError with the end of the
    server's log where it does not become ready within `ready_within_s` seconds.
    """
    port = port or find_free_port()
    command, env = build_command(target, "127.0.0.1", port, workers, own_keys=False)
    _check_bundle(env)
    with run_process(command, env, port, ready_within_s) as url:
        yield url


@contextmanager
def run_process(
    command: list[str], env: dict[str, str], port: int, ready_within_s: float = 120, ready: str = "/readyz"
) -> Iterator[str]:
    """As `run_server`, for any command that listens on `port` and responds to the path `ready` once it is."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_until_ready(server, port, ready_within_s, log, ready)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(server)


def build_command(
    target: str | Path | None, host: str | None, port: int | None, workers: int | None, own_keys: bool = True
) -> tuple[list[str], dict[str, str]]:
    """Build the command that serves `target`, and its environment. Arguments and errors as for `serve`.

    Without `own_keys` the server runs without API keys, whatever the environment says.
    """
    settings = read_settings()
    host, port, workers = (
        host or settings.host,
        settings.port if port is None else port,
        workers or settings.workers,
    )
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InputError(f"cannot listen on {host!r}: give an IP address, such as 127.0.0.1 or 0.0.0.0") from None
    command, env = module_command("bentoml", "serve", "--host", host, "--port", str(port))
    command += ["--timeout-graceful-shutdown", str(_GRACE_S)]
    # A worker that cannot read them dies, and BentoML starts the next one for ever.
    served_placements = placements.read(settings.placements)
    if settings.rules is not None:
        rulebook.load(settings.rules, served_placements)
    env |= bentoml_variables() | _absolute_paths(settings) | {"OTEL_SDK_DISABLED": "true"}
    if not own_keys:
        env = open_environment(env)
    elif settings.open and not is_loopback(host):
        raise InputError(
            f"a server that asks for no keys may only listen on a loopback address, not on {host}: set "
            "USUAL_SECRET_KEYS and USUAL_PUBLISHABLE_KEYS, and unset USUAL_OPEN (or leave out --open)"
        )
    overrides = json.loads(env.get("BENTOML_CONFIG_OVERRIDES") or "{}")
    overrides.setdefault("services", {}).setdefault("Usual", {})["workers"] = workers
    env["BENTOML_CONFIG_OVERRIDES"] = json.dumps(overrides)
    bundle = target if target is not None else settings.bundle
    if bundle is not None and Path(bundle).is_dir():
        if not (Path(bundle) / "manifest.json").is_file():
            raise InputError(f"{bundle} is no bundle: it has no manifest.json; `usual train` writes bundles")
        env["USUAL_BUNDLE"] = str(Path(bundle).resolve())
        if target is not None:
            env.pop(publishing.CHAMPION_VARIABLE, None)  # this bundle, with no watcher
        return [*command, "--working-dir", str(CODE_ROOT), "serving.service:Usual"], env
    env.pop("USUAL_BUNDLE", None)
    if target is None:
        env.setdefault(publishing.CHAMPION_VARIABLE, str(publishing.publishing_dir()))
        champion = publishing.read_current(Path(env[publishing.CHAMPION_VARIABLE]))
        if champion is not None and not _has_bento():
            read_manifest(champion.path)
            return [*command, "--working-dir", str(CODE_ROOT), "serving.service:Usual"], env
    else:
        env.pop(publishing.CHAMPION_VARIABLE, None)
    bento = _resolve_bento(None if target is None else str(target))
    # With the code that was packed with its model. By its path, not its tag: a tag is tried as a Python module first.
    return [*command, str(bento)], env | module_path(bento / "src")


def _absolute_paths(settings: Settings) -> dict[str, str]:
    """Return the variables that hold relative paths as absolute ones: workers run in the directory of their code."""
    paths = {
        "USUAL_LOG": settings.log,
        "USUAL_CHAMPION": settings.champion,
        "USUAL_PLACEMENTS": settings.placements,
        "USUAL_RULES": settings.rules,
    }
    # An empty variable is one that is not set; `Path("")` would be the working directory.
    env = {name: str(path.expanduser().absolute()) for name, path in paths.items() if path and os.environ.get(name)}
    if settings.event_store is not None and not is_postgres(url := settings.event_store_url()):
        env["USUAL_EVENT_STORE"] = str(sqlite_path(url))
    return env


def _has_bento() -> bool:
    return (bentoml_home() / "bentos" / BENTO / "latest").is_file()


def _check_bundle(env: dict[str, str]) -> None:
    # A worker that cannot load its bundle dies, and BentoML starts the next one, for ever. What is in a
    # Bento was loaded when it was built.
    if "USUAL_BUNDLE" in env:
        from models.recommender import load

        load(Path(env["USUAL_BUNDLE"]))


def _resolve_bento(tag: str | None) -> Path:
    """Find the directory of the Bento `tag`, or of the latest one. Raises InputError."""
    store = bentoml_home() / "bentos"
    name, _, version = (tag or BENTO).partition(":")
    if version in ("", "latest"):
        latest = store / name / "latest"
        version = latest.read_text().strip() if latest.is_file() else ""
    path = store / name / version
    if version and (path / "bento.yaml").is_file():
        return path
    if tag is None:
        raise InputError(
            f"there is no Bento in {store} and no champion is published; run `usual promote` or `usual package`, or "
            "name a bundle directory"
        )
    tags = ", ".join(sorted(f"{p.parent.parent.name}:{p.parent.name}" for p in store.glob("*/*/bento.yaml")))
    raise InputError(
        f"{tag!r} is neither a bundle directory nor a Bento in {store} "
        f"({f'which has {tags}' if tags else 'which is empty; run `usual package`'})"
    )


def find_free_port() -> int:
    """Find a port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, within_s: float, log: IO[bytes], path: str) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise InputError(f"the server stopped with exit code {server.returncode}:\n{_read_tail(log)}")
        if _is_ready(port, path):
            return
        time.sleep(0.1)
    why = _read_reason(port, path)
    raise InputError(f"the server was not ready after {within_s:.0f} s{f': {why}' if why else ''}\n{_read_tail(log)}")


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _read_reason(port: int, path: str) -> str:
    """Read why the server is not ready; empty where it does not say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return str(json.loads(connection.getresponse().read())["detail"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""
    finally:
        connection.close()


def _read_tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - 3000))
    return log.read().decode(errors="replace").strip()


def _stop(server: subprocess.Popen[bytes]) -> None:
    # Workers lead sessions of their own: a signal to the server's group does not reach them.
    workers = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(_GRACE_S + 5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for worker in workers:
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(workers, timeout=5)
