"""The rules watcher: what is whole is swapped in, and what is not leaves the rules as they are."""

import os
from pathlib import Path

import pytest

from features.common.errors import InputError
from serving.rules.watcher import RulesWatcher
from serving.schemas import placements

PLACEMENTS = placements.read()
ONE = "rules: [{id: one, do: {pin: {item_ids: [x]}}}]"
TWO = "rules: [{id: two, do: {pin: {item_ids: [x]}}}]"


def ids(watcher: RulesWatcher) -> list[str]:
    return [rule.id for rule in watcher.book.rules]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yml"
    path.write_text(ONE)
    return path


def test_a_new_file_is_swapped_in_once_it_is_whole(file: Path):
    watcher = RulesWatcher(file, PLACEMENTS)
    assert (ids(watcher), watcher.check()) == (["one"], False)
    file.write_text(TWO + " ")
    assert watcher.check()
    assert (ids(watcher), watcher.problem) == (["two"], None)


def test_a_bad_file_leaves_the_rules_and_says_so_until_it_is_mended(file: Path):
    watcher = RulesWatcher(file, PLACEMENTS)
    file.write_text("rules: [{id: three, do: {pin: {item_ids: []}}}]")
    assert not watcher.check()
    assert ids(watcher) == ["one"]
    assert "line 1: three: do.pin.item_ids" in (watcher.problem or "")
    problem = watcher.problem
    os.utime(file, ns=(1, 1))
    assert not watcher.check()
    assert watcher.problem == problem
    file.write_text(ONE)
    assert not watcher.check()
    assert (ids(watcher), watcher.problem) == (["one"], None)


def test_a_file_that_is_gone_leaves_the_rules_and_counts_again_when_it_is_back(file: Path):
    watcher = RulesWatcher(file, PLACEMENTS)
    file.unlink()
    assert not watcher.check()
    assert ids(watcher) == ["one"]
    assert "cannot be read" in (watcher.problem or "")
    file.write_text(ONE)
    assert not watcher.check()
    assert watcher.problem is None
    file.unlink()
    watcher.check()
    file.write_text(TWO)
    assert watcher.check()
    assert (ids(watcher), watcher.problem) == (["two"], None)


def test_a_file_that_is_replaced_by_another_of_the_same_size_is_noticed(file: Path, tmp_path: Path):
    watcher = RulesWatcher(file, PLACEMENTS)
    stat = file.stat()
    other = tmp_path / "other.yml"
    other.write_text(TWO)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, file)
    assert watcher.check()
    assert ids(watcher) == ["two"]


def test_rules_that_cannot_be_prepared_are_not_swapped_in(file: Path):
    watcher = RulesWatcher(file, PLACEMENTS)

    def fail(_: object) -> None:
        raise InputError("no")

    watcher.prepare = fail
    file.write_text(TWO + " ")
    assert not watcher.check()
    assert (ids(watcher), watcher.problem) == (["one"], "no")


@pytest.mark.parametrize("content", [None, "rules: 5"])
def test_a_server_does_not_start_without_its_rules(tmp_path: Path, content: str | None):
    path = tmp_path / "rules.yml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError):
        RulesWatcher(path, PLACEMENTS)
