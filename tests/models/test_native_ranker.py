"""The native ranker. Tests that need lleaves are skipped without it; the others are not."""

import logging
import os
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from features.common.errors import InputError
from features.ranking.feature_matrix import assemble
from models import native_ranker as module
from models.bundle import Bundle
from models.ranker import Ranker
from models.two_stage import propose
from tests.features.shop import same_arrays
from tests.models.fitted import BUDGETS, visitors_of

needs_lleaves = pytest.mark.skipif(not find_spec("lleaves"), reason="needs lleaves: pip install the-usual[fast]")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """USUAL_NATIVE=1 in a fresh USUAL_HOME: where machine code is cached."""
    monkeypatch.setenv("USUAL_HOME", str(tmp_path))
    monkeypatch.setenv("USUAL_NATIVE", "1")
    return tmp_path / "cache" / "native"


@pytest.fixture(scope="module")
def text(bundle: Bundle) -> str:
    return bundle.recommenders["one_to_one"].ranker.text()


def real(bundle: Bundle, known: int = 40) -> np.ndarray:
    s, generators = bundle.snapshot, bundle.generators
    visitors = visitors_of(s, known, 0)
    c = propose(generators, s, visitors, BUDGETS["one_to_one"])
    return assemble(s, visitors, c.query, c.item, c.ranks, c.scores, True)


