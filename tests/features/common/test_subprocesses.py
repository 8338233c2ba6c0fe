import os
import site
import subprocess
from pathlib import Path

import pytest

from features.common.paths import CODE_ROOT
from features.common.subprocesses import module_command, module_path


def test_our_packages_come_before_those_of_the_working_directory(tmp_path: Path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "__init__.py").write_text("raise RuntimeError('this is not ours')")
    command, env = module_command("features.ranking.docs")
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("# Features")


def test_what_was_on_the_path_stays_behind_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert module_path(CODE_ROOT)["PYTHONPATH"] == os.pathsep.join([str(CODE_ROOT), "/elsewhere"])


def test_site_packages_are_not_put_before_the_standard_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    installed = Path(site.getsitepackages()[0])
    assert module_path(installed) == {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
