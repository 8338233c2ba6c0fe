"""An event store survives SIGKILL; `benchmarks/durability.py` does the same for longer."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "durability.py"


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_acknowledged_events_are_stored_exactly_once(store: str):
    command = [sys.executable, SCRIPT, "--rounds", "2", "--stores", store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0  doubled 0  in part 0" in done.stdout
