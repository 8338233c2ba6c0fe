"""Subprocesses that run modules of this code, wherever it is installed and whatever lies in the working directory."""

import os
import sys
from pathlib import Path

from features.common.paths import CODE_ROOT


def module_command(module: str, *args: str, root: Path = CODE_ROOT) -> tuple[list[str], dict[str, str]]:
    """Build the command that runs `module` with `args`, and its environment; imports look in `root` first.

    `python -m` alone would look in the working directory first, where a shop may have a folder `models` of its own.
    The environment hands that on to the subprocesses of the subprocess.
    """
    search_path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return [sys.executable, "-m", module, *args], {**os.environ, "PYTHONPATH": search_path, "PYTHONSAFEPATH": "1"}
