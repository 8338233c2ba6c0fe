import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.common.clock import DAY
from features.common.errors import InputError
from features.event_log.ingestion.ingest import ParsedBatch
from features.ranking import feature_matrix
from features.ranking.snapshot import Snapshot
from features.tables.build import build_from_events
from models import bundle as module
from models.bundle import Bundle, read_manifest
from models.customers.predictions import CustomerPredictions
from models.interface import Ranking, RankingRequest
from models.ranker import Ranker
from models.recommender import BundleRecommender, load
from tests.features.shop import same_arrays, snapshot_arrays

ROOT = Path(module.__file__).parent.parent


@pytest.fixture(scope="module")
def saved(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.save(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy of a bundle, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def answers(bundle: Bundle) -> list[Ranking]:
    customers = [*bundle.snapshot.customers.values.to_pylist()[:25], "nobody", None]
    items = bundle.snapshot.items.values.to_pylist()
    requests = [
        RankingRequest(15, c, ((items[n % 9], "view_item"), (items[n % 7], "add_to_cart")))
        for n, c in enumerate(customers)
    ]
    return BundleRecommender(bundle).recommend([*requests, RankingRequest(15, None)])


def test_a_loaded_bundle_equals_the_saved_one(bundle: Bundle, saved: Path):
    loaded = Bundle.load(saved)
    before, after = (snapshot_arrays(b.snapshot) for b in (bundle, loaded))
    assert all(same_arrays(after[name], before[name]) for name in after)
    arrays = loaded.generators.arrays()
    assert all(same_arrays(a, arrays[name]) for name, a in bundle.generators.arrays().items())
    assert (loaded.metrics, loaded.libraries) == (bundle.metrics, bundle.libraries)
    assert {n: r.budgets for n, r in loaded.recommenders.items()} == {
        n: r.budgets for n, r in bundle.recommenders.items()
    }
    assert loaded.snapshot.as_of == bundle.snapshot.as_of
    assert loaded.info() == bundle.info()


def test_a_loaded_bundle_ranks_the_same(bundle: Bundle, saved: Path):
    expected = answers(bundle)
    assert answers(Bundle.load(saved)) == expected
    assert BundleRecommender(bundle).recommend([RankingRequest(3)]) == load(saved).recommend([RankingRequest(3)])
    assert {a.strategy for a in expected} == {"one_to_one", "predictive"}


def test_arrays_are_memory_mapped(saved: Path):
    loaded = Bundle.load(saved)
    mapped = {**snapshot_arrays(loaded.snapshot), **loaded.generators.arrays()}
    for name in ("customer_features", "item_features", "indptr", "pairs", "values", "als.items", "item_knn.data"):
        array = mapped[name]
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable


def test_predictions_are_saved_with_the_bundle(bundle: Bundle, simulated: ParsedBatch, saved: Path, tmp_path: Path):
    """Loaded ones are memory-mapped; a refresh computes them from the newer snapshot alone."""
    loaded = Bundle.load(saved)
    for name, array in vars(bundle.predictions).items():
        mapped = getattr(loaded.predictions, name)
        assert same_arrays(mapped, array)
        assert isinstance(mapped.base, np.memmap)
    later = Snapshot.from_tables(
        build_from_events(simulated.events.lazy(), simulated.catalog, bundle.snapshot.as_of + 9 * DAY)
    )
    refreshed = loaded.refit_to(later)
    expected = CustomerPredictions.predict(bundle.propensity, later)
    for name, array in vars(expected).items():
        assert same_arrays(getattr(refreshed.predictions, name), array)
    again = Bundle.load(refreshed.save(tmp_path / "later"))
    customer = later.customers.values[3].as_py()
    profile = again.profile(customer)
    assert profile == refreshed.profile(customer) != bundle.profile(customer)
    assert json.loads(json.dumps(profile)) == profile
    assert again.refit_to(again.snapshot).profile(customer) == profile
    assert again.profile("nobody") is None


def test_a_propensity_model_of_other_columns_is_refused(copy: Path):
    file = copy / "predictions" / "propensity.json"
    file.write_text(file.read_text().replace('"recency_days"', '"shoe_size"'))
    manifest = json.loads((copy / "manifest.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rewritten(files=manifest["files"] | {"predictions/propensity.json": digest})(copy)
    with pytest.raises(InputError, match=r"other columns of the customers \(recency_days, shoe_size\); train it again"):
        Bundle.load(copy)


def test_a_bundle_holds_no_pickle(saved: Path):
    files = [f for f in saved.rglob("*") if f.is_file()]
    assert {f.suffix for f in files} == {".npy", ".arrow", ".txt", ".json"}
    for file in files:
        assert file.read_bytes()[:1] != b"\x80", f"{file} starts like a pickle"
        if file.suffix == ".npy":
            assert np.load(file, allow_pickle=False).dtype != object


def test_the_manifest_names_every_other_file(bundle: Bundle, saved: Path):
    manifest = read_manifest(saved)
    files = {f.relative_to(saved).as_posix() for f in saved.rglob("*") if f.is_file()}
    assert set(manifest.files) == files - {"manifest.json"}
    assert manifest.features == feature_matrix.schema_hash(bundle.generators.names)
    assert str(saved.parent) not in (saved / "manifest.json").read_text()


def rewritten(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(content | changes))

    return change


def replaced(name: str, damage: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).write_bytes(damage((path / name).read_bytes()))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewritten(format=2), "has format 2, this version reads format 4; train and package it again"),
        (rewritten(format=None), "has format None"),
        (rewritten(features="0" * 16), r"was trained on other features \(0{16}"),
        (rewritten(as_of="yesterday"), "the time is 'yesterday'"),
        (rewritten(budgets={"one_to_one": {"magic": 3}}), "made with candidate generators .* not have: magic"),
        (rewritten(budgets={"nobody": {"als": 3}}), "damaged: manifest.json: budgets.nobody"),
        (rewritten(more=1), "damaged: manifest.json: more"),
        (replaced("items/features.npy", lambda b: b[:-4]), "damaged: items/features.npy is not what was saved"),
        (replaced("items/ids.arrow", lambda b: b + b"\0"), "damaged: items/ids.arrow is not what was saved"),
        (lambda p: (p / "history/values.npy").unlink(), "damaged: history/values.npy is missing"),
        (lambda p: (p / "predictions/propensity_7d.txt").unlink(), "damaged: predictions/propensity_7d.txt is missing"),
        (replaced("predictions/propensity.json", lambda b: b"{}"), "predictions/propensity.json is not what was saved"),
        (replaced("manifest.json", lambda b: b[:-9]), "manifest.json is not a JSON object"),
        (replaced("manifest.json", lambda b: b"[]"), "manifest.json is not a JSON object"),
        (replaced("manifest.json", lambda b: b"\xff\xfe"), "manifest.json is not a JSON object"),
        (lambda p: (p / "manifest.json").unlink(), "is not a bundle: it has no manifest.json"),
        (shutil.rmtree, "is not a bundle: it has no manifest.json"),
        (replaced("rankers/predictive.txt", lambda b: b"x" * len(b)), "predictive.txt is not what was saved"),
        (replaced("rankers/predictive.txt", lambda b: b.replace(b"als_rank", b"sla_rank")), "is not what was saved"),
        (replaced("history/indptr.npy", lambda b: b[:-8] + bytes(8)), "history/indptr.npy is not what was saved"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_bundle_is_refused(copy: Path, damage: Callable[[Path], None], message: str):
    Bundle.load(copy)
    damage(copy)
    with pytest.raises(InputError, match=message):
        load(copy)


def test_a_directory_in_use_is_not_overwritten(bundle: Bundle, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        bundle.save(tmp_path / "photos")
    assert [f.name for f in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_refit_to_the_same_snapshot_ranks_the_same(bundle: Bundle, simulated: ParsedBatch, saved: Path):
    again = Snapshot.from_tables(build_from_events(simulated.events.lazy(), simulated.catalog, bundle.snapshot.as_of))
    expected = answers(bundle)
    assert answers(bundle.refit_to(again)) == expected
    assert answers(Bundle.load(saved).refit_to(again)) == expected


def test_refit_to_a_later_snapshot_ranks_new_customers(bundle: Bundle, simulated: ParsedBatch, tmp_path: Path):
    old = bundle.snapshot
    later = Snapshot.from_tables(build_from_events(simulated.events.lazy(), simulated.catalog, old.as_of + 9 * DAY))
    assert len(later.customers) > len(old.customers)
    refreshed = bundle.refit_to(later)
    rankings = answers(refreshed)
    assert rankings != answers(bundle)
    assert answers(Bundle.load(refreshed.save(tmp_path / "later"))) == rankings
    newcomer = next(
        c for c in later.customers.values.to_pylist() if later.has_history(later.customers.find([c]))[0]
        and old.customers.find([c])[0] < 0
    )  # fmt: skip
    requests = [RankingRequest(5, newcomer)]
    assert BundleRecommender(refreshed).recommend(requests)[0].strategy == "one_to_one"
    assert BundleRecommender(bundle).recommend(requests)[0].strategy == "predictive"


def test_importance_is_by_gain(bundle: Bundle):
    gains = bundle.recommenders["one_to_one"].ranker.importance()
    assert set(gains) == set(feature_matrix.names(bundle.generators.names))
    assert list(gains.values()) == sorted(gains.values(), reverse=True)
    assert next(iter(gains.values())) > 0


def test_a_ranker_is_restored_from_its_text(bundle: Bundle):
    ranker = bundle.recommenders["predictive"].ranker
    matrix = np.random.default_rng(1).random((50, len(ranker.features)), np.float32)
    matrix[::3, ::4] = np.nan
    again = Ranker.from_text(ranker.text())
    assert same_arrays(again.predict(matrix), ranker.predict(matrix))
    assert len(set(ranker.predict(matrix))) > 1
