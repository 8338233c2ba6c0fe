"""The HTTP API held to its own OpenAPI document, with each kind of key: all of schemathesis's checks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.event_store import EventStore

KEYS = {"publishable": "p" * 24, "secret": "s" * 24}
PHASES = {"publishable": "examples,fuzzing", "secret": "examples,coverage,fuzzing"}
SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.parametrize("kind", KEYS)
def test_nothing_undocumented_and_no_server_error(
    serve: Callable, fake: type, sqlite_store: EventStore, kind: str, tmp_path: Path
):
    keys = {"publishable_keys": KEYS["publishable"], "secret_keys": KEYS["secret"], "open": False}
    server = serve(fake(), store=sqlite_store, **keys)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(SETTINGS), "run"),
        *(f"http://{server.host}:{server.port}/openapi.json", "--header", f"Authorization: Bearer {KEYS[kind]}"),
        *(
            "--checks",
            "all",
            "--max-examples",
            "6",
            "--phases",
            PHASES[kind],
            "--seed",
            "1",
            "--suppress-health-check",
            "all",
            "--no-color",
        ),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested: 1" in done.stdout, "more than ten operations"