def wild(rows: int, features: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    matrix = rng.lognormal(0, 3, (rows, features)).astype(np.float32) * rng.choice([-1, 1], (rows, features))
    extreme = rng.choice([np.nan, np.inf, -np.inf, 0.0], matrix.shape)
    return np.where(rng.random(matrix.shape) < 0.3, extreme, matrix).astype(np.float32)


@pytest.mark.parametrize("setting", [None, "", "0"])
def test_native_ranking_is_off_by_default(setting: str | None, text: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("USUAL_NATIVE") if setting is None else monkeypatch.setenv("USUAL_NATIVE", setting)
    monkeypatch.setattr(module, "_compile", lambda *_: pytest.fail("compiled though it is off"))
    assert Ranker.from_text(text).native is None
    assert not cache.exists()


def test_another_setting_is_refused(text: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("USUAL_NATIVE", "yes")
    with pytest.raises(InputError, match="USUAL_NATIVE is 'yes'; it must be 0 or 1"):
        Ranker.from_text(text)


def falls_back(text: str, bundle: Bundle, caplog: pytest.LogCaptureFixture, why: str) -> None:
    with caplog.at_level(logging.WARNING, "usual.models"):
        ranker = Ranker.from_text(text)
    assert ranker.native is None
    assert [why in record.getMessage() and "LightGBM ranks" in record.getMessage() for record in caplog.records] == [
        True
    ]
    matrix = real(bundle)
    assert same_arrays(ranker.predict(matrix), bundle.recommenders["one_to_one"].ranker.predict(matrix))


def test_without_lleaves_lightgbm_ranks(
    text: str, bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    falls_back(text, bundle, caplog, "lleaves is not installed")


def test_a_score_that_differs_in_its_last_bit_is_refused(
    text: str, bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    booster = Ranker.from_text(text).booster
    caplog.clear()

    def almost(matrix: np.ndarray) -> np.ndarray:
        scores = np.array(booster.predict(matrix))
        scores[-1] = np.nextafter(scores[-1], np.inf)
        return scores

    monkeypatch.setattr(module, "find_spec", lambda name: True)
    monkeypatch.setattr(module, "_compile", lambda *_: almost)
    falls_back(text, bundle, caplog, "does not score as LightGBM does")


def test_a_failing_compiler_does_not_keep_a_bundle_from_loading(
    text: str, bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(module, "find_spec", lambda name: True)
    monkeypatch.setattr(module, "_compile", broken)
    falls_back(text, bundle, caplog, "OSError: no space left")


def test_probes_reach_every_leaf(text: str, bundle: Bundle):
    booster = bundle.recommenders["one_to_one"].ranker.booster
    rows = module.probe_rows(text)
    reached = np.asarray(booster.predict(rows, pred_leaf=True)).astype(int)
    leaves = [tree["num_leaves"] for tree in booster.dump_model()["tree_info"]]
    assert len(leaves) > 3
    assert [len(np.unique(reached[:, n])) for n in range(len(leaves))] == leaves


def test_probes_stand_on_both_sides_of_thresholds_and_are_missing_too(text: str, bundle: Bundle):
    rows = module.probe_rows(text)
    nodes = [
        tree["tree_structure"] for tree in bundle.recommenders["one_to_one"].ranker.booster.dump_model()["tree_info"]
    ]
    splits = set()
    while nodes:
        node = nodes.pop()
        if "threshold" in node:
            splits.add((node["split_feature"], np.float32(node["threshold"])))
            nodes += [node["left_child"], node["right_child"]]
    assert len(splits) > 10
    for feature, at in splits:
        values = rows[:, feature]
        expected = [at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf)), 0, np.inf, -np.inf]
        assert np.isin(expected, values).all()
        assert np.isnan(values).any()


@needs_lleaves
@pytest.mark.parametrize("rows", [0, 1, 300, 5000])
def test_native_scores_equal_lightgbms_to_the_last_bit(rows: int, text: str, bundle: Bundle, cache: Path):
    ranker = Ranker.from_text(text)
    assert ranker.native is not None
    trained = bundle.recommenders["one_to_one"].ranker
    candidates = np.resize(real(bundle), (rows, real(bundle).shape[1]))
    for matrix in (candidates, wild(rows, candidates.shape[1]), np.asfortranarray(candidates)):
        expected = trained.predict(matrix) if rows else np.zeros(0)
        scores = ranker.predict(matrix)
        assert scores.dtype == np.float64
        assert scores.tobytes() == expected.tobytes()
    assert rows < 300 or len(np.unique(trained.predict(candidates))) > 10


@needs_lleaves
def test_a_bundle_ranks_by_it_and_holds_no_machine_code(
    bundle: Bundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = bundle.save(tmp_path / "bundle")
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    loaded = Bundle.load(path)
    matrix = real(bundle)
    for name, two_stage in loaded.recommenders.items():
        assert two_stage.ranker.native is not None
        assert two_stage.ranker.predict(matrix).tobytes() == bundle.recommenders[name].ranker.predict(matrix).tobytes()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files
    assert len(list(cache.iterdir())) == len(loaded.recommenders)


@needs_lleaves
def test_each_ranker_is_compiled_once(bundle: Bundle, text: str, cache: Path):
    Ranker.from_text(text)
    (cached,) = cache.iterdir()
    before = cached.stat()
    assert Ranker.from_text(text).native is not None
    assert [file.name for file in cache.iterdir()] == [cached.name]
    assert cached.stat().st_ino == before.st_ino
    Ranker.from_text(bundle.recommenders["predictive"].ranker.text())
    assert len(list(cache.iterdir())) == 2
    os.utime(cached, (time.time() - 31 * 86_400,) * 2)  # long not used
    Ranker.from_text(bundle.recommenders["predictive"].ranker.text())
    assert cached not in cache.iterdir()


@needs_lleaves
def test_damaged_machine_code_is_not_run(text: str, bundle: Bundle, cache: Path):
    Ranker.from_text(text)
    (cached,) = cache.iterdir()
    whole = cached.read_bytes()
    cached.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))  # loaded, it would bring the process down
    ranker = Ranker.from_text(text)
    assert ranker.native is not None
    assert ranker.predict(real(bundle)).tobytes() == (
        bundle.recommenders["one_to_one"].ranker.predict(real(bundle)).tobytes()
    )
    assert cached.read_bytes() == whole


@needs_lleaves
def test_another_processor_or_compiler_gets_machine_code_of_its_own(
    text: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    Ranker.from_text(text)
    machine = module._machine()
    monkeypatch.setattr(module, "_machine", lambda: [*machine[:-1], "another processor"])
    Ranker.from_text(text)
    assert len(list(cache.iterdir())) == 2
