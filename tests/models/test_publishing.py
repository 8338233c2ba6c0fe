import json
import shutil
from pathlib import Path

import pytest

from features.common.errors import InputError
from models import publishing
from models.bundle import Bundle


@pytest.fixture(scope="module")
def saved(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("published") / "bundle")


def test_the_published_bundle_is_current_and_complete(saved: Path, tmp_path: Path):
    where = tmp_path / "champion"
    assert publishing.read_current(where) is None
    first = publishing.publish(saved, "1", where)
    assert publishing.read_current(where) == first
    assert Bundle.load(first.path).snapshot.as_of == Bundle.load(saved).snapshot.as_of
    second = publishing.publish(saved, "2", where)
    assert publishing.read_current(where) == second
    assert publishing.publish(saved, "1", where) == first, "back to one that is still there"
    assert publishing.read_current(where) == first


def test_old_bundles_are_deleted(saved: Path, tmp_path: Path):
    paths = [publishing.publish(saved, str(n), tmp_path).path for n in range(4)]
    assert [p.exists() for p in paths] == [False, False, True, True]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == [".publishing"]


def test_a_directory_without_a_bundle_is_refused(tmp_path: Path):
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


def test_a_failed_copy_keeps_the_current_bundle(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = publishing.publish(saved, "1", tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(OSError, match="No space"):
        publishing.publish(saved, "2", tmp_path)
    assert publishing.read_current(tmp_path) == first
    assert json.loads((tmp_path / publishing.POINTER).read_text())["version"] == "1"


def test_a_concurrent_publication_is_not_replaced(saved: Path, tmp_path: Path):
    first = publishing.publish(saved, "1", tmp_path)
    second = publishing.publish(saved, "2", tmp_path)
    with pytest.raises(InputError, match="meanwhile"):
        publishing.publish(saved, "1", tmp_path, instead_of=first)
    assert publishing.read_current(tmp_path) == second
    assert publishing.publish(saved, "3", tmp_path, instead_of=second).version == "3"


def test_leftovers_of_a_killed_process_are_deleted(saved: Path, tmp_path: Path):
    (tmp_path / ".arriving-dead").mkdir()
    publishing.publish(saved, "1", tmp_path)
    assert not (tmp_path / ".arriving-dead").exists()


def test_a_damaged_copy_is_repaired_by_publishing_again(saved: Path, tmp_path: Path):
    published = publishing.publish(saved, "1", tmp_path)
    file = published.path / "items" / "features.npy"
    with file.open("r+b") as content:
        content.truncate(100)
    with pytest.raises(InputError, match="damaged"):
        Bundle.load(published.path)
    repaired = publishing.publish(saved, "1", tmp_path)
    assert (repaired.path, repaired.version) == (published.path, published.version)
    assert repaired.inode != published.inode, "by which servers tell that other files lie there"
    assert publishing.read_current(tmp_path) == repaired
    assert publishing.publish(saved, "1", tmp_path) == repaired, "nothing is copied where nothing is damaged"
    Bundle.load(published.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".publishing", published.path.name, publishing.POINTER]


def test_a_copy_is_checked_before_it_is_published(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = publishing.publish(saved, "1", tmp_path)

    def damage(source: Path, target: Path) -> None:
        monkeypatch.undo()
        shutil.copytree(source, target)
        (target / "history" / "values.npy").write_bytes(b"")

    monkeypatch.setattr("shutil.copytree", damage)
    with pytest.raises(InputError, match="damaged"):
        publishing.publish(saved, "2", tmp_path)
    assert publishing.read_current(tmp_path) == first


def test_the_bundle_before_a_damaged_one_is_found(saved: Path, tmp_path: Path):
    first, second = (publishing.publish(saved, version, tmp_path) for version in ("1", "a-2"))
    assert publishing.find_whole(tmp_path, second) == first
    assert publishing.find_whole(tmp_path, first) == second
    (first.path / "items" / "ids.arrow").unlink()
    assert publishing.find_whole(tmp_path, second) is None


def test_a_whole_bundle_stays_beside_the_current_one(saved: Path, tmp_path: Path):
    first, second = (publishing.publish(saved, version, tmp_path) for version in ("1", "2"))
    (second.path / "items" / "ids.arrow").write_bytes(b"")
    third = publishing.publish(saved, "3", tmp_path)
    assert sorted(p.name for p in tmp_path.glob("[!.]*-*")) == sorted([first.path.name, third.path.name])
    assert publishing.find_whole(tmp_path, third) == first


def test_only_the_owner_may_read_what_holds_ids(saved: Path, tmp_path: Path):
    published = publishing.publish(saved, "1", tmp_path / "champion").path
    for path in (published.parent, *published.rglob("*"), published):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
