import json
from pathlib import Path

import pytest

from features.common.errors import InputError
from models import publishing
from models.bundle import Bundle


@pytest.fixture(scope="module")
def made(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("published") / "bundle")


def test_what_is_published_is_current_and_whole(made: Path, tmp_path: Path):
    where = tmp_path / "champion"
    assert publishing.read_current(where) is None
    first = publishing.publish(made, "1", where)
    assert publishing.read_current(where) == first
    assert Bundle.load(first.path).snapshot.as_of == Bundle.load(made).snapshot.as_of
    second = publishing.publish(made, "2", where)
    assert publishing.read_current(where) == second
    assert publishing.publish(made, "1", where) == first, "back to one that is still there"
    assert publishing.read_current(where) == first


def test_old_ones_go(made: Path, tmp_path: Path):
    paths = [publishing.publish(made, str(n), tmp_path).path for n in range(4)]
    assert [p.exists() for p in paths] == [False, False, True, True]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [".publishing"]


def test_no_bundle_is_not_published(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a bundle"):
        publishing.publish(tmp_path / "empty", "1", tmp_path / "champion")
    assert publishing.read_current(tmp_path / "champion") is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"bundle": "../elsewhere", "version": null}', '{"bundle": "/etc", "version": null}'],
)
def test_a_damaged_pointer_is_refused(tmp_path: Path, content: str):
    (tmp_path / publishing.POINTER).write_text(content)
    with pytest.raises(InputError, match=r"current\.json"):
        publishing.read_current(tmp_path)


def test_a_failed_copy_leaves_what_was_there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = publishing.publish(made, "1", tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(OSError, match="No space"):
        publishing.publish(made, "2", tmp_path)
    assert publishing.read_current(tmp_path) == first
    assert json.loads((tmp_path / publishing.POINTER).read_text())["version"] == "1"


def test_what_replaced_it_meanwhile_is_not_replaced(made: Path, tmp_path: Path):
    first = publishing.publish(made, "1", tmp_path)
    second = publishing.publish(made, "2", tmp_path)
    with pytest.raises(InputError, match="meanwhile"):
        publishing.publish(made, "1", tmp_path, instead_of=first)
    assert publishing.read_current(tmp_path) == second
    assert publishing.publish(made, "3", tmp_path, instead_of=second).version == "3"


def test_what_a_killed_process_left_goes(made: Path, tmp_path: Path):
    (tmp_path / ".arriving-dead").mkdir()
    publishing.publish(made, "1", tmp_path)
    assert not (tmp_path / ".arriving-dead").exists()
