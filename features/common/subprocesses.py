"""Subprocesses that run modules of this code, wherever it is installed and whatever lies in the working directory."""

import os
import site
import sys
from pathlib import Path

from features.common.paths import CODE_ROOT


def module_command(module: str, *args: str, root: Path = CODE_ROOT) -> tuple[list[str], dict[str, str]]:
    """Build the command that runs `module` with `args`, and its environment; our packages are those in `root`.

    `python -m` alone would look in the working directory first, where a shop may have a folder `models` of its own.
    The environment hands that on to the subprocesses of the subprocess.
    """
    return [sys.executable, "-m", module, *args], {**os.environ, **module_path(root)}


def module_path(root: Path) -> dict[str, str]:
    """Build the variables by which a Python process finds our packages in `root`, never in its working directory."""
    search_path = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    if str(root) in site.getsitepackages():
        # It is searched anyway, and in front of the standard library it could hide modules of that.
        search_path.remove(str(root))
    return {"PYTHONPATH": os.pathsep.join(search_path), "PYTHONSAFEPATH": "1"}
