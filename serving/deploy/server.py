"""Starting the server: in place of this process, or beside it for as long as a block runs."""

import http.client
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import psutil  # type: ignore[import-untyped]

from features.common.errors import InputError
from features.common.paths import bentoml_home
from models import publishing
from models.bundle import read_manifest
from serving.api.middleware.api_keys import on_loopback, open_environment
from serving.api.middleware.gateway import options
from serving.deploy.bento import BENTO, ROOT, environment
from serving.settings import read_settings

# BentoML would wait a day for a request that hangs.
_GRACE_S = 5


def serve(
    target: str | Path | None = None,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    without_keys: bool = False,
) -> NoReturn:
    """Become the server. `target`: a Bento's tag, a bundle directory, or None for the latest Bento, which then follows
    the champion that is published; without a Bento, for that champion, served by this checkout.

    What is None comes from the environment (see serving/settings.py), and so do the keys that it asks for, unless
    it is to do without. Raises InputError.
    """
    if without_keys:
        os.environ["USUAL_OPEN"] = "1"
    command, env = command_line(target, host, port, workers)
    options(read_settings())  # what it may not do without; its workers would fail one by one
    _check_bundle(env)
    os.execve(command[0], command, env)  # noqa: S606


@contextmanager
def running(
    target: str | Path | None = None, port: int = 0, workers: int = 1, ready_within_s: float = 120
) -> Iterator[str]:
    """The server as a child process on the loopback address, without keys; yields its base URL once it is ready.

    Port 0 takes a free one. Server and workers are gone when the block ends. Raises InputError with
    the end of the server's log when it does not get ready.
    """
    port = port or free_port()
    command, env = command_line(target, "127.0.0.1", port, workers, own_keys=False)
    _check_bundle(env)
    with started(command, env, port, ready_within_s) as url:
        yield url


@contextmanager
def started(
    command: list[str], env: dict[str, str], port: int, ready_within_s: float = 120, ready: str = "/readyz"
) -> Iterator[str]:
    """As `running`, for any command that listens on `port` and answers the path `ready` when it is."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_until_ready(server, port, ready_within_s, log, ready)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(server)


def command_line(
    target: str | Path | None, host: str | None, port: int | None, workers: int | None, own_keys: bool = True
) -> tuple[list[str], dict[str, str]]:
    """The command that serves `target`, and its environment. Arguments and errors as for `serve`.

    Without `own_keys` the server asks for no keys, whatever the environment says.
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
    env = environment() | {"OTEL_SDK_DISABLED": "true"}
    if not own_keys:
        env = open_environment(env)
    elif settings.open and not on_loopback(host):
        raise InputError(
            f"a server that asks for no keys may only listen on a loopback address, not on {host}: set "
            "USUAL_SECRET_KEYS and USUAL_PUBLISHABLE_KEYS, and unset USUAL_OPEN (or leave out --open)"
        )
    overrides = json.loads(env.get("BENTOML_CONFIG_OVERRIDES") or "{}")
    overrides.setdefault("services", {}).setdefault("Usual", {})["workers"] = workers
    env["BENTOML_CONFIG_OVERRIDES"] = json.dumps(overrides)
    command = [sys.executable, "-m", "bentoml", "serve", "--host", host, "--port", str(port)]
    command += ["--timeout-graceful-shutdown", str(_GRACE_S)]
    bundle = target if target is not None else settings.bundle
    if bundle is not None and Path(bundle).is_dir():
        if not (Path(bundle) / "manifest.json").is_file():
            raise InputError(f"{bundle} is no bundle: it has no manifest.json; `usual train` writes bundles")
        env["USUAL_BUNDLE"] = str(Path(bundle).resolve())
        if target is not None:
            env.pop(publishing.VARIABLE, None)  # this one and no other
        return [*command, "--working-dir", str(ROOT), "serving.service:Usual"], env
    env.pop("USUAL_BUNDLE", None)
    if target is None:
        env.setdefault(publishing.VARIABLE, str(publishing.place()))
        found = publishing.current(Path(env[publishing.VARIABLE]))
        if found is not None and not _packaged():
            read_manifest(found.path)
            return [*command, "--working-dir", str(ROOT), "serving.service:Usual"], env
    else:
        env.pop(publishing.VARIABLE, None)
    # By its path, not its tag: a tag is tried as a Python module first.
    return [*command, str(_bento(None if target is None else str(target)))], env


def _packaged() -> bool:
    return (bentoml_home() / "bentos" / BENTO / "latest").is_file()


def _check_bundle(env: dict[str, str]) -> None:
    # A worker that cannot load its bundle dies, and BentoML starts the next one, for ever. What is in a
    # Bento was loaded when it was built.
    if "USUAL_BUNDLE" in env:
        from models.recommender import load

        load(Path(env["USUAL_BUNDLE"]))


def _bento(tag: str | None) -> Path:
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
    known = ", ".join(sorted(f"{p.parent.parent.name}:{p.parent.name}" for p in store.glob("*/*/bento.yaml")))
    raise InputError(
        f"{tag!r} is neither a bundle directory nor a Bento in {store} "
        f"({f'which has {known}' if known else 'which is empty; run `usual package`'})"
    )


def free_port() -> int:
    """A port nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, within_s: float, log: IO[bytes], path: str) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise InputError(f"the server stopped with exit code {server.returncode}:\n{_tail(log)}")
        if _is_ready(port, path):
            return
        time.sleep(0.1)
    raise InputError(f"the server was not ready after {within_s:.0f} s:\n{_tail(log)}")


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: IO[bytes]) -> str:
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
