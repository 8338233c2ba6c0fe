"""YAML files that are wrong: a message each, never a traceback."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from features.common.errors import InputError
from features.common.yaml_config import load_yaml


class _Settings(BaseModel):
    name: str = ""


@pytest.mark.parametrize("text", ["[" * 5000, "name: " + "{a: " * 5000, "- " * 5000 + "a", "[" * 5000 + "]" * 5000])
def test_deep_files_are_refused(tmp_path: Path, text: str):
    file = tmp_path / "deep.yml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"the settings .*deep\.yml"):
        load_yaml(file, _Settings, "the settings")
