import sys
from pathlib import Path

import pytest

from features.common import paths
from features.common.errors import InputError
from features.common.paths import CODE_ROOT, project_file


def test_mlflow_yml_of_the_working_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mlflow.yml", "bentofile.yaml"):
        assert project_file(name) == CODE_ROOT / name
        (tmp_path / name).touch()
    assert project_file("mlflow.yml").resolve() == tmp_path / "mlflow.yml"
    assert project_file("bentofile.yaml") == CODE_ROOT / "bentofile.yaml"


def test_installed_code_has_its_files_in_the_package_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "usual"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(paths, "CODE_ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "usual", raising=False)
    with pytest.raises(InputError, match=r"there is no bentofile\.yaml"):
        project_file("bentofile.yaml")
    (package / "bentofile.yaml").touch()
    assert project_file("bentofile.yaml") == package / "bentofile.yaml"
