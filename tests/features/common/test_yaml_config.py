"""YAML files that are wrong: a message each, never a traceback."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from features.common.errors import InputError
from features.common.yaml_config import load_yaml
from features.sources.parsing.mapping.mapping import read_yaml


class _Settings(BaseModel):
    name: str = ""


@pytest.mark.parametrize("text", ["[" * 5000, "name: " + "{a: " * 5000, "- " * 5000 + "a", "[" * 5000 + "]" * 5000])
def test_deep_files_are_refused(tmp_path: Path, text: str):
    file = tmp_path / "deep.yml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"the settings .*deep\.yml"):
        load_yaml(file, _Settings, "the settings")


def bomb(levels: int) -> str:
    """A file in which each level holds the one before ten times."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 [x]", *lines])


HOSTILE = {
    "bomb": bomb(20), "long number": f"name: {'9' * 5000}", "no date": "name: 2026-13-45", "itself": "name: &a [*a]",
    "deep": "\n".join(" " * n + "a:" for n in range(3000)), "no text": "name: \x00",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_files_without_bounds_are_refused(tmp_path: Path, text: str):
    file = tmp_path / "bad.yml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"the settings .*bad\.yml"):
        load_yaml(file, _Settings, "the settings")
    with pytest.raises(InputError, match=r"the mapping .*bad\.yml"):
        read_yaml(file)


def test_aliases_may_be_used(tmp_path: Path):
    (tmp_path / "map.yml").write_text("names: &names {sale: purchase}\nagain: *names\n")
    assert read_yaml(tmp_path / "map.yml")["again"] == {"sale": "purchase"}
